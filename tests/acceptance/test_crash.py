"""kill -9 at random moments over 50 concurrent jobs that are watched: each ends, and nothing that was seen is lost.

Meanwhile their owners cancel, pause, resume and retry some of them; what they were told still holds after the restart.

A round is a kill; ten rounds share a data directory, and what one of them left unfinished goes on in the next. In the
gate 10 rounds; `python -m tests.acceptance.test_crash` runs 100 and prints what happened.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from backend.clock import SystemClock
from backend.delivery.hub import INTERVAL_SECONDS
from tests.support.accounts import open_office
from tests.support.clips import make_clip, truncated
from tests.support.server_runs import Remains, Server
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.mirror_client import MirroredClient

ROUNDS = 100
IN_THE_GATE = 1  # the seed
KILLS = 10  # over one data directory; in the gate once
SHORT_LIVES = (2, 4, 6, 8)  # of them, those that end while the server starts, or just after
JOBS = 50  # unfinished ones at the beginning of each round
VIDEO_IDS = ("one", "two", "three", "broken")  # of which a job has the last one to four
WATCHERS = (("admin", True), ("ana", False), ("ben", False), ("ben", True))  # whose jobs, and whether in batches
OWNERS = ("ana", "ben")
MOST_UPDATES = 200  # that a client hears in a life, which depends on no machine's speed
LONGEST_LIFE_SECONDS = 4.0
START_SECONDS = (0.5, 2.5)  # within which it is ready, or just not yet
END_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.05
WISHES = 8  # in a life, at random moments
ACTIONS = {"paused": ("resume", "cancel"), "pending": ("cancel", "pause"), "processing": ("cancel", "pause", "resume")}
UNFINISHED = ("pending", "processing", "paused")

Place = tuple[str, int]  # a video, by its job and position


@dataclass
class Order:
    """A job that somebody wants, whether or not the server's answer came: the key makes asking again harmless."""

    owner: str
    key: str
    video_ids: tuple[str, ...]
    job_id: str | None = None

    @property
    def end(self) -> str:
        return "failed" if len(self.video_ids) == 1 else "completed_with_errors"


@dataclass
class Wish:
    """What an owner asked of a job, at most once a life, and the job as it was answered; None: refused, or no word."""

    action: str
    order: Order
    answer: dict[str, Any] | None = None

    @property
    def job_id(self) -> str:
        return self.order.job_id or ""

    def holds(self, job: Mapping[str, Any]) -> bool:
        """Whether the job is still as it was answered, or further on."""
        ended = job["status"] not in UNFINISHED
        match self.action:
            case "cancel":
                return ended or job["requested"] == "cancel"
            case "pause":
                return ended or job["status"] == "paused" or job["requested"] == "pause"
            case "resume":
                return "paus" not in f"{job['status']} {job['requested']}"
        return self.answer is None or bool(job["attempt"] >= self.answer["attempt"])


@dataclass(frozen=True)
class Life:
    """What one life of the server left: its jobs, videos and current results, and how many starts were noted."""

    remains: Remains
    videos: dict[Place, str]
    results: list[Place]
    noted: int
    seconds: float

    @property
    def done(self) -> set[Place]:
        return {place for place, status in self.videos.items() if status in ("completed", "failed")}


