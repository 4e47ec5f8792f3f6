"""Jobs stay consistent whatever users request in whatever order: random stories of steering.

Store, journal, hub, manager and leases are real. The test plays the executor and the workers, ends the server at any
moment, and lets the database refuse now and then.

`python -m tests.integration.test_control_stories [examples]` runs a long round.
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
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from backend.domain.auth import User
from backend.domain.causes import fingerprint
from backend.domain.job import Action, Job, Selection
from backend.domain.video import Video, VideoStatus
from backend.errors import Conflict, Fault, JobNotFound, StoreRefused
from backend.jobs.executor import ProcessJob
from backend.jobs.leases import Lease, Report, TryFailed, VideoProgressed, VideoStarted
from backend.jobs.outputs import Outputs
from backend.jobs.retention import Erasure
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from progress_dashboard import Mirror
from progress_dashboard.protocol import NEXT, WITH_FAILURES, ProgressUpdate, Status
from tests.support.clock import NOON, QuickClock
from tests.support.in_memory_transport import Installation, prepare
from tests.support.job_states import CUT, SLOW
from tests.support.managed_backend import ADMIN, ANA, BEN, RefusingStore, build_parts, finished

pytestmark = pytest.mark.acceptance  # long rounds

T = TypeVar("T")
STORIES_IN_THE_GATE, STORIES_IN_A_ROUND = 30, 5_000
MAX_STEPS = 40
MAX_JOBS = 5
PAUSE_AFTER_FAILURES = 2
USERS = (ANA, BEN, ADMIN)
FULL, JOB_ERROR = "The disk is full.", "The server had a problem."
EVENTS = (*("start", "good", "cut") * 3, "progress", "slow", "try failed", "try failed", "job failed", "release")
SELECTIONS = (
    Selection(),
    Selection(everything=True),
    Selection(video_ids=("v0",)),
    Selection(video_ids=()),
    Selection(groups=(fingerprint(CUT, "v0"),)),
)
EMPTIED = ("milestone", "progress_event", "result", "video", "job", "tombstone", "idempotency_key", "notification")


class QueueExecutor:
    """Only keeps the queue; the test takes jobs out of it and works on them."""

    def __init__(self) -> None:
        self.queue: list[str] = []

    async def start(self, process_job: ProcessJob) -> None:
        raise AssertionError("the test takes jobs out of the queue itself")

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        if job_id not in self.queue:
            self.queue.append(job_id)

    async def withdraw(self, job_id: str) -> None:
        if job_id in self.queue:
            self.queue.remove(job_id)

    async def shutdown(self, grace: float) -> None:
        raise AssertionError("the test ends the runs itself")


class ServerRun:
    """One run of the server. The test holds the leases, with the pending and the running videos under each."""

    def __init__(self, installation: Installation, clock: QuickClock) -> None:
        self.clock = clock
        self.store = RefusingStore(installation.database)
        self.executor = QueueExecutor()
        directory = installation.settings.data_dir
        self.parts = build_parts(self.store, directory, self.executor, clock, pause_after_failures=PAUSE_AFTER_FAILURES)
        self.held: dict[str, Lease] = {}
        self.pending: dict[str, list[Video]] = {}
        self.running: dict[str, list[Video]] = {}
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.parts.journal.load()
        self._ticking = asyncio.create_task(self.parts.journal.run())
        await self.parts.manager.recover()
        await self.parts.journal.durable()

    async def stop(self) -> None:
        """Stop as SIGTERM does: nothing more starts, what runs is ended, the rest is stored."""
        self.store.accept()
        await self.parts.journal.durable()
        self.parts.leases.drain()
        for lease in self.held.values():
            await self.parts.leases.release(lease)
        self.parts.journal.close()
        assert self._ticking is not None
        await self._ticking

    async def kill(self) -> None:
        """End as kill -9 does."""
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)


class Control(RuleBasedStateMachine):
    """Users who request actions, workers that report, and a server that ends now and then."""

    installation: ClassVar[Installation | None] = None
    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        assert self.installation is not None
        self.on: Installation = self.installation
        self.on.database.commits = asyncio.Event()
        self.on.database.commits.set()
        for table in EMPTIED:
            self.execute(f"DELETE FROM {table}")
        self.jobs: list[str] = []
        self.owners: dict[str, User] = {}
        self.updates: dict[str, list[ProgressUpdate]] = {}
        self.checked: dict[str, Job] = {}
        self.mirrors = {user.id: Mirror() for user in USERS}
        self.is_refusing = False

    def execute(self, statement: str) -> int:
        """Return the number of rows that the statement changed."""
        return self.on.database.write_now(lambda connection: connection.execute(text(statement)).rowcount)

    @initialize()
    def start(self) -> None:
        self.do(self.start_server(QuickClock()))
        for owner in (ANA, BEN):
            self.submit(owner, 3)

    async def start_server(self, clock: QuickClock) -> None:
        self.server = ServerRun(self.on, clock)
        self.queries, self.manager, self.leases = (
            self.server.parts.queries,
            self.server.parts.manager,
            self.server.parts.leases,
        )
        await self.server.start()
        self.connect()

    def connect(self) -> None:
        for mirror in self.mirrors.values():
            mirror.connected()
        self.readers = {user.id: self.queries.watch(by=user, after=self.mirrors[user.id].position) for user in USERS}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # What users do.

    @rule(owner=st.sampled_from((ANA, BEN)), videos=st.integers(1, 3))
    def submit(self, owner: User, videos: int) -> None:
        if len(self.jobs) == MAX_JOBS or self.is_refusing:
            return
        videos_of_list = list_of_ids([f"v{number}" for number in range(videos)])
        job = self.do(self.manager.submit(videos_of_list, Order(name="list"), by=owner)).job
        self.jobs.append(job.id)
        self.owners[job.id] = owner

    @rule(which=st.integers(0, 9), action=st.sampled_from(Action), who=st.integers(0, 9), priority=st.integers(-2, 2))
    def act(self, which: int, action: Action, who: int, priority: int) -> None:
        """Let a user act, usually the owner."""
        job_id = self.job_at(which)
        by = USERS[who] if who < len(USERS) else self.owners[job_id]
        self.do(self.expect_answer(job_id, action, by, priority))

    @rule(which=st.integers(0, 9), actions=st.lists(st.sampled_from(Action), min_size=2, max_size=3))
    def act_at_once(self, which: int, actions: list[Action]) -> None:
        """Let the owner act in several tabs."""
        job_id = self.job_at(which)

        async def together() -> None:
            await asyncio.gather(*(self.expect_answer(job_id, action, self.owners[job_id]) for action in actions))

        self.do(together())

    @rule(which=st.integers(0, 9), selection=st.sampled_from(SELECTIONS))
    def retry(self, which: int, selection: Selection) -> None:
        self.do(self.expect_retry(self.job_at(which), selection))

    async def expect_answer(self, job_id: str, action: Action, by: User, priority: int = 1) -> None:
        """Act, and check that the answer or the refusal fits the user and the database."""
        may_see = by in (ADMIN, self.owners[job_id])
        try:
            await self.manager.act(job_id, action, by=by, priority=priority)
        except Conflict:
            self.covered["conflicts"] += 1
            assert may_see
        except StoreRefused:
            self.covered["refusals"] += 1
            assert self.is_refusing
            assert may_see
        except JobNotFound:
            assert not may_see or job_id not in await self.stored_ids()
        else:
            self.covered[action] += 1
            assert may_see

    async def expect_retry(self, job_id: str, selection: Selection) -> None:
        """Retry, and check that the next attempt takes what the selection holds."""
        by = self.owners[job_id]
        try:
            job = await self.queries.find(job_id, by=by)
            number = (await self.server.store.videos.retry_scope(job_id, selection)).videos
            again = await self.manager.retry(job_id, selection, by=by)
        except (Conflict, StoreRefused, JobNotFound):
            return
        if again.attempt == job.attempt + 1:
            self.covered["selected retries"] += 1
            assert again.current_video == again.total_videos - number

    # What workers do.

    @rule()
    def run_next_job(self) -> None:
        """Take a job out of the queue and claim it."""
        if self.server.executor.queue and not self.is_refusing:
            self.do(self.claim(self.server.executor.queue.pop(0)))

    async def claim(self, job_id: str) -> None:
        lease = await self.leases.claim(job_id)
        if lease is not None:
            self.server.held[job_id], self.server.running[job_id] = lease, []
            pending = [video async for video in self.leases.pending_videos(lease)]
            undone = lease.job.total_videos - lease.job.current_video
            assert len(pending) == undone, "the pending videos are not those left to do"
            assert not lease.stop.is_draining, "a new lease is stopped"
            self.server.pending[job_id] = pending

    @rule(which=st.integers(0, 9), results=st.lists(st.sampled_from(("good", "cut", "slow")), min_size=3, max_size=3))
    def finish_videos(self, which: int, results: list[str]) -> None:
        """Work through a job."""
        self.work_on(which, [event for result in results for event in ("start", result)] + ["progress"])

    @rule(which=st.integers(0, 9), events=st.lists(st.sampled_from(EVENTS), min_size=4, max_size=16))
    def work_on(self, which: int, events: list[str]) -> None:
        if not self.server.held:
            self.run_next_job()
        if self.server.held:
            job_id = list(self.server.held)[which % len(self.server.held)]
            for event in events:
                if lease := self.server.held.get(job_id):
                    self.do(self.let_happen(lease, event))

    @rule()
    def obey_stop_signals(self) -> None:
        """Release the jobs whose stop signal was given."""
        for lease in list(self.server.held.values()):
            if not self.may_start(lease):
                self.do(self.release(lease))

    def may_start(self, lease: Lease) -> bool:
        """Return True if more of the job's videos may be started."""
        return self.leases.is_held(lease) and not lease.stop.is_draining

    async def let_happen(self, lease: Lease, event: str) -> None:
        job_id = lease.job.id
        if not self.leases.is_held(lease):
            await self.release(lease)  # its last video has finished
        elif event == "release":
            await self.release(lease)
            if job_id in self.server.executor.queue and not self.is_refusing:
                self.server.executor.queue.remove(job_id)  # at once, as if no other job waited
                await self.claim(job_id)
        elif event == "job failed":
            self.leases.fail(lease, JOB_ERROR)
        elif event == "start":
            self.start_next(lease)
        elif self.server.running[job_id]:
            self.report(lease, event)

    async def release(self, lease: Lease) -> None:
        job_id = lease.job.id
        del self.server.held[job_id], self.server.pending[job_id], self.server.running[job_id]
        await self.leases.release(lease)

    def start_next(self, lease: Lease) -> None:
        pending = self.server.pending[lease.job.id]
        if pending and self.may_start(lease) and not self.is_refusing:
            video = pending.pop(0)
            self.server.running[lease.job.id].append(video)
            self.leases.record(lease, VideoStarted(video))

    def report(self, lease: Lease, event: str) -> None:
        running = self.server.running[lease.job.id]
        video = running[0]
        reports: dict[str, Report] = {
            "progress": VideoProgressed(video, 0.7, "decoding"),
            "try failed": TryFailed(video, FULL, Fault.MACHINE, 2.0),
            "good": finished(video),
            "cut": finished(video, CUT),
            "slow": finished(video, SLOW),
        }
        if event != "progress":
            running.remove(video)
        if event == "try failed":
            self.server.pending[lease.job.id].append(video)
        self.leases.record(lease, reports[event])

    # What happens to the server.

    @rule(seconds=st.sampled_from((0.001, 1, 400)))
    def let_time_pass(self, seconds: float) -> None:
        self.do(self.server.clock.advance(seconds))

    @rule()
    def clean_up(self) -> None:
        self.manager.remove_from_dashboard(lambda job, _: not job.pinned)

    @rule()
    def erase(self) -> None:
        if not self.is_refusing:
            self.do(self.erasure().run_once())

    def erasure(self) -> Erasure:
        return Erasure(self.server.store, Outputs(self.on.settings.outputs), self.on.settings, self.server.clock)

    @rule()
    def refuse_or_accept(self) -> None:
        self.is_refusing = not self.is_refusing
        if self.is_refusing:
            self.server.store.refuse()
        else:
            self.server.store.accept()
            self.do(self.server.parts.journal.durable())

    @rule(jump=st.sampled_from((0, 1, 3_600, -3_600)), politely=st.booleans())
    def restart(self, jump: int, politely: bool) -> None:
        self.covered["stops" if politely else "kills"] += 1
        self.do(self.server.stop() if politely else self.server.kill())
        self.is_refusing = False
        self.do(self.start_server(clock_at(self.server.clock.now() + timedelta(seconds=jump))))

    @rule(who=st.sampled_from(USERS))
    def read(self, who: User) -> None:
        self.do(self.read_all(who))

    async def read_all(self, who: User) -> None:
        """Bring the mirror of this user up to date."""
        mirror, reader = self.mirrors[who.id], self.readers[who.id]
        while (view := reader.take()) is not None:
            mirror.receive(view.batch_frame, at=NOON)
        for job_id, after in list(mirror.gaps.items()):
            try:
                rows = await self.queries.history(job_id, by=who, after=after)
            except JobNotFound:
                mirror.give_up(job_id, gone=True)
            else:
                mirror.fill_in(job_id, map(decoded, rows), at=NOON)

    # What is true after each step.

    @invariant()
    def jobs_are_consistent(self) -> None:
        if hasattr(self, "server") and not self.is_refusing:
            self.do(self.assert_consistent())

    async def assert_consistent(self) -> None:
        """Check that each waiting job is in the queue, and each stored job agrees with its videos and its records."""
        await self.server.parts.journal.durable()
        jobs = await self.stored_jobs()
        waiting = {job.id for job in jobs if job.status is Status.PENDING}
        assert waiting <= set(self.server.executor.queue), "a waiting job is not in the queue"
        for job in jobs:
            self.assert_is_signalled(job)
            if self.checked.get(job.id) != job:
                await self.assert_agrees_with_videos(job)
                await self.assert_history(job)
                await self.assert_timeline(job)
                self.checked[job.id] = job

    def assert_is_signalled(self, job: Job) -> None:
        """Check that the holder of a job with a request has its stop signal."""
        lease = self.server.held.get(job.id)
        if lease is not None and job.requested is not None:
            assert lease.stop.is_draining, f"{job.requested} does not reach the holder"

    async def assert_agrees_with_videos(self, job: Job) -> None:
        videos = (await self.queries.videos(job.id, by=ADMIN)).items
        counts = Counter(video.status for video in videos)
        assert job.current_video == counts[VideoStatus.COMPLETED] + counts[VideoStatus.FAILED]
        assert job.failed == counts[VideoStatus.FAILED]
        assert job.status is Status.PROCESSING or not counts[VideoStatus.PROCESSING]
        has_failed_itself = job.status is Status.FAILED and job.current_video < job.total_videos
        errors = [JOB_ERROR] if has_failed_itself else [video.error for video in videos if video.error]
        assert job.error in errors if errors else job.error is None
        assert job.requested is None or job.status is Status.PROCESSING
        assert job.pause_reason is None or job.status is Status.PAUSED or job.requested == "pause"
        assert (job.finished_at is not None) is job.is_finished
        assert job.started_at is None or job.finished_at is None or job.started_at <= job.finished_at
        assert (job.progress == 100) is (job.is_finished and job.current_video == job.total_videos)
        assert job.status not in WITH_FAILURES or job.error is not None

    async def assert_history(self, job: Job) -> None:
        """Check that the job's history goes on where it was, and ends with the job's newest state."""
        updates = self.updates.setdefault(job.id, [])
        after = updates[-1].seq if updates else None
        for update in map(decoded, await self.queries.history(job.id, by=ADMIN, after=after)):
            if updates:
                assert_follows(updates[-1], update)
            updates.append(update)
        assert updates[-1] == job.update()

    async def assert_timeline(self, job: Job) -> None:
        """Check that the timeline has every change of status and every attempt of the history, and nothing else."""
        updates = self.updates[job.id]
        changed = [
            (update.seq, update.status, update.attempt)
            for earlier, update in zip((None, *updates), updates, strict=False)
            if earlier is None or (earlier.status, earlier.attempt) != (update.status, update.attempt)
        ]
        timeline = await self.queries.timeline(job.id, by=ADMIN)
        milestones = [(milestone.seq, milestone.status.value, milestone.attempt) for milestone in timeline.milestones]
        assert milestones == changed[timeline.earlier :]
        times = [milestone.at for milestone in timeline.milestones]
        assert times == sorted(times)

    async def stored_jobs(self) -> list[Job]:
        return (await self.queries.jobs(by=ADMIN)).items

    async def stored_ids(self) -> set[str]:
        return {job.id for job in await self.stored_jobs()}

    def job_at(self, which: int) -> str:
        return self.jobs[which % len(self.jobs)]

    # What is true at the end.

    def teardown(self) -> None:
        try:
            if hasattr(self, "server"):
                self.do(self.assert_exact())
        finally:
            self.do(self.server.kill())
            self.loop.close()

    async def assert_exact(self) -> None:
        """Check that each result is stored once, each mirror is equal to the store, and deleted jobs leave no rows."""
        self.server.store.accept()
        await self.server.parts.journal.durable()
        await self.until_published()
        for job in await self.stored_jobs():
            for video in (await self.queries.videos(job.id, by=ADMIN)).items:
                assert len(await self.queries.outcomes(job.id, video.position, by=ADMIN)) == video.attempts
        shown = await self.server.store.jobs.on_dashboard()
        for who in USERS:
            await self.read_all(who)
            expected = {job.id: job.update() for job in shown if who.may_see(job.owner_id)}
            assert dict(self.mirrors[who.id].jobs) == expected
        await self.erasure().run_once()
        for table in ("video", "result", "progress_event"):
            left = self.execute(f"DELETE FROM {table} WHERE job_id NOT IN (SELECT id FROM job)")
            assert left == 0, f"rows of deleted jobs are left in {table}"

    async def until_published(self) -> None:
        """Return when readers get everything that is stored, which may be a tick later."""
        hub = self.server.parts.hub
        while hub.seq < hub.stored_seq:
            await hub.wait_past(hub.seq)


def assert_follows(before: ProgressUpdate, update: ProgressUpdate) -> None:
    """Check that nothing of a job goes back within an attempt, and that its status follows the table."""
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


def story_settings(examples: int) -> settings:
    """Return the settings for this many random stories."""
    return settings(
        max_examples=examples,
        stateful_step_count=MAX_STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
    )


def assert_stories_end_well(examples: int) -> None:
    """Run this many random stories."""
    with tempfile.TemporaryDirectory(prefix="control-stories-") as directory:
        Control.installation = asyncio.run(prepare(Path(directory), QuickClock()))
        run_state_machine_as_test(Control, settings=story_settings(examples))
        Control.installation.database.close()


@pytest.mark.no_cover  # its lines are covered elsewhere, and tracing takes longer than the stories
def test_jobs_stay_consistent_whatever_is_requested() -> None:
    assert_stories_end_well(STORIES_IN_THE_GATE)


def main(examples: int = STORIES_IN_A_ROUND) -> None:
    assert_stories_end_well(examples)
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(Control.covered.items()))
    print(f"{examples:,} stories of up to {MAX_STEPS} steps, every job consistent after each step; {counts}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
