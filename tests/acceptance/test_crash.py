"""kill -9 at random moments over 50 concurrent watched jobs: each job finishes, and nothing that was sent is lost.

After each kill, the end of each attempt is stored with the one event that tells its owner.
Meanwhile their owners cancel, pause, resume and retry some of them; each answer still holds after the restart.

A round is one kill. Ten rounds share a data directory, and each continues the unfinished jobs of the one before. In the
gate 10 rounds; `python -m tests.acceptance.test_crash [rounds] [--database postgresql]` runs 100 and prints what
happened.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from backend.delivery.journal import INTERVAL_SECONDS
from progress_dashboard.protocol import UNFINISHED
from tests.support.databases import assert_intact, chosen, rows
from tests.support.homes import Home
from tests.support.logging_processor import StartLog
from tests.support.mirror_client import MirrorClient
from tests.support.server_runs import Remains, Server
from tests.support.stored_jobs import assert_never_back, assert_told_once
from tests.support.watched_jobs import (
    END_SECONDS,
    JOBS,
    MAX_UPDATES,
    POLL_SECONDS,
    Api,
    Order,
    Request,
    clients_of,
    following,
    new_order,
    prepare_home,
    server_of,
    until_caught_up,
    until_received,
)

ROUNDS = 100
SEED_IN_THE_GATE = 1
KILLS = 10  # over one data directory; in the gate once
SHORT_RUNS = (2, 4, 6, 8)  # rounds in which the server is killed while it starts, or just after
START_SECONDS = (0.5, 2.5)  # a range: after some of these times the server is ready, after others not yet
REQUESTS = 8  # in a run, at random moments
ACTIONS = {"paused": ("resume", "cancel"), "pending": ("cancel", "pause"), "processing": ("cancel", "pause", "resume")}

Place = tuple[str, int]  # a video, by its job and position


@dataclass(frozen=True)
class Run:
    """The result of one run of the server, up to its kill."""

    remains: Remains
    # Status of each video.
    videos: dict[Place, str]
    # Videos with a result of their current attempt.
    results: list[Place]
    # Number of starts in the log.
    starts: int
    # Time until the kill.
    seconds: float

    @property
    def finished(self) -> set[Place]:
        """The videos that were completed or failed."""
        return {place for place, status in self.videos.items() if status in ("completed", "failed")}


@dataclass
class Series:
    """The rounds over one data directory, and everything that was observed of them."""

    seed: int
    clients: Sequence[MirrorClient]
    log: StartLog
    orders: list[Order] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    # Jobs that were being cancelled, or were cancelled, at a kill; a cancel may also come too late.
    cancelling: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def unanswered(self) -> list[Order]:
        """The orders without a job ID yet."""
        return [order for order in self.orders if order.job_id is None]

    @property
    def unfinished(self) -> int:
        """The number of unfinished jobs at the last kill."""
        jobs = self.runs[-1].remains.jobs.values() if self.runs else ()
        return len(self.unanswered) + sum(job["status"] in UNFINISHED for job in jobs)

    def last_status(self, order: Order) -> str:
        """Return the status of the job at the last kill."""
        job = self.runs[-1].remains.jobs.get(order.job_id or "")
        return str(job["status"]) if job else "pending"

    def jobs_with_request(self, *actions: str) -> set[str]:
        """Return the jobs for which one of these actions was ever requested, also if it was refused."""
        return {request.job_id for request in self.requests if request.action in actions}

    def add(self, run: Run, requests: Sequence[Request] = ()) -> None:
        """Add a run and its requests, and check it against everything that was sent and answered."""
        self.requests += requests
        _check_run(self, run)
        _check_starts(self, run, retried={request.job_id for request in requests if request.action == "retry"})
        for request in requests:
            if request.answer is not None:
                stored = run.remains.jobs[request.job_id]
                assert stored["seq"] >= request.answer["seq"], f"{request}: its answer was not stored"
                assert request.holds(stored), f"{request}: lost, the job is {stored}"
                if request.action == "cancel" and "cancel" in f"{stored['requested']} {stored['status']}":
                    self.cancelling.add(request.job_id)
        self.runs.append(run)

    def __str__(self) -> str:
        received = sum(len(client.received_updates) for client in self.clients)
        accepted = Counter(request.action for request in self.requests if request.answer is not None)
        actions = ", ".join(f"{action} {number}" for action, number in sorted(accepted.items()))
        kills = ", ".join(f"{run.seconds:.2f} s ({len(run.finished)} videos finished)" for run in self.runs[:-1])
        videos = sum(len(order.video_ids) for order in self.orders)
        return (
            f"seed {self.seed:2}: killed after {kills}; {len(self.orders)} jobs, {len(self.log.starts())} starts of "
            f"{videos} videos, {received:,} updates received, {actions}, {self.seconds:.1f} s"
        )


async def play(home: Home, seed: int, kills: int) -> Series:
    """Play this number of rounds over this home, then let all jobs finish and check them."""
    began, rng, log = time.perf_counter(), Random(seed), StartLog(home.path / "starts.log")
    server = server_of(home)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        api = Api(server.url, home.tokens, log)
        stack.push_async_callback(api.close)
        series = Series(seed, clients_of(server.port, home, rng), log)
        await stack.enter_async_context(following(series.clients))
        for number in range(kills):
            run = _short_run if number in SHORT_RUNS else _run
            await run(series, server, api, rng)
        await server.start()
        await api.submit_all(series.unanswered)
        await _until_all_finished(series, api)
        await until_caught_up(series.clients, await api.jobs())
        series.add(await _kill(series, server, 0.0))
    _check_end(series)
    series.seconds = time.perf_counter() - began
    return series


async def _run(series: Series, server: Server, api: Api, rng: Random) -> None:
    """Start the server, submit jobs until 50 are unfinished, request some actions, and kill it at a random moment."""
    await server.start()
    began = time.perf_counter()
    series.orders += [new_order(number, rng) for number in range(JOBS - series.unfinished)]
    submitting = asyncio.create_task(api.submit_all(series.unanswered))
    received, updates = len(series.clients[0].received_updates), rng.randint(1, MAX_UPDATES)
    requesting = [asyncio.create_task(request) for request in _requests(series, api, rng, received, updates)]
    await until_received(series.clients[0], received + updates)
    if len(series.runs) == KILLS - 1:  # on a slow machine, all kills before may have come too early for these
        await _until_a_video_has_finished(series.clients[0])
        if not requesting:  # before, no order was known to be accepted
            requesting = [asyncio.create_task(request) for request in _requests(series, api, rng, received, updates)]
        await asyncio.gather(*requesting)
    await asyncio.sleep(rng.uniform(0, INTERVAL_SECONDS))  # anywhere within a tick
    run = await _kill(series, server, time.perf_counter() - began)
    await submitting
    series.add(run, await asyncio.gather(*requesting))


def _requests(
    series: Series, api: Api, rng: Random, received: int, updates: int
) -> Iterator[Coroutine[Any, Any, Request]]:
    """Yield requests for some jobs, each allowed in the state of its job when the run begins."""
    known = [order for order in series.orders if order.job_id is not None]
    for order in rng.sample(known, min(REQUESTS, len(known))):
        action = rng.choice(ACTIONS.get(series.last_status(order), ("retry",)))
        yield _request_later(series, api, action, order, received + rng.randint(0, updates))


async def _request_later(series: Series, api: Api, action: str, order: Order, updates: int) -> Request:
    await until_received(series.clients[0], updates)
    return await api.request(action, order)


async def _short_run(series: Series, server: Server, api: Api, rng: Random) -> None:
    """Kill the server while it starts, or just after."""
    seconds = rng.uniform(*START_SECONDS)
    remains = await server.start_and_kill(seconds)
    series.add(Run(remains, *_read_videos(server.data_dir), len(series.log.starts()), seconds))


async def _kill(series: Series, server: Server, seconds: float) -> Run:
    remains = await server.kill()
    return Run(remains, *_read_videos(server.data_dir), len(series.log.starts()), seconds)


def _read_videos(data_dir: Path) -> tuple[dict[Place, str], list[Place]]:
    """Return the status of each video and the videos with a current result, after a check that the database is intact.

    The server must not run.
    """
    assert_intact(data_dir)
    assert_told_once(data_dir)
    videos = rows(data_dir, "SELECT job_id, position, status FROM video")
    results = rows(
        data_dir,
        "SELECT job_id, position FROM result JOIN video USING (job_id, position)"
        " WHERE attempt = attempts AND status IN ('completed', 'failed')",
    )
    statuses = {(row.job_id, row.position): row.status for row in videos}
    return statuses, [(row.job_id, row.position) for row in results]


def _check_run(series: Series, run: Run) -> None:
    """Check that everything that was received is stored, and that the counts of the jobs are those of their videos."""
    for client in series.clients:
        assert max(client.received_seqs, default=0) <= run.remains.newest, f"{client} received what was not stored"
        for job_id, seq in client.received_updates:
            assert seq <= run.remains.jobs[job_id]["seq"], f"{client} received a state of {job_id} that was not stored"
    finished = Counter(job_id for job_id, _ in run.finished)
    counts = {job_id: job["current_video"] for job_id, job in run.remains.jobs.items()}
    assert {job_id: finished[job_id] for job_id in counts} == counts, "the counts differ from the finished videos"
    assert sorted(run.results) == sorted(run.finished), "not exactly one current result for each finished video"


def _check_starts(series: Series, run: Run, *, retried: set[str]) -> None:
    """Check that no video was started again after its result was stored, and none twice in one run.

    The jobs that were retried are exempt.
    """
    starts = series.log.starts()
    if series.runs:
        new = {start.video for start in starts[series.runs[-1].starts : run.starts] if start.job_id not in retried}
        assert not new & series.runs[-1].finished, "started again after its result was stored"
    once = [(start.starter, start.video) for start in starts if start.job_id not in series.jobs_with_request("retry")]
    assert len(once) == len(set(once)), "started twice in one run"


def _check_end(series: Series) -> None:
    """Check the final state of each job, and that no client went back to an older state."""
    end, cancelled = series.runs[-1], series.jobs_with_request("cancel")
    for order in series.orders:
        job = end.remains.jobs[order.job_id or ""]
        facts = (job["status"], job["current_video"], job["failed"], job["progress"])
        if job["status"] != "cancelled" or order.job_id not in cancelled:
            assert facts == (order.end, len(order.video_ids), 1, 100), job
    last_requests = {request.job_id: request for request in series.requests}
    for request in last_requests.values():
        if request.action == "cancel" and request.job_id in series.cancelling:
            assert end.remains.jobs[request.job_id]["status"] == "cancelled", f"{request}: finished nevertheless"
    assert len(end.remains.jobs) == len(series.orders), "a job was created twice"
    assert_never_back(series.clients)


async def _until_a_video_has_finished(client: MirrorClient) -> None:
    async with asyncio.timeout(END_SECONDS):
        while not any(update.current_video for update in client.mirror.jobs.values()):
            await client.changed(POLL_SECONDS)


async def _until_all_finished(series: Series, api: Api) -> None:
    """Return when all jobs have finished. Resumes the paused ones once the others have finished."""
    watcher, orders = series.clients[0], {order.job_id: order for order in series.orders}
    async with asyncio.timeout(END_SECONDS):
        while any(job["status"] in ("pending", "processing") for job in (await api.jobs()).values()):
            await watcher.changed(POLL_SECONDS)
        paused = [job_id for job_id, job in (await api.jobs()).items() if job["status"] == "paused"]
        await asyncio.gather(*(api.request("resume", orders[job_id]) for job_id in paused))
        while any(job["status"] in UNFINISHED for job in (await api.jobs()).values()):
            await watcher.changed(POLL_SECONDS)


async def test_killed_servers_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    """Every job finishes, no update that was sent is lost, and no stored result is computed again."""
    series = await play(await prepare_home(tmp_path / "home"), SEED_IN_THE_GATE, KILLS)
    assert any(run.finished for run in series.runs[:-1]), "no kill came during the work"
    assert any(request.answer for request in series.requests), "no request was accepted"
    assert assert_told_once(tmp_path / "home" / "data") > 0, "nothing was told"


async def _play_many(rounds: int) -> int:
    """Play these rounds and print each series; return how many series failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        home = await prepare_home(Path(directory, "template"))
        for seed in range(1, -(-rounds // KILLS) + 1):
            try:
                print(await play(home.copy(Path(directory, str(seed))), seed, KILLS), flush=True)
            except* AssertionError as errors:
                failed += 1
                print(f"seed {seed:2} FAILED: {errors.exceptions}", flush=True)
            shutil.rmtree(Path(directory, str(seed)))
    return failed


def main(rounds: int = ROUNDS) -> None:
    """Play many rounds and print what happened; exit with 1 if one failed."""
    if failed := asyncio.run(_play_many(rounds)):
        sys.exit(f"{failed} series of {KILLS} rounds failed")
    print(f"{rounds} rounds: every job finished, nothing that was sent was lost, nothing stored was done again")


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        main(*map(int, words))
