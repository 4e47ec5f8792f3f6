"""Every client ends in exactly the server's state, over any network: random stories of journal, hub, sockets, clients.

All parts are real from Uvicorn's protocol to the database. Bytes on the connections are delayed, cut off and read too
slowly, commits are held up, and restarts lose what was not stored.

`python -m tests.integration.test_never_wrong [stories] [--database postgresql]` runs a long round and prints what it
covered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from backend.domain.auth import User
from backend.domain.job import Job
from backend.store.changes import NewJob
from progress_dashboard import Mirror
from progress_dashboard.protocol import ProgressUpdate, Status
from tests.support.clock import NOON, QuickClock
from tests.support.databases import chosen
from tests.support.delivery import Progress
from tests.support.in_memory_transport import Installation, MemoryClient, MemoryServer, prepare, run_loop
from tests.support.jobs import a_job
from tests.support.managed_backend import ADMIN, ANA, BEN

pytestmark = pytest.mark.acceptance  # long rounds

T = TypeVar("T")
STORIES_IN_THE_GATE, STORIES_IN_A_ROUND = 120, 20_000
MAX_STEPS = 40
PAGE_LIMIT = 3
MAX_REQUESTS = 50
EVENTS = ("percent", "good", "bad", "bad", "break")
OWNERS = (ANA, BEN)
BACK = timedelta(days=7)  # further than all jumps of the clock in a story


@dataclass(eq=False)
class Client:
    """A client with a mirror, its connection if it has one, and all that was delivered to it, in order."""

    user: User
    in_batches: bool = False
    by_time: bool = False
    mirror: Mirror = field(default_factory=Mirror)
    connection: MemoryClient | None = None
    delivered: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)

    @property
    def query(self) -> str:
        if not self.in_batches:
            return ""
        return "format=batch" + (f"&after={self.mirror.position}" if self.mirror.position is not None else "")

    def connect(self, server: MemoryServer) -> None:
        self.connection = server.connect(self.user, self.query)
        self.mirror.connected()

    def drop(self) -> None:
        if self.connection:
            self.connection.cut()
        self.connection = None

    def read(self, number: int, server: MemoryServer, at: datetime) -> None:
        """Read this number of bytes from the connection."""
        if self.connection is None:
            return
        messages = self.connection.deliver(number)
        for message in messages:
            assert_frame_is_in_order(message)
            self.take(self.mirror.receive(message, at=at))
            self._look()
        if messages:
            assert self._newest <= server.last_stored(), "seen before it was stored"

    def take(self, updates: list[ProgressUpdate]) -> None:
        for update in updates:
            delivered = self.delivered.setdefault(update.job_id, [])
            repeats = delivered and delivered[-1].seq >= update.seq
            assert not repeats, "delivered twice, or an older state after a newer one"
            delivered.append(update)

    async def sync(self, server: MemoryServer, at: datetime) -> None:
        """Read from history what the mirror lacks."""
        for job_id in list(self.mirror.gaps):
            for _ in range(MAX_REQUESTS):
                if job_id in self.mirror.gaps:
                    await self._request(server, job_id, at)
            assert job_id not in self.mirror.gaps, "history never answers"

    async def _request(self, server: MemoryServer, job_id: str, at: datetime) -> None:
        after, known, queries = self.mirror.gaps[job_id], self.delivered.get(job_id, []), server.parts.queries
        if self.by_time and known:
            since = datetime.fromisoformat(known[-1].timestamp)
            rows = await queries.history(job_id, by=self.user, since=since)
            self.take(self.mirror.fill_in(job_id, decoded(rows), at=at))
        else:
            rows = await queries.history(job_id, by=self.user, after=after, limit=PAGE_LIMIT)
            self.take(self.mirror.fill_in(job_id, decoded(rows), at=at, whole=len(rows) < PAGE_LIMIT))

    def _look(self) -> None:
        for job_id, update in self.mirror.jobs.items():
            assert update.seq >= self.shown.get(job_id, 0), "a job's state went back"
            self.shown[job_id] = update.seq

    @property
    def _newest(self) -> int:
        return max([*self.shown.values(), self.mirror.position or 0])


def assert_frame_is_in_order(message: str) -> None:
    """Assert that a batch holds only what came after `prev`, in order."""
    frame = json.loads(message)
    if frame.get("type") == "updates":
        seqs = [update["seq"] for update in frame["updates"]]
        assert seqs == sorted(set(seqs)), "not in order"
        assert all(frame["prev"] < seq <= frame["seq"] for seq in seqs), "a repetition, or from beyond the frame"


def decoded(rows: list[bytes]) -> list[ProgressUpdate]:
    return [msgspec.json.decode(row, type=ProgressUpdate) for row in rows]


def errors_in(rows: list[ProgressUpdate]) -> list[ProgressUpdate]:
    """Return the updates of a job's history that brought an error."""
    return [
        row
        for before, row in zip([None, *rows], rows, strict=False)
        if row.error is not msgspec.UNSET
        and (before is None or before.error != row.error or before.failed < row.failed or before.attempt != row.attempt)
    ]


