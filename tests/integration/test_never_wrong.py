"""Whoever watches, over whatever network, ends in exactly the server's state: hub, sockets and clients under chance.

Real parts from Uvicorn's protocol to SQLite; lines on which bytes are delayed, cut and read too slowly; commits that
are held up; restarts that lose what was not stored.

`python -m tests.integration.test_never_wrong [examples]` runs a long round and prints what it covered.
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
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from backend.domain.auth import User
from backend.domain.job import Job
from backend.store import NewJob
from progress_dashboard import Mirror
from progress_dashboard.protocol import ProgressUpdate, Status
from tests.support.clock import VirtualClock
from tests.support.jobs import a_job
from tests.support.managed_backend import ADMIN, ANA, BEN
from tests.support.in_memory_transport import Ground, Line, WiredServer, let_it_run, prepare

T = TypeVar("T")
IN_THE_GATE, IN_A_ROUND = 500, 20_000
STEPS = 40
PAGE = 3
DEEDS = ("percent", "good", "bad", "bad", "break")
MOST_TURNS = 50
OWNERS = (ANA, BEN)


@dataclass(eq=False)
class Client:
    """One who watches: a mirror, its line if it has one, and all that it was told, in order."""

    user: User
    in_batches: bool = False
    by_time: bool = False
    mirror: Mirror = field(default_factory=Mirror)
    line: Line | None = None
    told: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)

    @property
    def query(self) -> str:
        if not self.in_batches:
            return ""
        return "format=batch" + (f"&after={self.mirror.position}" if self.mirror.position is not None else "")

    def connect(self, server: WiredServer) -> None:
        self.line = server.connect(self.user, self.query)
        self.mirror.connected()

    def drop(self) -> None:
        if self.line:
            self.line.cut()
        self.line = None

    def read(self, number: int, server: WiredServer, at: datetime) -> None:
        """Take so many bytes off the line."""
        if self.line is None:
            return
        messages = self.line.deliver(number)
        for message in messages:
            check_frame(message)
            self.take(self.mirror.hear(message, at=at))
            self._look()
        if messages:
            assert self._newest <= server.last_stored(), "seen before it was stored"

    def take(self, updates: list[ProgressUpdate]) -> None:
        for update in updates:
            told = self.told.setdefault(update.job_id, [])
            assert not told or told[-1].seq < update.seq, "told twice, or an older state after a newer one"
            told.append(update)

    async def sync(self, server: WiredServer, at: datetime) -> None:
        """Ask history for what was missed."""
        for job_id in list(self.mirror.missed):
            for _ in range(MOST_TURNS):
                if job_id in self.mirror.missed:
                    await self._ask(server, job_id, at)
            assert job_id not in self.mirror.missed, "history never answers"

    async def _ask(self, server: WiredServer, job_id: str, at: datetime) -> None:
        after, known = self.mirror.missed[job_id], self.told.get(job_id, [])
        if self.by_time and known:
            since = datetime.fromisoformat(known[-1].timestamp)
            rows = await server.manager.history(job_id, by=self.user, since=since)
            self.take(self.mirror.fill_in(job_id, decoded(rows), at=at))
        else:
            rows = await server.manager.history(job_id, by=self.user, after=after, limit=PAGE)
            self.take(self.mirror.fill_in(job_id, decoded(rows), at=at, whole=len(rows) < PAGE))

    def _look(self) -> None:
        for job_id, update in self.mirror.jobs.items():
            assert update.seq >= self.shown.get(job_id, 0), "a job's state went back"
            self.shown[job_id] = update.seq

    @property
    def _newest(self) -> int:
        return max([*self.shown.values(), self.mirror.position or 0])


def check_frame(message: str) -> None:
    """A batch holds what came after `prev`, in order, and nothing else."""
    frame = json.loads(message)
    if frame.get("type") == "updates":
        seqs = [update["seq"] for update in frame["updates"]]
        assert seqs == sorted(set(seqs)), "not in order"
        assert all(frame["prev"] < seq <= frame["seq"] for seq in seqs), "a repetition, or from beyond"


def decoded(rows: list[bytes]) -> list[ProgressUpdate]:
    return [msgspec.json.decode(row, type=ProgressUpdate) for row in rows]


def errors_in(rows: list[ProgressUpdate]) -> list[ProgressUpdate]:
    """The updates of a job's history that brought an error."""
    return [
        row
        for before, row in zip([None, *rows], rows, strict=False)
        if row.error is not msgspec.UNSET
        and (before is None or before.error != row.error or before.failed < row.failed or before.attempt != row.attempt)
    ]


