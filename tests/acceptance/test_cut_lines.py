"""Lines that are cut, fall silent or crawl, and a server that is killed: whoever watches ends in exactly its state.

In the gate five examples; `python -m tests.acceptance.test_cut_lines` runs 50 and prints what happened in each.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec

from backend.clock import SystemClock
from backend.delivery.hub import INTERVAL_SECONDS
from progress_dashboard.protocol import ProgressUpdate
from tests.support.accounts import open_office
from tests.support.chaos_proxy import BAD, SLOW, ChaosProxy, bad_line
from tests.support.clips import make_clip, truncated
from tests.support.server_runs import Remains, Server
from tests.support.mirror_client import HISTORY, MirroredClient
from tests.support.senders import Order, Sender, planned

EXAMPLES = 50
IN_THE_GATE = 5
WATCHERS = (("admin", True), ("ana", False), ("ben", False))  # whose jobs, and whether on a slow line
ENDED, LEFT_OPEN = 6, 2  # jobs that run elsewhere
VIDEO_IDS = ("whole", "whole-too", "broken")
CATCH_UP_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.1
PAGE = 20
FIELDS = ProgressUpdate.__struct_fields__

Fields = dict[str, Any]
Https = dict[str, httpx.AsyncClient]


@dataclass
class Example:
    """What happened in one example, and who took part."""

    seed: int
    clients: Sequence[MirroredClient]
    lines: Sequence[ChaosProxy]
    orders: dict[str, list[Order]]
    work_id: str = ""
    acknowledged: int = 0
    repeated: int = 0
    remains: list[Remains] = field(default_factory=list)
    on_dashboard: int = 0
    reduced: int = 0
    seconds: float = 0.0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def all_orders(self) -> list[Order]:
        return [order for orders in self.orders.values() for order in orders]

    def acknowledge(self, reports: int) -> None:
        self.acknowledged += reports
        self._progress.set()

    async def until_acknowledged(self, share: float) -> None:
        """Return when so much of all that is to be reported was answered."""
        reports = sum(len(request) for order in self.all_orders for request in order.requests)
        while self.acknowledged < share * reports:
            self._progress.clear()
            await self._progress.wait()

    def __str__(self) -> str:
        heard = sum(len(client.heard_updates) for client in self.clients)
        handed_on = sum(len(told) for client in self.clients for told in client.handed_on.values())
        from_history = sum(client.from_history for client in self.clients)
        return (
            f"seed {self.seed:2}, {'direct' if self.seed % 2 == 0 else 'plain '}: {len(self.remains)} kills, "
            f"{sum(line.cut for line in self.lines):3} cuts, {sum(line.silenced for line in self.lines):2} silences, "
            f"{sum(client.connections for client in self.clients):3} connections, {self.acknowledged:3} reports "
            f"({self.repeated:3} requests repeated), {sum(client.frames for client in self.clients):5} frames, "
            f"{heard:5} updates heard ({self.reduced:2} errors reduced away), "
            f"{handed_on:5} handed on ({from_history:4} from history only), "
            f"{self.on_dashboard} jobs on the dashboard at the end, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Home:
    """A data directory with three accounts, a few clips, and everybody's token."""

    path: Path
    tokens: dict[str, str]

    @classmethod
    async def prepare(cls, path: Path) -> Home:
        clips = [make_clip(path / "media" / f"{video_id}.mp4", seconds=0.3) for video_id in VIDEO_IDS]
        truncated(clips[-1])
        (path / "data").mkdir()
        with open_office(path / "data", SystemClock()) as office:
            users = [await office.accounts.ensure_admin()]
            users += [await office.accounts.add_user(name, "correct horse") for name in ("ana", "ben")]
            tokens = {user.name: await office.accounts.issue_token(user, lifetime_seconds=86_400) for user in users}
        return cls(path, tokens)

    def copy(self, path: Path) -> Home:
        shutil.copytree(self.path, path)
        return Home(path, self.tokens)


async def play(home: Home, seed: int) -> Example:
    """One example: everything goes wrong for a while, then nothing does, and all have to agree."""
    chance = Random(seed)
    server = Server(
        home.path / "data",
        media_dir=home.path / "media",
        allowed_hosts="127.0.0.1",
        direct_sending=seed % 2 == 0,
        completed_job_ttl_seconds=0.5,
        failed_job_ttl_seconds=2,
        cleanup_interval_seconds=0.3,
    )
    began = time.perf_counter()
    async with AsyncExitStack() as open_:
        open_.push_async_callback(server.close)
        await server.start()
        https = {name: await open_.enter_async_context(_http(server, jwt)) for name, jwt in home.tokens.items()}
        lines = [
            await open_.enter_async_context(bad_line(server.port, habits, seed=f"{seed}")) for habits in (BAD, SLOW)
        ]
        example = Example(seed, _clients(home, lines, chance), lines, _orders(chance))
        await open_.enter_async_context(_following(example.clients))
        await _work_and_kill(example, server, https, chance)
        for line in lines:
            line.calm()
        await Judge(https).judge(example)
    example.seconds = time.perf_counter() - began
    return example


