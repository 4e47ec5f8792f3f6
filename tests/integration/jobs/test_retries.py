"""Retries of ended jobs: which videos they take, and what they leave as it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from backend.domain.causes import fingerprint
from backend.domain.job import Action, Job, Selection
from backend.domain.video import VideoTimes
from backend.errors import Conflict, Invalid, JobNotFound
from backend.jobs.leases import VideoStarted
from progress_dashboard.protocol import Status
from tests.support.job_states import CUT, SLOW, job_in
from tests.support.managed_backend import ANA, Managed, finished


async def mixed(managed: Managed) -> Job:
    """Return a cancelled job: one good video, three failed ones (cut off, slow, cut off), one that was not started."""
    job = await managed.submit("good", "cut-1", "slow", "cut-2", "undone")
    lease = await managed.claim(job)
    await managed.run_under(lease, [None])
    for video, error in zip((await managed.videos(job))[1:4], (CUT, SLOW, CUT), strict=True):
        await managed.clock.advance(1)
        await managed.report(lease, finished(video, error))
    await managed.manager.cancel(job.id, by=ANA)
    await managed.leases.release(lease)
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
async def test_a_retry_takes_its_selection_and_unstarted_videos(
    managed: Managed, selection: Selection, taken: list[str], failed: int, error: str | None
) -> None:
    """A retry takes the selected videos and those without a result, and leaves the other results as they are."""
    job = await mixed(managed)
    again = await managed.manager.retry(job.id, selection, by=ANA)
    done = 5 - len(taken)
    assert (again.status, again.attempt, again.current_video, again.progress) == (Status.PENDING, 2, done, done * 20)
    assert (again.failed, again.error, again.message) == (
        failed,
        error,
        f"Waiting to retry {len(taken)} video{'s' if len(taken) > 1 else ''}",
    )
    lease = await managed.claim(again)
    assert [video.video_id async for video in managed.leases.pending_videos(lease)] == taken
    for video in await managed.videos(job):
        if video.video_id in taken:
            await managed.report(lease, VideoStarted(video), finished(video))
    end = await managed.stored(job)
    assert (end.status, end.failed) == (Status.COMPLETED_WITH_ERRORS if failed else Status.COMPLETED, failed)


@pytest.mark.parametrize(
    ("action", "selection", "taken"),
    [
        (Action.RETRY, None, ["cut-1", "slow", "cut-2", "undone"]),
        (Action.RETRY, Selection(video_ids=("cut-2",)), ["cut-2", "undone"]),
        (Action.RETRY_ALL, None, ["good", "cut-1", "slow", "cut-2", "undone"]),
    ],
)
async def test_the_retry_actions_take_their_videos(
    managed: Managed, action: Action, selection: Selection | None, taken: list[str]
) -> None:
    """`RETRY` takes its selection, or by default the failed videos; `RETRY_ALL` takes all videos."""
    job = await mixed(managed)
    await managed.manager.act(job.id, action, by=ANA, selection=selection)
    lease = await managed.claim(job)
    assert [video.video_id async for video in managed.leases.pending_videos(lease)] == taken


async def test_a_retry_leaves_the_error_that_came_last(managed: Managed) -> None:
    job = await managed.submit("long", "short", "cut")
    lease = await managed.claim(job)
    long, short, cut = await managed.videos(job)
    early, late = managed.clock.now(), managed.clock.now() + timedelta(seconds=5)
    await managed.report(
        lease,
        replace(finished(short, SLOW), started_at=late, duration_seconds=1.0),
        replace(finished(cut, CUT), started_at=early, duration_seconds=1.0),
        replace(finished(long, "Not a video"), started_at=early, duration_seconds=60.0),
    )
    assert (await managed.manager.retry(job.id, Selection(video_ids=("cut",)), by=ANA)).error == "Not a video"


async def test_a_retry_keeps_earlier_results(managed: Managed) -> None:
    """Earlier results stay as outcomes, but causes count only the newest results."""
    job = await mixed(managed)
    causes = await managed.queries.causes(job.id, by=ANA)
    assert [(cause.count, cause.error, cause.video_id) for cause in causes] == [(2, CUT, "cut-1"), (1, SLOW, "slow")]
    assert [cause.position for cause in causes] == [1, 2]
    again = await managed.manager.retry(job.id, Selection(groups=(causes[0].fingerprint,)), by=ANA)
    await managed.run(again, [None, "Not a video", None])
    outcomes = [await managed.queries.outcomes(job.id, position, by=ANA) for position in (1, 3, 4)]
    assert [[outcome.error for outcome in each] for each in outcomes] == [[CUT, None], [CUT, "Not a video"], [None]]
    assert [outcome.attempt for outcome in outcomes[0]] == [1, 2]
    left = await managed.queries.causes(job.id, by=ANA)
    assert [(cause.count, cause.error) for cause in left] == [(1, SLOW), (1, "Not a video")]


async def test_times_are_of_the_newest_results(managed: Managed) -> None:
    """A job's times come from the newest results; `tried` counts the results of the newest attempt."""
    job = await managed.submit(*(f"v{number:02d}" for number in range(20)))
    lease = await managed.claim(job)
    assert await managed.queries.times(job.id, by=ANA) == VideoTimes()
    for number, video in enumerate(await managed.videos(job)):
        error = CUT if number >= 18 else None
        await managed.report(lease, replace(finished(video, error), duration_seconds=number + 1.0))
    assert await managed.queries.times(job.id, by=ANA) == VideoTimes(videos=20, p50=10.0, p95=19.0, tried=20)
    again = await managed.manager.retry(job.id, Selection(), by=ANA)
    assert await managed.queries.times(job.id, by=ANA) == VideoTimes(videos=18, p50=9.0, p95=18.0, tried=0)
    await managed.run(again, [None])
    assert await managed.queries.times(job.id, by=ANA) == VideoTimes(videos=19, p50=9.0, p95=18.0, tried=1)