class Stories(RuleBasedStateMachine):
    """Jobs that change, a journal that ticks, clients that come and go, and an unreliable network."""

    installation: ClassVar[Installation | None] = None
    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = QuickClock()
        assert self.installation is not None
        self.data = self.installation
        self.data.empty()
        self.commits = self.data.database.commits
        self.jobs: dict[str, Job] = {}
        self.staged: list[Job] = []
        self.committing: list[Job] = []
        self.stored: list[Job] = []
        self.tick: asyncio.Task[None] | None = None
        self.created = 0
        self.clients = [
            Client(ANA, in_batches=True),
            Client(ANA, by_time=True),
            Client(BEN, in_batches=True),
            Client(ADMIN, in_batches=True),
            Client(ADMIN),
        ]

    @initialize(
        direct=st.booleans(),
        max_batches=st.sampled_from((1, 3, 20)),
        max_tombstones=st.sampled_from((1, 2, 10_000)),
        part_bytes=st.sampled_from((500, 1_200, 768 * 1024)),
    )
    def start(self, direct: bool, **hub_limits: int) -> None:
        self.direct, self.hub_limits = direct, hub_limits
        self.do(self.begin_run())
        for owner in (ANA, ANA, BEN):
            self.new_job(owner, videos=6)
        for who in range(len(self.clients)):
            self.connect(who)

    async def begin_run(self) -> None:
        self.commits.set()
        self.server = MemoryServer(self.data, self.clock, direct=self.direct, hub_limits=self.hub_limits)
        await self.server.parts.journal.load()
        self.jobs = {job.id: job for job in await self.server.parts.store.jobs.on_dashboard()}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, and let the server do all that it can do then."""

        async def done() -> T:
            result = await work
            await run_loop()
            return result

        return self.loop.run_until_complete(done())

    # What happens to jobs.

    @rule(owner=st.sampled_from(OWNERS), videos=st.integers(1, 8))
    def new_job(self, owner: User, videos: int) -> None:
        self.created += 1
        job = a_job(
            id=str(UUID(int=self.created)),
            owner_id=owner.id,
            owner=owner.name,
            total_videos=videos,
            created_at=self.clock.now(),
            updated_at=self.clock.now(),
        )
        self.jobs[job.id] = job
        self.staged.append(job)
        self.server.parts.journal.stage_new(NewJob(job=job, columns=()))

    def stage(self, job: Job, *, lossless: bool) -> None:
        self.jobs[job.id] = job
        if lossless:
            self.staged.append(job)
            self.server.parts.journal.stage(job)
        else:
            self.server.parts.journal.stage_progress(Progress(job))

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=5))
    def work_on(self, which: int, events: list[str]) -> None:
        """Let events happen to one of the jobs."""
        job_id = list(self.jobs)[which % len(self.jobs)]
        for event in events:
            if job := self.jobs.get(job_id):
                self.happen(job, event)

    def happen(self, job: Job, event: str) -> None:
        now = self.clock.now()
        if job.status is Status.PENDING:
            self.stage(job.claimed(at=now), lossless=True)
        elif job.is_finished:
            self.stage(retried(job, now), lossless=True) if event == "percent" else self.leave(job)
        elif event == "percent":
            self.stage(job.progressed(fractions=0.5, running=1, at=now, video_id="v"), lossless=False)
        elif event == "break":
            self.stage(job.with_job_error("The job broke.", at=now), lossless=True)
        else:
            error = f"cut off at {job.current_video}" if event == "bad" else None
            after = job.with_result(video_id="v", error=error, fractions=0, running=0, at=now)
            self.stage(after, lossless=error is not None or after.is_finished)

    def leave(self, job: Job) -> None:
        del self.jobs[job.id]
        self.server.parts.journal.stage_removal(job)

    @rule(milliseconds=st.integers(1, 1_500))
    def time_passes(self, milliseconds: int) -> None:
        self.do(self.clock.advance(milliseconds / 1_000))

    # What the server does.

    @rule()
    def store_and_show(self) -> None:
        self.do(self.ticked())

    async def ticked(self) -> None:
        await self.committed()
        self.begin_tick()
        await self.committed()

    def begin_tick(self) -> None:
        self.committing, self.staged = self.staged, []
        self.tick = self.loop.create_task(self.server.parts.journal.tick())

    async def committed(self) -> None:
        self.commits.set()
        if self.tick:
            await self.tick
            self.stored += self.committing
        self.tick, self.committing = None, []

    @precondition(lambda self: self.tick is None)
    @rule()
    def hold_up_the_commit(self) -> None:
        self.commits.clear()

        async def begun() -> None:
            self.begin_tick()

        self.do(begun())

    @rule(jump=st.sampled_from((0, 1, 3_600, -3_600)))
    def kill_and_restart(self, jump: int) -> None:
        self.covered["kills"] += 1
        self.do(self.end_run())
        self.clock = QuickClock(self.clock.now() + timedelta(seconds=jump))
        self.do(self.begin_run())

    async def end_run(self) -> None:
        if self.tick:
            self.tick.cancel()
            await asyncio.gather(self.tick, return_exceptions=True)
        self.tick, self.staged, self.committing = None, [], []
        for client in self.clients:
            client.drop()
        await self.server.kill()

    # What the clients and the network do.

    @rule(who=st.integers(0, 4))
    def connect(self, who: int) -> None:
        async def connected() -> None:
            self.clients[who].drop()
            self.clients[who].connect(self.server)

        self.do(connected())

    @rule(who=st.integers(0, 4))
    def cut(self, who: int) -> None:
        async def dropped() -> None:
            self.clients[who].drop()

        self.covered["cuts"] += self.clients[who].connection is not None
        self.do(dropped())

    @rule(who=st.integers(0, 4), number=st.integers(1, 3_000))
    def some_bytes_arrive(self, who: int, number: int) -> None:
        self.do(self.read(self.clients[who], number))

    @rule(who=st.integers(0, 4))
    def all_bytes_arrive(self, who: int) -> None:
        self.do(self.read_all(self.clients[who]))

    @rule(who=st.integers(0, 4))
    def sync(self, who: int) -> None:
        self.do(self.clients[who].sync(self.server, self.clock.now()))

    async def read(self, client: Client, number: int) -> None:
        client.read(number, self.server, self.clock.now())
        await run_loop()

    async def read_all(self, client: Client) -> None:
        while client.connection and client.connection.waiting:
            await self.read(client, client.connection.waiting)

    # What has to be true at the end, whatever happened.

    def teardown(self) -> None:
        try:
            self.do(self.assert_everybody_is_up_to_date())
        finally:
            self.do(self.end_run())
            self.loop.close()

    async def assert_everybody_is_up_to_date(self) -> None:
        await self.ticked()
        await self.assert_all_is_stored()
        for client in self.clients:
            if not client.in_batches:
                client.drop()  # only then does it ask history for what may not have been delivered
            if client.connection is None:
                client.connect(self.server)
            await run_loop()
            await self.read_all(client)
            await client.sync(self.server, self.clock.now())
            await self.assert_client_is_exact(client)

    async def assert_all_is_stored(self) -> None:
        jobs = await self.server.parts.store.jobs.on_dashboard()
        newest = {job.id: facts(job.update()) for job in self.jobs.values()}
        assert {job.id: facts(job.update()) for job in jobs} == newest, "not the newest states are stored"
        for job in jobs:
            assert decoded(await self.server.parts.queries.history(job.id, by=ADMIN))[-1] == job.update()
        for job_id in {job.id for job in self.stored}:
            rows = iter(await self.rows(job_id))
            for job in (stored for stored in self.stored if stored.id == job_id):
                assert any(facts(row) == facts(job.update()) for row in rows), "a status change or error is not stored"

    async def rows(self, job_id: str) -> list[ProgressUpdate]:
        return decoded(await self.server.parts.store.history.page(job_id, since=None, after=None, limit=1_000))

    async def assert_client_is_exact(self, client: Client) -> None:
        jobs = await self.server.parts.store.jobs.on_dashboard()
        truth = {job.id: job.update() for job in jobs if client.user.is_admin or job.owner_id == client.user.id}
        if client.in_batches:
            assert dict(client.mirror.jobs) == truth
        assert {job_id: client.mirror.jobs.get(job_id) for job_id in truth} == truth
        for job_id, delivered in client.delivered.items():
            errors = errors_in(await self.rows(job_id))
            assert set(map(error_of, errors)) <= set(map(error_of, delivered)), "an error was never delivered"
            self.covered["errors"] += len(errors)
            self.covered["updates"] += len(delivered)


def retried(job: Job, now: datetime) -> Job:
    """Return the next attempt, at the videos that failed."""
    again = job.become(Status.PENDING, at=now, finished_at=None, error=None)
    return again.evolve(attempt=job.attempt + 1, failed=0, current_video=job.succeeded, progress=0)


def error_of(update: ProgressUpdate) -> tuple[object, ...]:
    """Return what identifies an error of a job; a slow reader may get it with the percent that followed."""
    return update.attempt, update.failed, update.error


def facts(update: ProgressUpdate) -> tuple[object, ...]:
    """Return what tells one status change or failed video of a job from another."""
    return update.status, update.attempt, update.current_video, update.failed, update.error, update.timestamp


def run(stories: int, *, explain: bool = True) -> None:
    """Run random stories; with `explain`, one that fails is made as small as possible before it is reported."""
    patient = settings(
        max_examples=stories,
        stateful_step_count=MAX_STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.reuse, Phase.generate, *([Phase.shrink] if explain else [])],
    )
    with tempfile.TemporaryDirectory(prefix="never-wrong-") as directory:
        before = QuickClock(NOON - BACK)  # a token from the future would be refused after the clock is set back
        Stories.installation = asyncio.run(prepare(Path(directory), before))
        run_state_machine_as_test(Stories, settings=patient)
        Stories.installation.database.close()


@pytest.mark.no_cover  # its lines are covered elsewhere, and tracing takes longer than the stories
def test_every_client_ends_in_exactly_the_servers_state() -> None:
    Stories.covered.clear()
    run(STORIES_IN_THE_GATE)
    assert min(Stories.covered[what] for what in ("kills", "cuts", "errors", "updates")) > 0


def main(stories: int = STORIES_IN_A_ROUND, *, explain: bool = True) -> None:
    run(stories, explain=explain)
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(Stories.covered.items()))
    print(f"{stories:,} stories of up to {MAX_STEPS} steps: every client exact; {counts}")


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        main(*(int(word) for word in words if word.isdigit()), explain="--unexplained" not in words)
