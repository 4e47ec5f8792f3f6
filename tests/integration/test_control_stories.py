"""Whatever two users and their administrator ask for, in whatever order, jobs stay true: control under chance.

The real store, hub and manager, with an executor whose runs are led by the test, deaths at any moment, and a database
that refuses now and then. `python -m tests.integration.test_control_stories [examples]` runs a long round.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from backend.delivery.hub import ProgressHub
from backend.domain.auth import User
from backend.domain.causes import fingerprint
from backend.domain.job import Action, Job, Selection
from backend.domain.video import Video, VideoStatus
from backend.errors import Conflict, Fault, JobNotFound, StoreRefused
from backend.jobs.executor import ProcessJob
from backend.jobs.manager import JobManager, Report, TryFailed, VideoProgressed, VideoStarted
from backend.jobs.retention import Erasure
from backend.lists.csv_files import list_of_ids
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from progress_dashboard import Mirror
from progress_dashboard.protocol import NEXT, WITH_FAILURES, ProgressUpdate, Status
from tests.integration.test_control import ASKS
from tests.support.clock import NOON, QuickClock, VirtualClock
from tests.support.managed_backend import ADMIN, ANA, BEN, RefusingStore, ended
from tests.support.in_memory_transport import Ground, prepare

T = TypeVar("T")
IN_THE_GATE, IN_A_ROUND = 40, 5_000
STEPS = 40
MOST_JOBS = 5
TURNS = 10
USERS = (ANA, BEN, ADMIN)
CUT, SLOW, FULL, BROKEN = "File is cut off", "It took too long", "The disk is full.", "The server had a problem."
DEEDS = (*("begin", "good", "cut") * 3, "move", "slow", "vain", "vain", "break", "let go")
SELECTIONS = (
    Selection(),
    Selection(everything=True),
    Selection(video_ids=("v0",)),
    Selection(video_ids=()),
    Selection(groups=(fingerprint(CUT, "v0"),)),
)
EMPTIED = ("milestone", "progress_event", "result", "video", "job", "tombstone", "idempotency_key")


class LedExecutor:
    """The line of jobs; what is taken out of it runs until the test lets it go. `ending`: jobs that have to end."""

    def __init__(self) -> None:
        self.line: list[str] = []
        self.ending: set[str] = set()

    async def start(self, process_job: ProcessJob) -> None:
        raise AssertionError("the test takes jobs out of the line itself")

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        if job_id not in self.line:
            self.line.append(job_id)

    async def cancel(self, job_id: str) -> None:
        self.ending.add(job_id)
        if job_id in self.line:
            self.line.remove(job_id)

    async def shutdown(self, grace: float) -> None:
        raise AssertionError("the test ends the runs itself")


class Life:
    """One life of the server."""

    def __init__(self, ground: Ground, clock: QuickClock) -> None:
        self.clock = clock
        self.store = RefusingStore(ground.database)
        self.hub = ProgressHub(self.store, clock)
        self.executor = LedExecutor()
        directory = ground.settings.data_dir
        self.manager = JobManager(
            store=self.store,
            hub=self.hub,
            executor=self.executor,
            media=MediaDirectory(directory, clock),
            demo=DemoClips(directory / "demo"),
            clock=clock,
            pause_after_failures=2,
        )
        self.held: dict[str, Job] = {}
        self.left: dict[str, list[Video]] = {}
        self.running: dict[str, list[Video]] = {}
        self._ticking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.hub.load()
        self._ticking = asyncio.create_task(self.hub.run())
        await self.manager.recover()
        await self.hub.durable()

    async def stop(self) -> None:
        """As by SIGTERM: nothing more begins, what runs is ended, the rest is stored."""
        self.store.accept()
        await self.hub.durable()
        self.manager.drain()
        for job in self.held.values():
            await self.manager.let_go(job.id, job.epoch)
        self.hub.close()
        assert self._ticking is not None
        await self._ticking

    async def die(self) -> None:
        """As by kill -9."""
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)


class Control(RuleBasedStateMachine):
    """Users who ask for things, holders that report, and a server that is ended now and then."""

    ground: ClassVar[Ground | None] = None
    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        assert self.ground is not None
        self.on: Ground = self.ground
        self.on.database.commits = asyncio.Event()
        self.on.database.commits.set()
        for table in EMPTIED:
            self.execute(f"DELETE FROM {table}")
        self.jobs: list[str] = []
        self.owners: dict[str, User] = {}
        self.told: dict[str, list[ProgressUpdate]] = {}
        self.checked: dict[str, Job] = {}
        self.mirrors = {user.id: Mirror() for user in USERS}
        self.is_refusing = False

    def execute(self, statement: str) -> int:
        """How many rows it changed."""
        return self.on.database.write_now(lambda connection: connection.execute(text(statement)).rowcount)

    @initialize()
    def start(self) -> None:
        self.do(self.begin_life(QuickClock()))
        for owner in (ANA, BEN):
            self.submit(owner, 3)

    async def begin_life(self, clock: QuickClock) -> None:
        self.life = Life(self.on, clock)
        await self.life.begin()
        self.connect()

    def connect(self) -> None:
        for mirror in self.mirrors.values():
            mirror.connected()
        self.readers = {
            user.id: self.life.manager.watch(by=user, after=self.mirrors[user.id].position) for user in USERS
        }

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # What users do.

    @rule(owner=st.sampled_from((ANA, BEN)), videos=st.integers(1, 3))
    def submit(self, owner: User, videos: int) -> None:
        if len(self.jobs) == MOST_JOBS or self.is_refusing:
            return
        ids = list_of_ids([f"v{number}" for number in range(videos)])
        job = self.do(self.life.manager.submit(ids, by=owner, name="list")).job
        self.jobs.append(job.id)
        self.owners[job.id] = owner

    @rule(which=st.integers(0, 9), action=st.sampled_from(list(Action)), who=st.integers(0, 9))
    def ask(self, which: int, action: Action, who: int) -> None:
        """Usually the owner."""
        job_id = self.the(which)
        self.do(self.asked(job_id, action, USERS[who] if who < len(USERS) else self.owners[job_id]))

    @rule(which=st.integers(0, 9), actions=st.lists(st.sampled_from(list(Action)), min_size=2, max_size=3))
    def ask_at_once(self, which: int, actions: list[Action]) -> None:
        """The owner in several tabs."""
        job_id = self.the(which)

        async def together() -> None:
            await asyncio.gather(*(self.asked(job_id, action, self.owners[job_id]) for action in actions))

        self.do(together())

    @rule(which=st.integers(0, 9), selection=st.sampled_from(SELECTIONS))
    def retry(self, which: int, selection: Selection) -> None:
        self.do(self.retried(self.the(which), selection))

    async def asked(self, job_id: str, action: Action, by: User) -> None:
        is_stranger = by not in (ADMIN, self.owners[job_id])
        try:
            await ASKS[action](self.life.manager, job_id, by)
        except Conflict:
            self.covered["conflicts"] += 1
            assert not is_stranger
        except StoreRefused:
            self.covered["refusals"] += 1
            assert self.is_refusing
            assert not is_stranger
        except JobNotFound:
            assert is_stranger or job_id not in await self.stored_ids()
        else:
            self.covered[action] += 1
            assert not is_stranger

    async def retried(self, job_id: str, selection: Selection) -> None:
        by, manager = self.owners[job_id], self.life.manager
        try:
            job = await manager.find(job_id, by=by)
            number = (await self.life.store.selected(job_id, selection)).videos
            again = await manager.retry(job_id, selection, by=by)
        except (Conflict, StoreRefused, JobNotFound):
            return
        if again.attempt == job.attempt + 1:
            self.covered["selected retries"] += 1
            assert again.current_video == again.total_videos - number

    # What happens to jobs that run.

    @rule()
    def run_one(self) -> None:
        """The executor takes a job out of the line."""
        if self.life.executor.line and not self.is_refusing:
            job_id = self.life.executor.line.pop(0)
            self.do(self.taken_up(job_id))

    async def taken_up(self, job_id: str) -> None:
        job = await self.life.manager.claim(job_id)
        if job is not None:
            self.life.executor.ending.discard(job_id)
            self.life.held[job_id], self.life.running[job_id] = job, []
            left = [video async for video in self.life.manager.todo(job)]
            assert len(left) == job.total_videos - job.current_video, "not what is left to do"
            self.life.left[job_id] = left

    @rule(which=st.integers(0, 9), ends=st.lists(st.sampled_from(("good", "cut", "slow")), min_size=3, max_size=3))
    def work_through(self, which: int, ends: list[str]) -> None:
        """All that is left of a job."""
        self.work_on(which, [deed for end in ends for deed in ("begin", end)] + ["move"])

    @rule(which=st.integers(0, 9), deeds=st.lists(st.sampled_from(DEEDS), min_size=4, max_size=16))
    def work_on(self, which: int, deeds: list[str]) -> None:
        if not self.life.held:
            self.run_one()
        if self.life.held:
            job_id = list(self.life.held)[which % len(self.life.held)]
            for deed in deeds:
                if job := self.life.held.get(job_id):
                    self.do(self.happen(job, deed))

    @rule()
    def those_that_have_to_end_do(self) -> None:
        for job_id, job in list(self.life.held.items()):
            if job_id in self.life.executor.ending or not self.goes_on(job):
                self.do(self.let_go(job))

    def goes_on(self, job: Job) -> bool:
        """Whether more of its videos may begin."""
        manager = self.life.manager
        return manager.is_held(job.id, job.epoch) and not manager.halt_of(job).is_set()

    async def happen(self, job: Job, deed: str) -> None:
        manager = self.life.manager
        if not manager.is_held(job.id, job.epoch):
            await self.let_go(job)  # its last video ended
        elif deed == "let go":
            await self.let_go(job)
            if job.id in self.life.executor.line and not self.is_refusing:
                self.life.executor.line.remove(job.id)  # at once, as when nothing else waits
                await self.taken_up(job.id)
        elif deed == "break":
            manager.fail(job.id, job.epoch, BROKEN)
        elif deed == "begin":
            self.begin_next(job)
        elif self.life.running[job.id]:
            self.go_on(job, deed)

    async def let_go(self, job: Job) -> None:
        del self.life.held[job.id], self.life.left[job.id], self.life.running[job.id]
        await self.life.manager.let_go(job.id, job.epoch)

    def begin_next(self, job: Job) -> None:
        left = self.life.left[job.id]
        if left and self.goes_on(job) and not self.is_refusing:
            self.life.running[job.id].append(left.pop(0))
            self.life.manager.record(job.id, job.epoch, VideoStarted(self.life.running[job.id][-1]))

    def go_on(self, job: Job, deed: str) -> None:
        running = self.life.running[job.id]
        video = running[0]
        reports: dict[str, Report] = {
            "move": VideoProgressed(video, 0.7, "decoding"),
            "vain": TryFailed(video, FULL, Fault.MACHINE, 2.0),
            "good": ended(video),
            "cut": ended(video, CUT),
            "slow": ended(video, SLOW),
        }
        if deed != "move":
            running.remove(video)
        if deed == "vain":
            self.life.left[job.id].append(video)
        self.life.manager.record(job.id, job.epoch, reports[deed])

    # What happens to the server.

    @rule(seconds=st.sampled_from((0.001, 1, 400)))
    def time_passes(self, seconds: float) -> None:
        self.do(self.life.clock.advance(seconds))

    @rule()
    def clean_up(self) -> None:
        self.life.manager.remove_from_dashboard(lambda job, _: not job.kept)

    @rule()
    def erase(self) -> None:
        if not self.is_refusing:
            self.do(Erasure(self.life.store, self.on.settings, self.life.clock).run_once())

    @rule()
    def refuse_or_accept(self) -> None:
        self.is_refusing = not self.is_refusing
        if self.is_refusing:
            self.life.store.refuse()
        else:
            self.life.store.accept()
            self.do(self.life.hub.durable())

    @rule(jump=st.sampled_from((0, 1, 3_600, -3_600)), politely=st.booleans())
    def end_and_start(self, jump: int, politely: bool) -> None:
        self.covered["stops" if politely else "deaths"] += 1
        self.do(self.life.stop() if politely else self.life.die())
        self.is_refusing = False
        self.do(self.begin_life(clock_at(self.life.clock.now() + timedelta(seconds=jump))))

    @rule(who=st.sampled_from(USERS))
    def look(self, who: User) -> None:
        self.do(self.looked(who))

    async def looked(self, who: User) -> None:
        mirror, reader = self.mirrors[who.id], self.readers[who.id]
        while (view := reader.take()) is not None:
            mirror.hear(view.batch_frame, at=NOON)
        for job_id, after in list(mirror.missed.items()):
            try:
                rows = await self.life.manager.history(job_id, by=who, after=after)
            except JobNotFound:
                mirror.give_up(job_id, gone=True)
            else:
                mirror.fill_in(job_id, map(decoded, rows), at=NOON)

    # What is true after each step.

    @invariant()
    def whoever_waits_is_in_line(self) -> None:
        """In memory, whether it can be stored or not; the executor has nothing to do for a job that does not wait."""
        if hasattr(self, "life") and not self.is_refusing:
            self.do(self.waiting_is_in_line())

    async def waiting_is_in_line(self) -> None:
        await self.life.hub.durable()
        jobs = await self.stored_jobs()
        waiting = {job.id for job in jobs if job.status is Status.PENDING}
        assert waiting <= set(self.life.executor.line), "a job waits for ever"
        for job in jobs:
            if self.checked.get(job.id) != job:
                await self.is_true(job)
                await self.has_a_true_history(job)
                await self.has_a_true_timeline(job)
                self.checked[job.id] = job

    async def is_true(self, job: Job) -> None:
        videos = (await self.life.store.videos(job.id, status=None, q="", limit=10, cursor=None)).items
        counts = Counter(video.status for video in videos)
        assert job.current_video == counts[VideoStatus.COMPLETED] + counts[VideoStatus.FAILED]
        assert job.failed == counts[VideoStatus.FAILED]
        assert job.status is Status.PROCESSING or not counts[VideoStatus.PROCESSING]
        broke = job.status is Status.FAILED and job.current_video < job.total_videos
        errors = [BROKEN] if broke else [video.error for video in videos if video.error]
        assert job.error in errors if errors else job.error is None
        assert job.requested is None or job.status is Status.PROCESSING
        assert job.trouble is None or job.status is Status.PAUSED or job.requested == "pause"
        assert (job.finished_at is not None) is job.is_finished
        assert job.started_at is None or job.finished_at is None or job.started_at <= job.finished_at
        assert (job.progress == 100) is (job.is_finished and job.current_video == job.total_videos)
        assert job.status not in WITH_FAILURES or job.error is not None

    async def has_a_true_history(self, job: Job) -> None:
        told = self.told.setdefault(job.id, [])
        after = told[-1].seq if told else None
        for update in map(decoded, await self.life.manager.history(job.id, by=ADMIN, after=after)):
            if told:
                follows(told[-1], update)
            told.append(update)
        assert told[-1] == job.update()

    async def has_a_true_timeline(self, job: Job) -> None:
        """Every change of its status and every attempt that its history tells of, and nothing else."""
        told = self.told[job.id]
        changed = [
            (update.seq, update.status, update.attempt)
            for earlier, update in zip((None, *told), told, strict=False)
            if earlier is None or (earlier.status, earlier.attempt) != (update.status, update.attempt)
        ]
        timeline = await self.life.manager.timeline(job.id, by=ADMIN)
        kept = [(milestone.seq, milestone.status.value, milestone.attempt) for milestone in timeline.milestones]
        assert kept == changed[timeline.earlier :]
        ats = [milestone.at for milestone in timeline.milestones]
        assert ats == sorted(ats)

    async def stored_jobs(self) -> list[Job]:
        page = await self.life.manager.jobs(by=ADMIN)
        return page.items

    async def stored_ids(self) -> set[str]:
        return {job.id for job in await self.stored_jobs()}

    def the(self, which: int) -> str:
        return self.jobs[which % len(self.jobs)]

    # What has to be true at the end.

    def teardown(self) -> None:
        try:
            if hasattr(self, "life"):
                self.do(self.all_is_exact())
        finally:
            self.do(self.life.die())
            self.loop.close()

    async def all_is_exact(self) -> None:
        self.life.store.accept()
        await self.life.hub.durable()
        for job in await self.stored_jobs():
            for video in (await self.life.manager.videos(job.id, by=ADMIN)).items:
                assert len(await self.life.store.outcomes(job.id, video.position)) == video.attempts
        shown = await self.life.store.on_dashboard()
        for who in USERS:
            await self.looked(who)
            truth = {job.id: job.update() for job in shown if who.is_admin or job.owner_id == who.id}
            assert dict(self.mirrors[who.id].jobs) == truth
        await Erasure(self.life.store, self.on.settings, self.life.clock).run_once()
        for table in ("video", "result", "progress_event"):
            left = self.execute(f"DELETE FROM {table} WHERE job_id NOT IN (SELECT id FROM job)")
            assert left == 0, f"rows of deleted jobs are left in {table}"


def follows(before: ProgressUpdate, update: ProgressUpdate) -> None:
    """Nothing of a job ever goes back within an attempt, and its status moves along the table."""
    assert update.seq > before.seq
    assert update.timestamp >= before.timestamp
    assert update.status == before.status or Status(update.status) in NEXT[Status(before.status)]
    assert update.attempt in (before.attempt, before.attempt + 1)
    if update.attempt == before.attempt:
        assert update.progress >= before.progress
        assert update.current_video >= before.current_video
        assert update.failed >= before.failed


def decoded(row: bytes) -> ProgressUpdate:
    return msgspec.json.decode(row, type=ProgressUpdate)


def clock_at(moment: datetime) -> QuickClock:
    return QuickClock(moment)


def run(examples: int) -> None:
    """So many random stories."""
    calm = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
    )
    with tempfile.TemporaryDirectory(prefix="control-stories-") as directory:
        Control.ground = asyncio.run(prepare(Path(directory), VirtualClock()))
        run_state_machine_as_test(Control, settings=calm)
        Control.ground.database.close()


def test_whatever_is_asked_in_whatever_order_jobs_stay_true() -> None:
    run(IN_THE_GATE)


def main(examples: int = IN_A_ROUND) -> None:
    run(examples)
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(Control.covered.items()))
    print(f"{examples:,} stories of up to {STEPS} steps: every job true after each; {counts}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