async def test_more_causes_than_a_job_has_cannot_be_named(managed: Managed) -> None:
    job = await job_in(managed, "failed")
    with pytest.raises(Invalid, match="At most 1,000 causes"):
        await managed.manager.retry(job.id, Selection(groups=("unknown",) * 1_001), by=ANA)


async def test_videos_that_are_not_in_the_job_cannot_be_retried(managed: Managed) -> None:
    job = await job_in(managed, "failed")
    with pytest.raises(Invalid, match='"three" is not in this job'):
        await managed.manager.retry(job.id, Selection(video_ids=("one", "three")), by=ANA)
    assert await managed.stored(job) == job


async def test_an_empty_selection_is_nothing_to_retry(managed: Managed) -> None:
    job = await job_in(managed, "failed")
    for selection in (Selection(video_ids=()), Selection(groups=("unknown",))):
        with pytest.raises(Conflict, match="nothing to retry"):
            await managed.manager.retry(job.id, selection, by=ANA)


async def test_a_job_that_itself_failed_is_retried_with_the_rest(managed: Managed) -> None:
    job = await managed.submit("one", "two", "three")
    lease = await managed.claim(job)
    await managed.run_under(lease, [None, CUT])
    managed.leases.fail(lease, "The server had a problem.")
    again = await managed.manager.retry(job.id, Selection(video_ids=()), by=ANA)
    assert (again.current_video, again.failed, again.error) == (2, 1, CUT)


async def test_a_retry_shows_a_removed_job_again(managed: Managed) -> None:
    """A retry of a job that left the dashboard brings it back for live and for resumed readers."""
    job = await job_in(managed, "failed")
    await managed.manager.dismiss(job.id, by=ANA)
    reader, away = managed.queries.watch(by=ANA), managed.queries.position
    await reader.next()
    again = await managed.manager.retry(job.id, Selection(), by=ANA)
    assert again.on_dashboard
    live, resumed = await reader.next(), await managed.queries.watch(by=ANA, after=away).next()
    for view in (live, resumed):
        assert ([seen.id for seen in view.updates], view.removed) == ([job.id], ())
    shown = await managed.queries.jobs(by=ANA, dashboard=True)
    assert [seen.id for seen in shown.items] == [job.id]


async def test_two_retries_at_once_are_one(managed: Managed) -> None:
    job = await job_in(managed, "failed")
    both = await asyncio.gather(*(managed.manager.retry(job.id, Selection(), by=ANA) for _ in range(2)))
    assert [again.attempt for again in both] == [2, 2]
    assert len(managed.executor.submitted) == 2


@pytest.mark.parametrize(
    ("first", "second", "refusal"),
    [(Action.DELETE, Action.RETRY, JobNotFound), (Action.RETRY, Action.DELETE, Conflict)],
)
async def test_the_first_of_a_deletion_and_a_retry_counts(
    managed: Managed, first: Action, second: Action, refusal: type[Exception]
) -> None:
    job = await job_in(managed, "failed")
    both = (managed.manager.act(job.id, action, by=ANA) for action in (first, second))
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert not isinstance(answers[0], BaseException)
    assert isinstance(answers[1], refusal)


async def test_a_job_retried_while_it_is_dismissed_is_shown(managed: Managed) -> None:
    job = await job_in(managed, "failed")
    reader = managed.queries.watch(by=ANA)
    await asyncio.gather(
        managed.manager.dismiss(job.id, by=ANA),
        managed.manager.retry(job.id, Selection(), by=ANA),
        return_exceptions=True,
    )
    now = await managed.stored(job)
    assert (now.status, now.on_dashboard, now.attempt) == (Status.PENDING, True, 2)
    assert [(seen.id, seen.attempt) for seen in (await reader.next()).updates][-1] == (job.id, 2)