@dataclass
class Series:
    """Some rounds over one data directory, and everything that was seen of them."""

    seed: int
    clients: Sequence[MirroredClient]
    log: StartLog
    orders: list[Order] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unanswered(self) -> list[Order]:
        return [order for order in self.orders if order.job_id is None]

    @property
    def unfinished(self) -> int:
        """How many jobs had not ended when the server was last killed."""
        jobs = self.lives[-1].remains.jobs.values() if self.lives else ()
        return len(self.unanswered) + sum(job["status"] in UNFINISHED for job in jobs)

    def last_seen(self, order: Order) -> str:
        """The status in which the last life left the job."""
        job = self.lives[-1].remains.jobs.get(order.job_id or "")
        return str(job["status"]) if job else "pending"

    def asked(self, *actions: str) -> set[str]:
        """The jobs of which this was ever asked, whether or not it was granted."""
        return {wish.job_id for wish in self.wishes if wish.action in actions}

    def take_in(self, life: Life, wishes: Sequence[Wish] = ()) -> None:
        """Look at what a life left, at what was seen of it, and at what was asked for in it."""
        self.wishes += wishes
        _check_life(self, life)
        _check_starts(self, life, retried={wish.job_id for wish in wishes if wish.action == "retry"})
        for wish in wishes:
            if wish.answer is not None:
                stored = life.remains.jobs[wish.job_id]
                assert stored["seq"] >= wish.answer["seq"], f"{wish}: its answer was not stored"
                assert wish.holds(stored), f"{wish}: forgotten, the job is {stored}"
        self.lives.append(life)

    def __str__(self) -> str:
        heard = sum(len(client.heard_updates) for client in self.clients)
        answered = Counter(wish.action for wish in self.wishes if wish.answer is not None)
        granted = ", ".join(f"{action} {number}" for action, number in sorted(answered.items()))
        kills = ", ".join(f"{life.seconds:.2f} s ({len(life.done)} videos done)" for life in self.lives[:-1])
        videos = sum(len(order.video_ids) for order in self.orders)
        return (
            f"seed {self.seed:2}: killed after {kills}; {len(self.orders)} jobs, {len(self.log.starts())} starts of "
            f"{videos} videos, {heard:,} updates heard, {granted}, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Home:
    """A data directory with three accounts, a few clips, a plug-in, and everybody's token."""

    path: Path
    tokens: dict[str, str]

    @classmethod
    async def prepare(cls, path: Path) -> Home:
        clips = [make_clip(path / "media" / f"{video_id}.mp4", seconds=0.2) for video_id in VIDEO_IDS]
        truncated(clips[-1])
        install_plug_in(path / "plug-ins")
        (path / "data").mkdir()
        with open_office(path / "data", SystemClock()) as office:
            users = [await office.accounts.ensure_admin()]
            users += [await office.accounts.add_user(name, "correct horse") for name in OWNERS]
            tokens = {user.name: await office.accounts.issue_token(user, lifetime_seconds=86_400) for user in users}
        return cls(path, tokens)

    def copy(self, path: Path) -> Home:
        shutil.copytree(self.path, path)
        return Home(path, self.tokens)


class Customers:
    """Those who order jobs and ask until they have an answer."""

    def __init__(self, server: Server, tokens: dict[str, str], log: StartLog) -> None:
        self._options = {"log": str(log.path)}
        self._https = {name: _http(server, jwt) for name, jwt in tokens.items()}

    async def close(self) -> None:
        await asyncio.gather(*(http.aclose() for http in self._https.values()))

    async def order(self, orders: Sequence[Order]) -> None:
        """All of them at the same time, as far as the server lives."""
        await asyncio.gather(*(self._order(order) for order in orders))

    async def wish(self, action: str, order: Order) -> Wish:
        """Ask it of the job; a kill may come before the answer, and some things cannot be."""
        wish = Wish(action, order)
        try:
            answer = await self._https[order.owner].post(f"/api/jobs/{wish.job_id}/{action}")
        except httpx.TransportError:
            return wish
        assert answer.status_code in (200, 409), answer.text
        wish.answer = answer.json() if answer.status_code == 200 else None
        return wish

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """Every job as the server has it now."""
        answer = await self._https["admin"].get("/api/jobs", params={"limit": 1000})
        return {job["job_id"]: job for job in answer.raise_for_status().json()["items"]}

    async def _order(self, order: Order) -> None:
        wanted = {"video_ids": order.video_ids, "processor": "logged", "options": self._options}
        try:
            answer = await self._https[order.owner].post(
                "/api/jobs", json=wanted, headers={"Idempotency-Key": order.key}
            )
        except httpx.TransportError:
            return  # killed meanwhile: the next life is asked again
        assert answer.status_code == 201, answer.text
        order.job_id = answer.json()["job_id"]


async def play(home: Home, seed: int, kills: int) -> Series:
    """So many rounds in a row over this home, and the end of everything that is left."""
    began, chance, log = time.perf_counter(), Random(seed), StartLog(home.path / "starts.log")
    server = Server(
        home.path / "data",
        python_path=home.path / "plug-ins",
        media_dir=home.path / "media",
        max_running_jobs=2 * JOBS,
        max_running_jobs_per_user=2 * JOBS,
        max_running_videos=8,
    )
    async with AsyncExitStack() as open_:
        open_.push_async_callback(server.close)
        customers = Customers(server, home.tokens, log)
        open_.push_async_callback(customers.close)
        series = Series(seed, _clients(server, home, chance), log)
        await open_.enter_async_context(_following(series.clients))
        for number in range(kills):
            live = _live_shortly if number in SHORT_LIVES else _live
            await live(series, server, customers, chance)
        await server.start()
        await customers.order(series.unanswered)
        await _until_ended(series, customers)
        await _until_caught_up(series, await customers.jobs())
        series.take_in(await _killed(series, server, 0.0))
    _check_end(series)
    series.seconds = time.perf_counter() - began
    return series


async def _live(series: Series, server: Server, customers: Customers, chance: Random) -> None:
    """New jobs until 50 are unfinished, some wishes, and a kill at a random moment."""
    await server.start()
    began = time.perf_counter()
    series.orders += [_new_order(number, chance) for number in range(JOBS - series.unfinished)]
    ordering = asyncio.create_task(customers.order(series.unanswered))
    heard, updates = len(series.clients[0].heard_updates), chance.randint(1, MOST_UPDATES)
    wishing = [asyncio.create_task(wish) for wish in _wishes(series, customers, chance, heard, updates)]
    await _until_heard(series.clients[0], heard + updates)
    await asyncio.sleep(chance.uniform(0, INTERVAL_SECONDS))  # anywhere within a tick
    life = await _killed(series, server, time.perf_counter() - began)
    await ordering
    series.take_in(life, await asyncio.gather(*wishing))


def _new_order(number: int, chance: Random) -> Order:
    return Order(OWNERS[number % 2], f"{chance.random()}", VIDEO_IDS[-1 - number % len(VIDEO_IDS) :])


def _wishes(
    series: Series, customers: Customers, chance: Random, heard: int, updates: int
) -> Iterator[Coroutine[Any, Any, Wish]]:
    """What is asked of some jobs, each in a state that allows it when the life begins."""
    known = [order for order in series.orders if order.job_id is not None]
    for order in chance.sample(known, min(WISHES, len(known))):
        action = chance.choice(ACTIONS.get(series.last_seen(order), ("retry",)))
        yield _wish_later(series, customers, action, order, heard + chance.randint(0, updates))


async def _wish_later(series: Series, customers: Customers, action: str, order: Order, heard: int) -> Wish:
    await _until_heard(series.clients[0], heard)
    return await customers.wish(action, order)


async def _until_heard(client: MirroredClient, updates: int) -> None:
    """Return when the client has heard so many, or after the longest life."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_LIFE_SECONDS):
            while len(client.heard_updates) < updates:
                await client.changed(LOOK_AGAIN_SECONDS)


async def _live_shortly(series: Series, server: Server, customers: Customers, chance: Random) -> None:
    """A kill while it starts, or just after."""
    seconds = chance.uniform(*START_SECONDS)
    remains = await server.start_and_kill(seconds)
    series.take_in(Life(remains, *_looked_into(server.data_dir), len(series.log.starts()), seconds))


async def _killed(series: Series, server: Server, seconds: float) -> Life:
    remains = await server.kill()
    return Life(remains, *_looked_into(server.data_dir), len(series.log.starts()), seconds)


def _looked_into(data_dir: Path) -> tuple[dict[Place, str], list[Place]]:
    """Of a dead server's database, which is whole: the status of each video, and the place of each current result."""
    with closing(sqlite3.connect(f"file:{data_dir / 'dashboard.sqlite3'}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        videos = database.execute("SELECT job_id, position, status FROM video").fetchall()
        results = database.execute(
            "SELECT job_id, position FROM result JOIN video USING (job_id, position)"
            " WHERE attempt = attempts AND status IN ('completed', 'failed')"
        )
        return {(job_id, position): status for job_id, position, status in videos}, results.fetchall()


def _check_life(series: Series, life: Life) -> None:
    for client in series.clients:
        assert max(client.heard, default=0) <= life.remains.newest, f"{client} had seen what was not stored"
        for job_id, seq in client.heard_updates:
            assert seq <= life.remains.jobs[job_id]["seq"], f"{client} had seen a state of {job_id} that was not stored"
    finished = Counter(job_id for job_id, _ in life.done)
    counts = {job_id: job["current_video"] for job_id, job in life.remains.jobs.items()}
    assert {job_id: finished[job_id] for job_id in counts} == counts, "the counts are not those of the results"
    assert sorted(life.results) == sorted(life.done), "not exactly one current result for each finished video"


def _check_starts(series: Series, life: Life, *, retried: set[str]) -> None:
    """Unless it is to be retried, no video was started whose result was stored before, and none twice in one life."""
    notes = series.log.starts()
    if series.lives:
        started = {note.video for note in notes[series.lives[-1].noted : life.noted] if note.job_id not in retried}
        assert not started & series.lives[-1].done, "started again after its result was stored"
    once = [(note.starter, note.video) for note in notes if note.job_id not in series.asked("retry")]
    assert len(once) == len(set(once)), "started twice in one life"


def _check_end(series: Series) -> None:
    end, cancelled = series.lives[-1], series.asked("cancel")
    for order in series.orders:
        job = end.remains.jobs[order.job_id or ""]
        facts = (job["status"], job["current_video"], job["failed"], job["progress"])
        if job["status"] != "cancelled" or order.job_id not in cancelled:
            assert facts == (order.end, len(order.video_ids), 1, 100), job
    for wish in {wish.job_id: wish for wish in series.wishes}.values():  # the last one of each job
        if (
            wish.action == "cancel"
            and wish.answer
            and "cancel" in (wish.answer["requested"], wish.answer["status"][:6])
        ):
            assert end.remains.jobs[wish.job_id]["status"] == "cancelled", f"{wish}: done all the same"
    assert len(end.remains.jobs) == len(series.orders), "a job was made twice"
    for client in series.clients:
        assert client.stepped_back == [], f"{client} was shown an older state after a newer one"
        for told in client.handed_on.values():
            counts = [(update.attempt, update.current_video, update.failed) for update in told]
            assert counts == sorted(counts), f"{client} saw finished videos vanish"


def _clients(server: Server, home: Home, chance: Random) -> list[MirroredClient]:
    return [
        MirroredClient(
            name,
            port=server.port,
            jwt=home.tokens[name],
            in_batches=in_batches,
            is_slow=False,
            chance=Random(chance.random()),
        )
        for name, in_batches in WATCHERS
    ]


@asynccontextmanager
async def _following(clients: Sequence[MirroredClient]) -> AsyncIterator[None]:
    """All clients follow while the block runs; what breaks one breaks the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield
        for task in tasks:
            task.cancel()


async def _until_ended(series: Series, customers: Customers) -> None:
    """All that runs ends; what is paused stays so until it is resumed, and then ends too."""
    watcher, orders = series.clients[0], {order.job_id: order for order in series.orders}
    async with asyncio.timeout(END_SECONDS):
        while any(job["status"] in ("pending", "processing") for job in (await customers.jobs()).values()):
            await watcher.changed(LOOK_AGAIN_SECONDS)
        paused = [job_id for job_id, job in (await customers.jobs()).items() if job["status"] == "paused"]
        await asyncio.gather(*(customers.wish("resume", orders[job_id]) for job_id in paused))
        while any(job["status"] in UNFINISHED for job in (await customers.jobs()).values()):
            await watcher.changed(LOOK_AGAIN_SECONDS)


async def _until_caught_up(series: Series, jobs: dict[str, dict[str, Any]]) -> None:
    """Return when each client has the newest state of every job that is theirs to see."""
    try:
        async with asyncio.timeout(END_SECONDS):
            for client in series.clients:
                while _behind(client, jobs):
                    await client.changed(LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{client} never heard of {_behind(client, jobs)}") from None


def _behind(client: MirroredClient, jobs: dict[str, dict[str, Any]]) -> list[str]:
    theirs = {job_id: job["seq"] for job_id, job in jobs.items() if client.name in ("admin", job["owner"])}
    newest = {job_id: told[-1].seq for job_id, told in client.handed_on.items()}
    return [job_id for job_id, seq in theirs.items() if newest.get(job_id) != seq]


def _http(server: Server, jwt: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {jwt}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=END_SECONDS, trust_env=False)


async def test_killed_at_any_moment_every_job_ends_and_nothing_that_was_seen_is_lost_or_done_again(
    tmp_path: Path,
) -> None:
    series = await play(await Home.prepare(tmp_path / "home"), IN_THE_GATE, KILLS)
    assert any(life.done for life in series.lives[:-1]), "it was never killed amid the work"
    assert any(wish.answer for wish in series.wishes), "nobody was granted a wish"


async def _play_many(rounds: int) -> int:
    """How many series of rounds failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        home = await Home.prepare(Path(directory, "template"))
        for seed in range(1, -(-rounds // KILLS) + 1):
            try:
                print(await play(home.copy(Path(directory, str(seed))), seed, KILLS), flush=True)
            except* AssertionError as broken:
                failed += 1
                print(f"seed {seed:2} FAILED: {broken.exceptions}", flush=True)
            shutil.rmtree(Path(directory, str(seed)))
    return failed


def main(rounds: int = ROUNDS) -> None:
    """Run many rounds and print what happened; exits with 1 if one failed."""
    if failed := asyncio.run(_play_many(rounds)):
        sys.exit(f"{failed} series of {KILLS} rounds failed")
    print(f"{rounds} rounds: every job ended, nothing that was seen was lost or done again")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
