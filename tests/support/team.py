"""A server and the workers of several machines over watched jobs, with everything that was observed of them.

What hits a machine is noted as a `Hit`: only then may a video that it worked on begin again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from progress_dashboard.protocol import UNFINISHED
from tests.support.databases import rows
from tests.support.homes import Home
from tests.support.logging_processor import LogEntry, StartLog
from tests.support.mirror_client import MirrorClient
from tests.support.networks import Machine, Network
from tests.support.postgres import PostgresServer
from tests.support.server_runs import Server
from tests.support.stored_jobs import assert_never_back, assert_stored_once
from tests.support.watched_jobs import JOBS, Api, Order, Request, new_order, until_received
from tests.support.worker_programs import LOCAL, WorkerProgram

END_SECONDS = 120.0  # a hang, also on a busy machine
POLL_SECONDS = 0.02
REQUESTS = 6  # in a round, at random moments
MAX_UPDATES = 40  # that a client receives before the blow
ACTIONS = {"paused": ("resume", "cancel"), "pending": ("cancel", "pause"), "processing": ("cancel", "pause", "resume")}
LEFT = {  # what must be empty when all jobs have ended
    "runs": "SELECT id, state, worker FROM run",
    "jobs of the engine": "SELECT id, status FROM procrastinate_jobs",
}
DONE = ("completed", "failed")


@dataclass(frozen=True)
class Hit:
    """The fork server `starter` of a machine was hit during this time (monotonic)."""

    starter: int
    since: float
    until: float

    def explains(self, before: LogEntry, again: LogEntry) -> bool:
        """Return True if the work that began `before` may begin `again` because of this."""
        return before.starter == self.starter and before.at <= self.until and self.since <= again.at


def begun_without_reason(starts: Iterable[LogEntry], hits: Sequence[Hit]) -> list[LogEntry]:
    """Return the starts of videos that had begun before, on a machine that nothing had hit since."""
    last, wrong = dict[tuple[str, int], LogEntry](), []
    for start in starts:
        before = last.get(start.video)
        if before is not None and not any(hit.explains(before, start) for hit in hits):
            wrong.append(start)
        last[start.video] = start
    return wrong


class Worker:
    """A worker through all its lives, on one machine."""

    def __init__(self, name: str, slots: int, machine: Machine | None) -> None:
        self.name = name
        self.slots = slots
        self.machine = machine
        self.running: WorkerProgram | None = None

    @property
    def program(self) -> WorkerProgram:
        assert self.running is not None, "it has not been started"
        return self.running

    def end(self) -> None:
        """End it, if it was started."""
        if self.running is not None:
            self.running.end()


@dataclass(frozen=True)
class Round:
    """What one blow did."""

    blow: str
    # How long after the blow each video that the machine worked on has begun again.
    begun_again: Sequence[float]
    finished_videos: int
    cancelled: int

    def __str__(self) -> str:
        times = ", ".join(f"{seconds:.1f}" for seconds in self.begun_again)
        begun = f", begun again after {times} s" if times else ""
        return f"{self.blow}: {self.finished_videos} videos finished, {self.cancelled} jobs cancelled{begun}"


@dataclass
class Team:
    """The server, its workers and clients, and all that was observed."""

    home: Home
    postgres: PostgresServer
    network: Network | None
    server: Server
    api: Api
    clients: Sequence[MirrorClient]
    log: StartLog
    lease_seconds: float
    workers: list[Worker] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    # Jobs of which a client received that they are cancelled.
    cancelled: set[str] = field(default_factory=set)

    async def start(self, worker: Worker) -> None:
        """Start this worker under its name, and wait until it takes videos."""
        worker.running = WorkerProgram(
            self.server.data_dir,
            *("--name", worker.name, "--slots", f"{worker.slots}"),
            media=self.home.path / "media",
            python_path=self.home.path / "plug-ins",
            machine=worker.machine,
            address=self.network.address if self.network else LOCAL,
            worker_lease_seconds=self.lease_seconds,
        )
        await asyncio.to_thread(worker.running.until_ready)

    def watch(self) -> None:
        """Check from now on that no process works on a job when a client receives that it is cancelled."""
        for client in self.clients:
            client.on_arrival = self._arrived

    async def round(self, blow: Blow, rng: Random) -> Round:
        """Submit jobs until 50 are unfinished, strike at a random moment, and check everything after it."""
        jobs = await self.api.jobs()
        unfinished = sum(job["status"] in UNFINISHED for job in jobs.values()) + len(self._unanswered)
        self.orders += [new_order(number, rng) for number in range(JOBS - unfinished)]
        submitting = asyncio.create_task(self._submit_all())
        received, updates = len(self.clients[0].received_updates), rng.randint(1, MAX_UPDATES)
        requesting = [asyncio.create_task(one) for one in self._requests(jobs, rng, received, updates)]
        await until_received(self.clients[0], received + updates)
        begun_again = await blow.strike(self, rng)
        await submitting
        self.requests += await asyncio.gather(*requesting)
        await self._until_storing()
        finished = await asyncio.to_thread(assert_stored_once, self.server.data_dir, self.clients)
        self._assert_starts()
        assert self.server.is_running, f"the server ended:\n{self.server.output}"
        for worker in self.workers:
            assert worker.program.is_running, f"the worker {worker.name} ended:\n{worker.program.output}"
        return Round(blow.name, begun_again, finished, len(self.cancelled))

    def at_work(self, worker: Worker) -> list[LogEntry]:
        """Return what this worker's processes do now."""
        return [start for start in self.log.at_work() if start.starter == worker.program.starter]

    async def busy(self, rng: Random, *, videos: int = 1) -> tuple[Worker, list[LogEntry]]:
        """Return a worker that works on so many videos, as soon as there is one, and what it does."""
        found = list[tuple[Worker, list[LogEntry]]]()

        def look() -> bool:
            found[:] = [(worker, at_work) for worker in self.workers if len(at_work := self.at_work(worker)) >= videos]
            return bool(found)

        await self.until(look, "a worker at work")
        return rng.choice(found)

    async def until_begun_again(self, lost: Sequence[LogEntry], since: float) -> list[float]:
        """Return how long after `since` each of these videos began again, when all have, or need not any more."""
        number = len(self.log.starts())

        def again() -> dict[tuple[str, int], float]:
            later = [start for start in self.log.starts() if start.at > since]
            return {start.video: start.at - since for start in reversed(later)}

        def is_settled() -> bool:
            waiting = {start.video for start in lost} - again().keys()
            return not waiting or all(self._is_over(*video) for video in waiting)

        await self.until(is_settled, f"{lost} begin again, after {number} starts")
        videos = {start.video for start in lost}
        return [seconds for video, seconds in again().items() if video in videos]

    async def until_gone(self, processes: Sequence[LogEntry]) -> None:
        """Return when none of these processes is left."""
        await self.until(lambda: not any(one.is_alive for one in processes), f"the end of {processes}")

    async def until_seen(self, worker: Worker) -> None:
        """Return when this worker has reported to the database again."""
        query = f"SELECT beats FROM worker WHERE name = '{worker.name}'"
        before = rows(self.server.data_dir, query)
        await self.until(lambda: rows(self.server.data_dir, query) not in ([], before), f"a beat of {worker.name}")

    async def until(self, holds: Callable[[], bool], what: str, seconds: float = END_SECONDS) -> None:
        """Return when this holds; processes, files and tables have no event for it."""
        end = time.monotonic() + seconds
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < end, f"not in {seconds:g} s: {what}\n{self._state()}"
            await asyncio.sleep(POLL_SECONDS)

    def is_over(self, order: Order) -> bool:
        """Return True if this job has ended."""
        [(status,)] = rows(self.server.data_dir, "SELECT status FROM job WHERE id = :job_id", job_id=order.job_id)
        return status not in UNFINISHED

    async def until_all_finished(self) -> None:
        """Return when all jobs have ended. Resumes those that are paused once the others have ended."""
        await self._until_none_is("pending", "processing")
        orders = {order.job_id: order for order in self.orders}
        paused = [job_id for job_id, job in (await self.api.jobs()).items() if job["status"] == "paused"]
        self.requests += await asyncio.gather(*(self.api.request("resume", orders[job_id]) for job_id in paused))
        await self._until_none_is(*UNFINISHED)

    async def assert_nothing_left(self) -> None:
        """Check that the tables of what is under way become empty."""
        for what, query in LEFT.items():
            await self.until(partial(self._is_empty, query), f"no {what} left", 15.0)

    def assert_end(self) -> None:
        """Check the final state of each job, all starts, and that no client went back."""
        assert_stored_once(self.server.data_dir, self.clients)
        assert_never_back(self.clients)
        self._assert_starts()
        columns = "id, status, current_video, failed, progress"
        stored = {row.id: tuple(row)[1:] for row in rows(self.server.data_dir, f"SELECT {columns} FROM job")}
        assert len(stored) == len(self.orders), "a job was created twice"
        requested = self._jobs_with("cancel")
        for order in self.orders:
            end = stored[order.job_id]
            is_cancelled = end[0] == "cancelled" and order.job_id in requested
            assert is_cancelled or end == (order.end, len(order.video_ids), 1, 100), (order, end)

    @property
    def _unanswered(self) -> list[Order]:
        return [order for order in self.orders if order.job_id is None]

    def _jobs_with(self, action: str) -> set[str]:
        """Return the jobs for which this was ever requested, also if it was refused."""
        return {request.job_id for request in self.requests if request.action == action}

    def _assert_starts(self) -> None:
        """Check that no two processes ever worked on one video, and that none began again without a reason."""
        assert self.log.overlaps() == [], "two processes worked on one video at the same time"
        retried = self._jobs_with("retry")
        wrong = begun_without_reason([one for one in self.log.starts() if one.job_id not in retried], self.hits)
        assert wrong == [], f"begun again, although nothing had hit its machine; hits: {self.hits}"

    def _arrived(self, update: dict[str, Any]) -> None:
        if update["status"] == "cancelled":
            left = self.log.at_work(update["job_id"])
            assert left == [], f"cancelled while processes worked on it: {left}"
            self.cancelled.add(update["job_id"])

    def _requests(
        self, jobs: dict[str, dict[str, Any]], rng: Random, received: int, updates: int
    ) -> list[Coroutine[Any, Any, Request]]:
        """Return requests for some jobs, each allowed in the state that its job has now."""
        known = [order for order in self.orders if order.job_id in jobs]
        chosen = rng.sample(known, min(REQUESTS, len(known)))
        actions = [rng.choice(ACTIONS.get(jobs[order.job_id or ""]["status"], ("retry",))) for order in chosen]
        moments = [received + rng.randint(0, updates) for _ in chosen]
        return [
            self._request_later(action, order, moment)
            for action, order, moment in zip(actions, chosen, moments, strict=True)
        ]

    async def _request_later(self, action: str, order: Order, updates: int) -> Request:
        await until_received(self.clients[0], updates)
        return await self.api.request(action, order)

    async def _submit_all(self) -> None:
        """Submit all orders until the server has accepted each of them."""
        async with asyncio.timeout(END_SECONDS):
            while orders := self._unanswered:
                await self.api.submit_all(orders)
                await asyncio.sleep(POLL_SECONDS if self._unanswered else 0)

    async def _until_storing(self) -> None:
        """Return when the database can be read, which may have been away."""
        end = time.monotonic() + END_SECONDS
        while (health := (await self.api.health())[0]).status_code != 200:
            assert time.monotonic() < end, health.text
            await asyncio.sleep(POLL_SECONDS)

    async def _until_none_is(self, *statuses: str) -> None:
        end = time.monotonic() + END_SECONDS
        while left := [job for job in (await self.api.jobs()).values() if job["status"] in statuses]:
            assert time.monotonic() < end, f"jobs did not end: {left}\n{self._state()}"
            await self.clients[0].changed(10 * POLL_SECONDS)

    def _is_empty(self, query: str) -> bool:
        return not rows(self.server.data_dir, query)

    def _is_over(self, job_id: str, position: int) -> bool:
        """Return True if this video need not begin again: it has its result, or its job has ended or is paused."""
        query = (
            "SELECT video.status, job.status, job.requested FROM video JOIN job ON job.id = job_id"
            " WHERE job_id = :job_id AND position = :position"
        )
        [(video, job, requested)] = rows(self.server.data_dir, query, job_id=job_id, position=position)
        return video in DONE or job not in ("pending", "processing") or requested is not None

    def _state(self) -> str:
        """Return what helps to understand a hang."""
        queries = {**LEFT, "workers": "SELECT * FROM worker"}
        tables = "\n".join(f"{what}: {rows(self.server.data_dir, query)}" for what, query in queries.items())
        outputs = [self.server.output, *(worker.program.output for worker in self.workers)]
        return "\n".join([tables, *(output[-3000:] for output in outputs)])


@dataclass(frozen=True)
class Blow:
    """What may happen to a team. `strike` returns how long after it the videos that were lost began again."""

    name: str
    strike: Callable[[Team, Random], Awaitable[Sequence[float]]]