class Delivery(RuleBasedStateMachine):
    """Jobs that change, a hub that ticks, clients that come and go, and a network that does as it likes."""

    ground: ClassVar[Ground | None] = None
    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        assert self.ground is not None
        self.on = self.ground
        self.on.empty()
        self.commits = self.on.database.commits
        self.jobs: dict[str, Job] = {}
        self.staged: list[Job] = []
        self.committing: list[Job] = []
        self.kept: list[Job] = []
        self.tick: asyncio.Task[None] | None = None
        self.born = 0
        self.clients = [
            Client(ANA, in_batches=True),
            Client(ANA, by_time=True),
            Client(BEN, in_batches=True),
            Client(ADMIN, in_batches=True),
            Client(ADMIN),
        ]

    @initialize(
        direct=st.booleans(),
        kept_batches=st.sampled_from((1, 3, 20)),
        kept_removals=st.sampled_from((1, 2, 10_000)),
        part_bytes=st.sampled_from((500, 1_200, 768 * 1024)),
    )
    def start(self, direct: bool, **hub_limits: int) -> None:
        self.direct, self.hub_limits = direct, hub_limits
        self.do(self.begin_life())
        for owner in (ANA, ANA, BEN):
            self.new_job(owner, videos=6)
        for who in range(len(self.clients)):
            self.connect(who)

    async def begin_life(self) -> None:
        self.commits.set()
        self.server = WiredServer(self.on, self.clock, direct=self.direct, hub_limits=self.hub_limits)
        await self.server.hub.load()
        self.jobs = {job.id: job for job in await self.server.store.on_dashboard()}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, and let the server do all that it can do then."""

        async def done() -> T:
            result = await work
            await let_it_run()
            return result

        return self.loop.run_until_complete(done())

    # What happens to jobs.

    @rule(owner=st.sampled_from(OWNERS), videos=st.integers(1, 8))
    def new_job(self, owner: User, videos: int) -> None:
        self.born += 1
        job = a_job(
            id=str(UUID(int=self.born)),
            owner_id=owner.id,
            owner=owner.name,
            total_videos=videos,
            created_at=self.clock.now(),
            updated_at=self.clock.now(),
        )
        self.jobs[job.id] = job
        self.staged.append(job)
        self.server.hub.stage_new(NewJob(job=job, columns=()))

    def stage(self, job: Job, *, kept: bool) -> None:
        self.jobs[job.id] = job
        if kept:
            self.staged.append(job)
        self.server.hub.stage(job, kept=kept)

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), deeds=st.lists(st.sampled_from(DEEDS), min_size=1, max_size=5))
    def work_on(self, which: int, deeds: list[str]) -> None:
        """Whatever can happen next to one of the jobs."""
        job_id = list(self.jobs)[which % len(self.jobs)]
        for deed in deeds:
            if job := self.jobs.get(job_id):
                self.happen(job, deed)

    def happen(self, job: Job, deed: str) -> None:
        now = self.clock.now()
        if job.status is Status.PENDING:
            self.stage(job.claimed(at=now), kept=True)
        elif job.is_finished:
            self.stage(retried(job, now), kept=True) if deed == "percent" else self.leave(job)
        elif deed == "percent":
            self.stage(job.moved(fractions=0.5, running=1, at=now, video_id="v"), kept=False)
        elif deed == "break":
            self.stage(job.broken("The job broke.", at=now), kept=True)
        else:
            error = f"cut off at {job.current_video}" if deed == "bad" else None
            ended = job.with_result(video_id="v", error=error, fractions=0, running=0, at=now)
            self.stage(ended, kept=error is not None or ended.is_finished)

    def leave(self, job: Job) -> None:
        del self.jobs[job.id]
        self.server.hub.stage_removal(job)

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
        self.tick = self.loop.create_task(self.server.hub.tick())

    async def committed(self) -> None:
        self.commits.set()
        if self.tick:
            await self.tick
            self.kept += self.committing
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
        self.do(self.end_life())
        self.clock = VirtualClock(self.clock.now() + timedelta(seconds=jump))
        self.do(self.begin_life())

    async def end_life(self) -> None:
        if self.tick:
            self.tick.cancel()
            await asyncio.gather(self.tick, return_exceptions=True)
        self.tick, self.staged, self.committing = None, [], []
        for client in self.clients:
            client.drop()
        await self.server.die()

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

        self.covered["cuts"] += self.clients[who].line is not None
        self.do(dropped())

    @rule(who=st.integers(0, 4), number=st.integers(1, 3_000))
    def some_bytes_arrive(self, who: int, number: int) -> None:
        self.do(self.read(self.clients[who], number))

    @rule(who=st.integers(0, 4))
    def all_arrives(self, who: int) -> None:
        self.do(self.read_out(self.clients[who]))

    @rule(who=st.integers(0, 4))
    def sync(self, who: int) -> None:
        self.do(self.clients[who].sync(self.server, self.clock.now()))

    async def read(self, client: Client, number: int) -> None:
        client.read(number, self.server, self.clock.now())
        await let_it_run()

    async def read_out(self, client: Client) -> None:
        while client.line and client.line.waiting:
            await self.read(client, client.line.waiting)

    # What has to be true at the end, whatever happened.

    def teardown(self) -> None:
        try:
            self.do(self.everybody_knows_everything())
        finally:
            self.do(self.end_life())
            self.loop.close()

    async def everybody_knows_everything(self) -> None:
        await self.ticked()
        await self.all_is_stored()
        for client in self.clients:
            if not client.in_batches:
                client.drop()  # only then does it ask history for what it may not have been told
            if client.line is None:
                client.connect(self.server)
            await let_it_run()
            await self.read_out(client)
            await client.sync(self.server, self.clock.now())
            await self.is_exact(client)

    async def all_is_stored(self) -> None:
        stored = {job.id: facts(job.update()) for job in await self.server.store.on_dashboard()}
        assert stored == {job.id: facts(job.update()) for job in self.jobs.values()}, "not the newest states are stored"
        for job in await self.server.store.on_dashboard():
            assert decoded(await self.server.manager.history(job.id, by=ADMIN))[-1] == job.update()
        for job_id in {job.id for job in self.kept}:
            rows = iter(await self.rows(job_id))
            for job in (kept for kept in self.kept if kept.id == job_id):
                assert any(facts(row) == facts(job.update()) for row in rows), "a status change or error is not stored"

    async def rows(self, job_id: str) -> list[ProgressUpdate]:
        return decoded(await self.server.store.history(job_id, since=None, after=None, limit=1_000))

    async def is_exact(self, client: Client) -> None:
        jobs = await self.server.store.on_dashboard()
        truth = {job.id: job.update() for job in jobs if client.user.is_admin or job.owner_id == client.user.id}
        if client.in_batches:
            assert dict(client.mirror.jobs) == truth
        assert {job_id: client.mirror.jobs.get(job_id) for job_id in truth} == truth
        for job_id, told in client.told.items():
            errors = errors_in(await self.rows(job_id))
            assert set(map(error_of, errors)) <= set(map(error_of, told)), "an error was never told"
            self.covered["errors"] += len(errors)
            self.covered["updates"] += len(told)


def retried(job: Job, now: datetime) -> Job:
    """The next attempt, at the videos that failed."""
    again = job.become(Status.PENDING, at=now, finished_at=None, error=None)
    return again.evolve(attempt=job.attempt + 1, failed=0, current_video=job.succeeded, progress=0)


def error_of(update: ProgressUpdate) -> tuple[object, ...]:
    """Which error of its job it is; a slow reader may hear it from the percent that followed."""
    return update.attempt, update.failed, update.error


def facts(update: ProgressUpdate) -> tuple[object, ...]:
    """What tells one status change or failed video of a job from another."""
    return update.status, update.attempt, update.current_video, update.failed, update.error, update.timestamp


def run(examples: int, *, explain: bool = True) -> None:
    """So many random stories; `explain`: make one that fails as small as possible before it is told."""
    calm = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.reuse, Phase.generate, *([Phase.shrink] if explain else [])],
    )
    with tempfile.TemporaryDirectory(prefix="never-wrong-") as directory:
        Delivery.ground = asyncio.run(prepare(Path(directory), VirtualClock()))
        run_state_machine_as_test(Delivery, settings=calm)
        Delivery.ground.database.close()


def test_every_client_ends_in_exactly_the_servers_state() -> None:
    run(IN_THE_GATE)


def main(examples: int = IN_A_ROUND, *, explain: bool = True) -> None:
    run(examples, explain=explain)
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(Delivery.covered.items()))
    print(f"{examples:,} stories of up to {STEPS} steps: every client exact; {counts}")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(*numbers, explain="--unexplained" not in sys.argv)
