"""What may be asked of a job in each of its states, and what becomes of it; over a real store and hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backend.domain.auth import User
from backend.domain.causes import fingerprint
from backend.domain.job import Action, Job, Selection, offered_actions
from backend.domain.video import VideoStatus, VideoTimes
from backend.errors import Conflict, Fault, Invalid, JobNotFound, NotFound, StoreRefused
from backend.jobs.manager import JobManager, TryFailed, VideoStarted
from backend.jobs.retention import Erasure, leaves
from backend.lists.csv_files import list_of_ids
from backend.settings import Settings
from backend.store import Database, JobStore
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, RefusingStore, ended, open_managed

Ask = Callable[[JobManager, str, User], Awaitable[Any]]
STATES = (
    "pending",
    "processing",
    "pausing",
    "cancelling",
    "paused",
    "completed",
    "completed_with_errors",
    "failed",
    "cancelled",
)
ASKS: Mapping[Action, Ask] = {
    Action.CANCEL: lambda manager, job_id, by: manager.cancel(job_id, by=by),
    Action.PAUSE: lambda manager, job_id, by: manager.pause(job_id, by=by),
    Action.RESUME: lambda manager, job_id, by: manager.resume(job_id, by=by),
    Action.RETRY: lambda manager, job_id, by: manager.retry(job_id, Selection(), by=by),
    Action.RETRY_ALL: lambda manager, job_id, by: manager.retry(job_id, Selection(everything=True), by=by),
    Action.KEEP: lambda manager, job_id, by: manager.keep(job_id, by=by),
    Action.DISMISS: lambda manager, job_id, by: manager.dismiss(job_id, by=by),
    Action.RUN_NEXT: lambda manager, job_id, by: manager.run_next(job_id, by=by),
    Action.RUN_LAST: lambda manager, job_id, by: manager.run_last(job_id, by=by),
    Action.DELETE: lambda manager, job_id, by: manager.delete(job_id, by=by),
}
NOT_ENDED, BEING_CANCELLED, NOTHING = "has not ended yet", "is being cancelled", "nothing to retry"
AS_BEFORE = STATES
ENDED_AS_BEFORE = STATES[5:]
OUTCOMES: Mapping[Action, tuple[str, ...]] = {
    Action.CANCEL: ("cancelled", "cancelling", "cancelling", "cancelling", "cancelled", *ENDED_AS_BEFORE),
    Action.PAUSE: ("paused", "pausing", "pausing", "cancelling", "paused", *ENDED_AS_BEFORE),
    Action.RESUME: ("pending", "processing", "processing", BEING_CANCELLED, "pending", *ENDED_AS_BEFORE),
    Action.RETRY: (*(NOT_ENDED,) * 5, NOTHING, "pending", "pending", "pending"),
    Action.RETRY_ALL: (*(NOT_ENDED,) * 5, *("pending",) * 4),
    Action.KEEP: AS_BEFORE,
    Action.DISMISS: (*(NOT_ENDED,) * 5, *ENDED_AS_BEFORE),
    Action.RUN_NEXT: AS_BEFORE,
    Action.RUN_LAST: AS_BEFORE,
    Action.DELETE: (*(NOT_ENDED,) * 5, *("gone",) * 4),
}


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


@pytest.fixture
async def refusing(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Managed, RefusingStore]]:
    """Over a database that refuses when it is told to."""
    store = RefusingStore(database)
    async with open_managed(store, tmp_path) as opened:
        yield opened, store
        store.accept()


async def in_state(managed: Managed, state: str) -> Job:
    """A job of two videos in this state; the first one is done already in those that had to begin."""
    job = await managed.submit("one", "two")
    match state:
        case "pending":
            return job
        case "paused":
            return await managed.manager.pause(job.id, by=ANA)
        case "completed":
            return await managed.run(job, [None, None])
        case "completed_with_errors":
            return await managed.run(job, [None, "File is cut off"])
        case "failed":
            return await managed.run(job, ["File is cut off", "File is cut off"])
    claimed = await managed.run(job, [None])
    if state == "processing":
        return claimed
    if state == "pausing":
        return await managed.manager.pause(job.id, by=ANA)
    asked = await managed.manager.cancel(job.id, by=ANA)
    if state == "cancelling":
        return asked
    await managed.manager.let_go(job.id, claimed.epoch)
    return await managed.stored(job)


def state_of(job: Job) -> str:
    return {"pause": "pausing", "cancel": "cancelling", None: job.status.value}[job.requested]


# Each action in each state.


@pytest.mark.parametrize("action", OUTCOMES)
async def test_what_is_asked_happens_or_is_refused_in_words_and_said_twice_it_happens_once(
    managed: Managed, action: Action
) -> None:
    for state, outcome in zip(STATES, OUTCOMES[action], strict=True):
        job = await in_state(managed, state)
        assert state_of(job) == state
        if outcome not in (*STATES, "gone"):
            with pytest.raises(Conflict, match=outcome):
                await ASKS[action](managed.manager, job.id, ANA)
            assert await managed.stored(job) == job
            continue
        answer = await ASKS[action](managed.manager, job.id, ANA)
        if outcome == "gone":
            for _ in range(2):
                with pytest.raises(JobNotFound):
                    await ASKS[action](managed.manager, job.id, ANA)
            continue
        assert state_of(answer) == outcome
        assert await managed.stored(job) == answer
        assert await ASKS[action](managed.manager, job.id, ANA) == answer


async def test_what_is_offered_is_never_refused(managed: Managed) -> None:
    for state in STATES:
        for action in offered_actions(await in_state(managed, state)):
            job = await in_state(managed, state)
            await ASKS[action](managed.manager, job.id, ANA)


async def test_what_leaves_the_state_is_only_offered_where_it_does_something(managed: Managed) -> None:
    for state in STATES:
        is_offered = set(offered_actions(await in_state(managed, state)))
        for action in (Action.CANCEL, Action.PAUSE, Action.RESUME, Action.RETRY, Action.DELETE):
            outcome = OUTCOMES[action][STATES.index(state)]
            assert (action in is_offered) is (outcome in (*STATES, "gone") and outcome != state), (state, action)


@pytest.mark.parametrize("action", ASKS)
async def test_a_strangers_job_cannot_be_controlled_and_is_not_there(managed: Managed, action: Action) -> None:
    for state in ("pending", "processing", "completed", "failed"):
        job = await in_state(managed, state)
        for job_id in (job.id, "never-was"):
            with pytest.raises(JobNotFound):
                await ASKS[action](managed.manager, job_id, BEN)
        assert await managed.stored(job) == job


async def test_an_administrator_controls_everybodys_jobs(managed: Managed) -> None:
    job = await in_state(managed, "pending")
    assert (await managed.manager.pause(job.id, by=ADMIN)).status is Status.PAUSED


@pytest.mark.parametrize("action", [Action.PAUSE, Action.RESUME, Action.RUN_NEXT])
async def test_a_job_that_runs_elsewhere_is_only_cancelled_here_and_that_at_once(
    managed: Managed, action: Action
) -> None:
    videos = list_of_ids(["one"])
    job = (await managed.manager.submit(videos, by=ANA, name="there", processor=EXTERNAL)).job
    with pytest.raises(Conflict, match="runs elsewhere"):
        await ASKS[action](managed.manager, job.id, ANA)
    await managed.manager.hear(job.id, [SenderReport(n=1, status="processing")], by=ANA)
    cancelled = await managed.manager.cancel(job.id, by=ANA)
    assert (cancelled.status, cancelled.message) == (Status.CANCELLED, "Cancelled at 0/1")
    with pytest.raises(Conflict, match="was cancelled"):
        await managed.manager.hear(job.id, [SenderReport(n=2, progress=50)], by=ANA)
    with pytest.raises(Conflict, match="can only be retried where it runs"):
        await managed.manager.retry(job.id, Selection(), by=ANA)


# Retries.

CUT, SLOW = "File is cut off", "It took too long"


async def mixed(managed: Managed) -> Job:
    """A cancelled job of a good video, three that failed (cut off, too slow, cut off), and one that was never done."""
    job = await managed.submit("good", "cut-1", "slow", "cut-2", "undone")
    claimed = await managed.run(job, [None])
    for video, error in zip((await managed.videos(job))[1:4], (CUT, SLOW, CUT), strict=True):
        await managed.clock.advance(1)
        await managed.report(claimed, ended(video, error))
    await managed.manager.cancel(job.id, by=ANA)
    await managed.manager.let_go(job.id, claimed.epoch)
    return await managed.stored(job)


@pytest.mark.parametrize(
    ("selection", "taken", "failed", "error"),
    [
        (Selection(), ["cut-1", "slow", "cut-2", "undone"], 0, None),
        (Selection(everything=True), ["good", "cut-1", "slow", "cut-2", "undone"], 0, None),
        (Selection(video_ids=("cut-2",)), ["cut-2", "undone"], 2, SLOW),
        (Selection(video_ids=("good", "slow", "good")), ["good", "slow", "undone"], 2, CUT),
        (Selection(video_ids=()), ["undone"], 3, CUT),
        (Selection(groups=(fingerprint(CUT, "cut-1"),)), ["cut-1", "cut-2", "undone"], 1, SLOW),
        (Selection(groups=(fingerprint(SLOW, "slow"),)), ["slow", "undone"], 2, CUT),
        (Selection(groups=("unknown",)), ["undone"], 3, CUT),
        (
            Selection(groups=(fingerprint(CUT, "x"), fingerprint(SLOW, "x"))),
            ["cut-1", "slow", "cut-2", "undone"],
            0,
            None,
        ),
        (Selection(groups=()), ["undone"], 3, CUT),
    ],
)
async def test_a_retry_takes_its_selection_and_what_was_never_done_and_leaves_the_rest_as_it_is(
    managed: Managed, selection: Selection, taken: list[str], failed: int, error: str | None
) -> None:
    job = await mixed(managed)
    again = await managed.manager.retry(job.id, selection, by=ANA)
    done = 5 - len(taken)
    assert (again.status, again.attempt, again.current_video, again.progress) == (Status.PENDING, 2, done, done * 20)
    assert (again.failed, again.error, again.message) == (
        failed,
        error,
        f"Waiting to try {len(taken)} video{'s' if len(taken) > 1 else ''} again",
    )
    claimed = await managed.claim(again)
    assert [video.video_id async for video in managed.manager.todo(claimed)] == taken
    for video in await managed.videos(job):
        if video.video_id in taken:
            await managed.report(claimed, VideoStarted(video), ended(video))
    end = await managed.stored(job)
    assert (end.status, end.failed) == (Status.COMPLETED_WITH_ERRORS if failed else Status.COMPLETED, failed)


async def test_the_error_that_a_retry_leaves_is_the_one_that_came_last(managed: Managed) -> None:
    job = await managed.submit("long", "short", "broken")
    claimed = await managed.run(job, [])
    long, short, broken = await managed.videos(job)
    early, late = managed.clock.now(), managed.clock.now() + timedelta(seconds=5)
    await managed.report(
        claimed,
        replace(ended(short, SLOW), started_at=late, duration_seconds=1.0),
        replace(ended(broken, CUT), started_at=early, duration_seconds=1.0),
        replace(ended(long, "Not a video"), started_at=early, duration_seconds=60.0),
    )
    assert (await managed.manager.retry(job.id, Selection(video_ids=("broken",)), by=ANA)).error == "Not a video"


async def test_earlier_results_are_kept_and_only_those_that_failed_now_are_causes(managed: Managed) -> None:
    job = await mixed(managed)
    causes = await managed.manager.causes(job.id, by=ANA)
    assert [(cause.count, cause.error, cause.video_id) for cause in causes] == [(2, CUT, "cut-1"), (1, SLOW, "slow")]
    assert [cause.position for cause in causes] == [1, 2]
    again = await managed.manager.retry(job.id, Selection(groups=(causes[0].fingerprint,)), by=ANA)
    await managed.run(again, [None, "Not a video", None])
    outcomes = [await managed.manager.outcomes(job.id, position, by=ANA) for position in (1, 3, 4)]
    assert [[outcome.error for outcome in each] for each in outcomes] == [[CUT, None], [CUT, "Not a video"], [None]]
    assert [outcome.attempt for outcome in outcomes[0]] == [1, 2]
    left = await managed.manager.causes(job.id, by=ANA)
    assert [(cause.count, cause.error) for cause in left] == [(1, SLOW), (1, "Not a video")]


async def test_more_causes_than_a_job_has_cannot_be_named_in_one_retry(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    with pytest.raises(Invalid, match="At most 1,000 causes"):
        await managed.manager.retry(job.id, Selection(groups=("unknown",) * 1_001), by=ANA)


async def test_a_cause_has_the_trace_of_its_example(managed: Managed) -> None:
    job = await managed.submit("first", "second")
    claimed = await managed.run(job, [])
    for video in await managed.videos(job):
        await managed.report(claimed, replace(ended(video, CUT), traceback=f"Traceback of {video.video_id}"))
    [cause] = await managed.manager.causes(job.id, by=ANA)
    assert (cause.count, cause.traceback) == (2, "Traceback of first")


async def test_videos_are_found_by_the_beginning_of_their_id_and_by_any_part_of_their_newest_error(
    managed: Managed,
) -> None:
    job = await mixed(managed)

    async def found(q: str) -> list[str]:
        return [video.video_id for video in (await managed.manager.videos(job.id, by=ANA, q=q)).items]

    assert await found("cut") == ["cut-1", "cut-2"]
    assert await found("-1") == []
    assert await found(CUT[3:].upper()) == ["cut-1", "cut-2"]
    assert await found("%") == []
    failed = await managed.manager.videos(job.id, by=ANA, q=SLOW, status=VideoStatus.COMPLETED)
    assert failed.items == []
    again = await managed.manager.retry(job.id, Selection(video_ids=("cut-1",)), by=ANA)
    await managed.run(again, ["Not a video"])
    assert await found(CUT) == ["cut-2"]
    assert await found("a video") == ["cut-1"]


async def test_the_times_of_a_job_are_those_of_the_newest_results_and_count_its_newest_attempt(
    managed: Managed,
) -> None:
    job = await managed.submit(*(f"v{number:02d}" for number in range(20)))
    claimed = await managed.run(job, [])
    assert await managed.manager.times(job.id, by=ANA) == VideoTimes()
    for number, video in enumerate(await managed.videos(job)):
        error = CUT if number >= 18 else None
        await managed.report(claimed, replace(ended(video, error), duration_seconds=number + 1.0))
    assert await managed.manager.times(job.id, by=ANA) == VideoTimes(videos=20, p50=10.0, p95=19.0, tried=20)
    again = await managed.manager.retry(job.id, Selection(), by=ANA)
    assert await managed.manager.times(job.id, by=ANA) == VideoTimes(videos=18, p50=9.0, p95=18.0, tried=0)
    await managed.run(again, [None])
    assert await managed.manager.times(job.id, by=ANA) == VideoTimes(videos=19, p50=9.0, p95=18.0, tried=1)


async def test_videos_that_are_not_in_the_job_cannot_be_retried(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    with pytest.raises(Invalid, match='"three" is not in this job'):
        await managed.manager.retry(job.id, Selection(video_ids=("one", "three")), by=ANA)
    assert await managed.stored(job) == job


async def test_where_a_selection_holds_nothing_there_is_nothing_to_retry(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    for selection in (Selection(video_ids=()), Selection(groups=("unknown",))):
        with pytest.raises(Conflict, match=NOTHING):
            await managed.manager.retry(job.id, selection, by=ANA)


async def test_a_job_that_itself_failed_is_retried_with_what_it_left(managed: Managed) -> None:
    job = await managed.submit("one", "two", "three")
    claimed = await managed.run(job, [None, CUT])
    managed.manager.fail(job.id, claimed.epoch, "The server had a problem.")
    again = await managed.manager.retry(job.id, Selection(video_ids=()), by=ANA)
    assert (again.current_video, again.failed, again.error) == (2, 1, CUT)


async def test_a_retry_of_a_job_that_left_the_dashboard_brings_it_back_for_all_readers(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    await managed.manager.dismiss(job.id, by=ANA)
    reader, away = managed.manager.watch(by=ANA), managed.hub.seq
    await reader.next()
    again = await managed.manager.retry(job.id, Selection(), by=ANA)
    assert again.on_dashboard
    live, resumed = await reader.next(), await managed.manager.watch(by=ANA, after=away).next()
    for view in (live, resumed):
        assert ([seen.id for seen in view.updates], view.removed) == ([job.id], ())
    shown = await managed.manager.jobs(by=ANA, dashboard=True)
    assert [seen.id for seen in shown.items] == [job.id]


async def test_two_retries_at_once_are_one(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    both = await asyncio.gather(*(managed.manager.retry(job.id, Selection(), by=ANA) for _ in range(2)))
    assert [again.attempt for again in both] == [2, 2]
    assert len(managed.executor.submitted) == 2


async def test_of_a_deletion_and_a_retry_at_once_the_first_one_counts(managed: Managed) -> None:
    for first in (Action.DELETE, Action.RETRY):
        job = await in_state(managed, "failed")
        order = sorted((Action.DELETE, Action.RETRY), key=lambda action: action is not first)
        answers = await asyncio.gather(
            *(ASKS[action](managed.manager, job.id, ANA) for action in order), return_exceptions=True
        )
        refused = JobNotFound if first is Action.DELETE else Conflict
        assert isinstance(answers[1], refused), first
        assert not isinstance(answers[0], Exception)


async def test_of_a_dismissal_and_a_retry_at_once_the_retried_job_is_shown(managed: Managed) -> None:
    job = await in_state(managed, "failed")
    reader = managed.manager.watch(by=ANA)
    await asyncio.gather(
        managed.manager.dismiss(job.id, by=ANA),
        managed.manager.retry(job.id, Selection(), by=ANA),
        return_exceptions=True,
    )
    now = await managed.stored(job)
    assert (now.status, now.on_dashboard, now.attempt) == (Status.PENDING, True, 2)
    assert [(seen.id, seen.attempt) for seen in (await reader.next()).updates][-1] == (job.id, 2)


# Leaving the dashboard, and the records.


async def test_a_job_dismissed_in_the_moment_of_its_end_is_seen_to_end_and_leave(managed: Managed) -> None:
    job = await managed.submit("one")
    claimed = await managed.claim(job)
    [video] = await managed.videos(job)
    reader = managed.manager.watch(by=ANA)
    await reader.next()
    managed.manager.record(job.id, claimed.epoch, ended(video))
    await managed.manager.dismiss(job.id, by=ANA)
    end, *removal = [await reader.next() for _ in range(2)]
    assert ([seen.status for seen in end.updates], removal[0].removed) == ([Status.COMPLETED], (job.id,))


async def test_a_kept_job_stays_when_its_time_is_over_and_goes_when_it_is_dismissed(managed: Managed) -> None:
    kept, other = await in_state(managed, "completed"), await in_state(managed, "completed")
    assert (await managed.manager.keep(kept.id, by=ANA)).kept
    await managed.clock.advance(10 * 86_400)
    managed.manager.remove_from_dashboard(lambda job, now: leaves(job, now, Settings.model_construct()))
    shown = [(await managed.stored(job)).on_dashboard for job in (kept, other)]
    assert shown == [True, False]
    assert not (await managed.manager.dismiss(kept.id, by=ANA)).on_dashboard


async def test_what_is_kept_is_known_after_a_restart(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await in_state(first, "completed")
        await first.manager.keep(job.id, by=ANA)
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        second.manager.remove_from_dashboard(lambda job, _: not job.kept)
        assert (await second.stored(job)).on_dashboard


def rows_of(database: Database, job: Job) -> int:
    """In all tables but that of tombstones."""
    tables = ("video", "result", "progress_event", "milestone", "idempotency_key")
    counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE job_id = :job)" for table in tables)
    query = text(f"SELECT {counts} + (SELECT count(*) FROM job WHERE id = :job)")
    return database.read_now(lambda connection: connection.execute(query, {"job": job.id}).scalar()) or 0


def settings_in(directory: Path) -> Settings:
    return Settings.model_construct(data_dir=directory)


async def test_a_deleted_job_is_gone_at_once_and_its_rows_and_files_soon_after(
    managed: Managed, database: Database, tmp_path: Path
) -> None:
    deleted, other = await in_state(managed, "failed"), await in_state(managed, "failed")
    settings = settings_in(tmp_path)
    for job in (deleted, other):
        (settings.outputs / job.id / "0").mkdir(parents=True)
        (settings.outputs / job.id / "0" / "poster.jpg").touch()
    reader = managed.manager.watch(by=ANA)
    await reader.next()
    await managed.manager.delete(deleted.id, by=ANA)
    assert (await reader.next()).removed == (deleted.id,)
    assert [job.id for job in (await managed.manager.jobs(by=ANA)).items] == [other.id]
    with pytest.raises(NotFound):
        await managed.manager.history(deleted.id, by=ANA)
    await Erasure(managed.store, settings, managed.clock).run_once()
    assert rows_of(database, deleted) == 0 < rows_of(database, other)
    assert [path.name for path in settings.outputs.iterdir()] == [other.id]
    assert await managed.store.deleted_jobs() == []


async def test_an_erasure_that_was_broken_off_is_taken_up_again_in_the_next_life(
    database: Database, store: JobStore, tmp_path: Path
) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await in_state(first, "failed")
        await first.manager.delete(job.id, by=ANA)
        assert await store.erase_some(job.id)
        assert rows_of(database, job) > 0
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        await Erasure(store, settings_in(tmp_path), second.clock).run_once()
        assert rows_of(database, job) == 0


async def test_who_was_away_while_jobs_were_deleted_is_told_after_a_restart(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        dismissed, deleted = await in_state(first, "failed"), await in_state(first, "completed")
        away = first.hub.seq
        await first.manager.dismiss(dismissed.id, by=ANA)
        await first.manager.delete(dismissed.id, by=ANA)
        await first.manager.delete(deleted.id, by=ANA)
        last = first.hub.seq
    async with open_managed(store, tmp_path) as second:
        assert await store.last_seq() == last <= second.hub.seq
        view = await second.manager.watch(by=ANA, after=away).next()
        assert (view.snapshot, set(view.removed), view.updates) == (False, {dismissed.id, deleted.id}, ())
        assert (await second.manager.watch(by=BEN).next()).removed == ()


async def test_the_key_of_a_deleted_job_makes_a_new_one(managed: Managed) -> None:
    videos = list_of_ids(["one"])

    async def submitted() -> Job:
        return (await managed.manager.submit(videos, by=ANA, name="list", idempotency_key="k")).job

    job = await submitted()
    assert (await submitted()).id == job.id
    await managed.manager.cancel(job.id, by=ANA)
    await managed.manager.delete(job.id, by=ANA)
    assert (await submitted()).id != job.id


# The order of the line.


async def test_a_priority_is_stored_and_told_to_the_executor_only_while_the_job_waits(managed: Managed) -> None:
    waiting, running = await in_state(managed, "pending"), await in_state(managed, "processing")
    assert (await managed.manager.prioritise(waiting.id, 7, by=ANA)).priority == 7
    assert (await managed.manager.prioritise(running.id, 7, by=ANA)).priority == 0
    assert managed.executor.priorities[waiting.id] == 7
    paused = await managed.manager.pause(waiting.id, by=ANA)
    assert (await managed.manager.prioritise(paused.id, -1000, by=ANA)).priority == -1000
    await managed.manager.resume(paused.id, by=ANA)
    assert managed.executor.priorities[waiting.id] == -1000


@pytest.mark.parametrize("priority", [-1001, 1001])
async def test_a_priority_beyond_the_limits_is_refused(managed: Managed, priority: int) -> None:
    job = await in_state(managed, "pending")
    with pytest.raises(Invalid, match="from -1,000 to 1,000"):
        await managed.manager.prioritise(job.id, priority, by=ANA)


async def test_next_and_last_are_before_and_behind_the_owners_own_jobs(managed: Managed) -> None:
    jobs = [await managed.submit("one") for _ in range(3)]
    theirs = await managed.submit("one", by=BEN)
    await managed.manager.prioritise(theirs.id, 500, by=BEN)
    await managed.manager.prioritise(jobs[1].id, 20, by=ANA)
    assert (await managed.manager.run_next(jobs[0].id, by=ANA)).priority == 21
    assert (await managed.manager.run_last(jobs[2].id, by=ADMIN)).priority == 19


# A new life of the server.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *((state, state) for state in STATES if state not in ("processing", "pausing", "cancelling")),
        ("processing", "pending"),
        ("pausing", "paused"),
        ("cancelling", "cancelled"),
    ],
)
async def test_after_a_death_each_job_is_what_was_asked_of_it_or_in_line_again(
    store: JobStore, tmp_path: Path, before: str, after: str
) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await in_state(first, before)
        if before in ("processing", "pausing", "cancelling"):
            await first.report(job, VideoStarted((await first.videos(job))[1]))
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        now = await second.stored(job)
        assert (state_of(now), now.current_video, now.failed) == (after, job.current_video, job.failed)
        assert VideoStatus.PROCESSING not in {video.status for video in await second.videos(job)}
        assert [job_id for job_id, *_ in second.executor.submitted] == ([job.id] if after == "pending" else [])


async def test_a_job_that_goes_on_after_a_restart_says_where(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await in_state(first, "processing")
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        assert (await second.stored(job)).message == "Waiting to go on after a restart"
        claimed = await second.claim(job)
        assert (claimed.message, claimed.resumed) == ("Resumed at 1/2 after a restart", 1)
        assert (await second.run_on(claimed, [None])).message == "All done: 2 videos"


async def test_a_job_that_was_paused_by_itself_still_says_why_after_a_death(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await in_state(first, "processing")
        second_video = (await first.videos(job))[1]
        vain = TryFailed(second_video, "The disk is full.", Fault.MACHINE, 2.0)
        await first.report(job, vain, vain, vain)
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        now = await second.stored(job)
        assert (now.status, now.message) == (
            Status.PAUSED,
            "Paused by itself: 3 failures in a row: The disk is full.",
        )


async def test_a_clock_that_was_set_back_in_between_ends_no_job_before_its_start(
    store: JobStore, tmp_path: Path
) -> None:
    async with open_managed(store, tmp_path) as first:
        await first.clock.advance(86_400)
        job = await in_state(first, "processing")
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        end = await second.run(job, [None])
        assert end.started_at is not None
        assert end.finished_at is not None
        assert timedelta(0) <= end.finished_at - end.started_at


# A database that refuses.


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        ("pending", Action.CANCEL, "cancelled"),
        ("pending", Action.PAUSE, "paused"),
        ("processing", Action.CANCEL, "cancelling"),
        ("processing", Action.PAUSE, "pausing"),
        ("paused", Action.RESUME, "pending"),
        ("failed", Action.KEEP, "failed"),
        ("failed", Action.DISMISS, "failed"),
        ("pending", Action.RUN_NEXT, "pending"),
    ],
)
async def test_what_cannot_be_stored_now_is_said_at_once_and_done_as_soon_as_it_can(
    refusing: tuple[Managed, RefusingStore], state: str, action: Action, after: str
) -> None:
    managed, store = refusing
    job = await in_state(managed, state)
    store.refuse()
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await ASKS[action](managed.manager, job.id, ANA)
    assert await managed.manager.find(job.id, by=ANA) == job
    store.accept()
    now = await managed.stored(job)
    assert state_of(now) == after
    assert now != job


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
async def test_what_has_to_be_looked_up_first_is_refused_while_nothing_can_be_stored(
    refusing: tuple[Managed, RefusingStore], action: Action
) -> None:
    managed, store = refusing
    job, other = await in_state(managed, "failed"), await in_state(managed, "pending")
    store.refuse()
    with pytest.raises(StoreRefused):
        await managed.manager.pause(other.id, by=ANA)  # from here on it is known
    with pytest.raises(StoreRefused):
        await ASKS[action](managed.manager, job.id, ANA)
    store.accept()
    assert await managed.stored(job) == job
    await ASKS[action](managed.manager, job.id, ANA)


async def test_a_job_that_is_deleted_while_nothing_can_be_stored_goes_once_it_can(
    refusing: tuple[Managed, RefusingStore],
) -> None:
    managed, store = refusing
    job = await in_state(managed, "failed")
    store.refuse(after=1)  # the last state of the job is still stored
    for action in (Action.DELETE, Action.DELETE, Action.RETRY):
        with pytest.raises(StoreRefused):
            await ASKS[action](managed.manager, job.id, ANA)
    store.accept()
    await managed.hub.durable()
    with pytest.raises(JobNotFound):
        await managed.manager.find(job.id, by=ANA)


async def test_a_retry_that_could_not_be_stored_begins_once_it_can(refusing: tuple[Managed, RefusingStore]) -> None:
    managed, store = refusing
    job = await in_state(managed, "failed")
    store.refuse(after=1)
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await managed.manager.retry(job.id, Selection(), by=ANA)
    store.accept()
    claimed = await managed.claim(job)
    assert (claimed.attempt, [video.video_id async for video in managed.manager.todo(claimed)]) == (2, ["one", "two"])


async def test_a_request_with_a_key_that_was_refused_and_is_sent_again_makes_one_job(
    refusing: tuple[Managed, RefusingStore],
) -> None:
    managed, store = refusing
    videos = list_of_ids(["one"])
    store.refuse(after=1)
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await managed.manager.submit(videos, by=ANA, name="list", idempotency_key="k")
    store.accept()
    await managed.hub.durable()
    job = (await managed.manager.submit(videos, by=ANA, name="list", idempotency_key="k")).job
    assert [job.id for job in (await managed.manager.jobs(by=ANA)).items] == [job.id]
    assert [job_id for job_id, *_ in managed.executor.submitted] == [job.id]