def _clients(home: Home, lines: Sequence[ChaosProxy], chance: Random) -> list[MirroredClient]:
    return [
        MirroredClient(
            name,
            port=lines[is_slow].port,
            jwt=home.tokens[name],
            in_batches=in_batches,
            is_slow=is_slow,
            chance=Random(chance.random()),
        )
        for in_batches in (True, False)
        for name, is_slow in WATCHERS
    ]


def _orders(chance: Random) -> dict[str, list[Order]]:
    orders = [planned(f"order-{number}", ends=number < ENDED, chance=chance) for number in range(ENDED + LEFT_OPEN)]
    chance.shuffle(orders)
    return {"ana": orders[::2], "ben": orders[1::2]}


@asynccontextmanager
async def _following(clients: Sequence[MirroredClient]) -> AsyncIterator[None]:
    """All clients follow while the block runs; what breaks one breaks the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield
        for task in tasks:
            task.cancel()


async def _work_and_kill(example: Example, server: Server, https: Https, chance: Random) -> None:
    senders = {name: Sender(https[name], example.acknowledge) for name in example.orders}
    async with asyncio.TaskGroup() as group:
        for name, sender in senders.items():
            group.create_task(sender.work_off(example.orders[name]))
        example.work_id = await senders["ana"].submit("work", VIDEO_IDS, processor="probe")
        for moment in sorted(chance.uniform(0.1, 0.9) for _ in range(2 if example.seed % 4 == 0 else 1)):
            await example.until_acknowledged(moment)
            await asyncio.sleep(chance.uniform(0, INTERVAL_SECONDS))  # anywhere within a tick
            example.remains.append(await server.kill())
            _check_remains(example, example.remains[-1])
            await server.start()
    example.repeated = sum(sender.repeated for sender in senders.values())


def _check_remains(example: Example, remains: Remains) -> None:
    for client in example.clients:
        assert max(client.heard, default=0) <= remains.newest, f"{client} had seen what was not stored"
        for job_id, seq in client.heard_updates:
            assert seq <= remains.jobs[job_id]["seq"], f"{client} had seen a state of {job_id} that was not stored"
    for order in example.all_orders:
        if order.acknowledged >= 0:
            stored = remains.jobs[order.job_id]
            assert stored["reported"] >= order.acknowledged, "an answered report was lost"
            assert stored["failed"] >= order.failed_by(order.acknowledged)


class Judge:
    """Compares what the clients have with what the server says."""

    def __init__(self, https: Https) -> None:
        self._https = https

    async def judge(self, example: Example) -> None:
        await self._until_ended(example.work_id, example.clients[0])
        for client in example.clients:
            await self._until_caught_up(client)
            example.on_dashboard = max(example.on_dashboard, len(client.mirror.jobs) if client.in_batches else 0)
        history = {job_id: await self._history(job_id) for job_id in await self._jobs("admin")}
        for client in example.clients:
            _check_order(client)
            _check_errors(client, history)
            _check_lives(client, example.remains)
            example.reduced += _reduced(client, history)
        jobs = await self._jobs("admin")
        for order in example.all_orders:
            _check_order_done(order, jobs[order.job_id], history[order.job_id])

    async def _until_ended(self, job_id: str, watcher: MirroredClient) -> None:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while (await self._jobs("admin"))[job_id]["status"] in ("pending", "processing"):
                await watcher.changed(LOOK_AGAIN_SECONDS)

    async def _until_caught_up(self, client: MirroredClient) -> None:
        difference = "nothing was compared"
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while difference := await self._difference(client):
                    await client.changed(LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{client} never caught up: {difference}") from None

    async def _difference(self, client: MirroredClient) -> str:
        """In which jobs the two differ, in words.

        The default format tells no removals, so there it is each job that is shown, or that the client ever heard of.
        """
        theirs = await self._jobs(client.name, dashboard=True)
        if client.mirror.missed:
            return f"waits for history of {sorted(client.mirror.missed)}"
        if client.in_batches:
            ours = {job_id: _fields(update) for job_id, update in client.mirror.jobs.items()}
        else:
            ours = {job_id: _fields(told[-1]) for job_id, told in client.handed_on.items()}
            every = await self._jobs(client.name)
            theirs = {job_id: every[job_id] for job_id in ours.keys() | theirs.keys()}
        different = [job_id for job_id in ours.keys() | theirs.keys() if ours.get(job_id) != theirs.get(job_id)]
        return "; ".join(f"here {ours.get(job_id)}, there {theirs.get(job_id)}" for job_id in different)

    async def _jobs(self, name: str, **query: bool) -> dict[str, Fields]:
        answer = await self._https[name].get("/api/jobs", params={"limit": 1000, **query})
        items = answer.raise_for_status().json()["items"]
        return {job["job_id"]: {name: job[name] for name in FIELDS if name in job} for job in items}

    async def _history(self, job_id: str) -> list[ProgressUpdate]:
        updates: list[ProgressUpdate] = []
        while True:
            query = {"limit": PAGE, "after": updates[-1].seq if updates else 0}
            answer = await self._https["admin"].get(f"/api/jobs/{job_id}/progress-history", params=query)
            page = HISTORY.decode(answer.raise_for_status().content)
            updates += page
            if len(page) < PAGE:
                return updates


def _http(server: Server, jwt: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {jwt}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=CATCH_UP_SECONDS, trust_env=False)


def _check_order(client: MirroredClient) -> None:
    """Each update was handed on once, in the order of its job, and no state was shown after a newer one."""
    assert client.stepped_back == []
    for told in client.handed_on.values():
        positions = [update.seq for update in told]
        assert positions == sorted(set(positions)), f"{client} was told out of order"


def _check_errors(client: MirroredClient, history: dict[str, list[ProgressUpdate]]) -> None:
    """Of each job it ever heard of it has every error, exactly as history has it."""
    for job_id, told in client.handed_on.items():
        ours = {update.seq: update for update in told}
        theirs = {update.seq: update for update in history[job_id]}
        missing = [error.error for error in _errors(history[job_id]) if error.seq not in ours]
        assert missing == [], f"{client} never got these"
        for seq in ours.keys() & theirs.keys():
            assert ours[seq] == theirs[seq]


def _check_lives(client: MirroredClient, lives: Sequence[Remains]) -> None:
    """Also what was still on the line when the server was killed is not newer than its database."""
    for remains in lives:
        assert not [seq for seq in client.heard if remains.newest < seq <= remains.killed_at]


def _reduced(client: MirroredClient, history: dict[str, list[ProgressUpdate]]) -> int:
    """How many errors were not sent on a connection that stayed, because it was read too slowly."""
    errors = {job_id: [error.seq for error in _errors(told)] for job_id, told in history.items()}
    return sum(before < seq < after for job_id, before, after in client.steps for seq in errors[job_id])


def _check_order_done(order: Order, job: Fields, history: Sequence[ProgressUpdate]) -> None:
    assert order.acknowledged == order.newest
    assert (job["status"], job["failed"]) == (order.end, len(order.failures))
    assert {error.video_id: error.error for error in _errors(history)} == {
        video_id: error.strip() for video_id, (_, error) in order.failures.items()
    }


def _errors(history: Sequence[ProgressUpdate]) -> Iterator[ProgressUpdate]:
    """Those that tell of one more failed video."""
    failed = 0
    for update in history:
        if update.failed > failed:
            yield update
        failed = update.failed


def _fields(update: ProgressUpdate) -> Fields:
    fields: Fields = msgspec.to_builtins(update)
    return fields


async def test_whoever_watches_over_a_bad_line_ends_in_exactly_the_servers_state(tmp_path: Path) -> None:
    home, cuts = await Home.prepare(tmp_path / "template"), 0
    for seed in range(1, IN_THE_GATE + 1):
        example = await play(home.copy(tmp_path / f"seed-{seed}"), seed)
        assert example.remains, seed
        cuts += sum(line.cut for line in example.lines)
    assert cuts > 0


async def _play_many(examples: int) -> int:
    """How many of them failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        home = await Home.prepare(Path(directory, "template"))
        for seed in range(1, examples + 1):
            try:
                print(await play(home.copy(Path(directory, str(seed))), seed), flush=True)
            except* AssertionError as broken:
                failed += 1
                print(f"seed {seed:2} FAILED: {_first(broken)}", flush=True)
            shutil.rmtree(Path(directory, str(seed)))
    return failed


def _first(broken: BaseExceptionGroup[Any]) -> BaseException:
    first = broken.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def main(examples: int = EXAMPLES) -> None:
    """Run many examples and print what happened in each; exits with 1 if one failed."""
    if failed := asyncio.run(_play_many(examples)):
        sys.exit(f"{failed} of {examples} examples failed")
    print(f"{examples} examples: all clients ended in the server's state, and nothing was seen that was not stored")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)
