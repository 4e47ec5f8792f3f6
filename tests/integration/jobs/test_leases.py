"""What the holder of a job may do, how it is stopped, and that an old lease counts for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest

from backend.delivery.hub import Reader
from backend.domain.job import Selection
from backend.domain.video import Video, VideoStatus
from backend.errors import Fault
from backend.jobs.leases import Lease, Report, TryFailed, VideoProgressed, VideoStarted
from progress_dashboard.protocol import Status
from tests.support.job_states import CUT
from tests.support.managed_backend import ANA, PAUSE_AFTER_FAILURES, Managed, finished


async def next_of(reader: Reader) -> list[tuple[Status, int, int, str | None]]:
    """Return what the reader sees next of its jobs."""
    return [(seen.status, seen.progress, seen.running, seen.doing) for seen in (await reader.next()).updates]


async def test_a_job_is_claimed_once(managed: Managed) -> None:
    job = await managed.submit("one")
    first, again = [await managed.leases.claim(job.id) for _ in range(2)]
    assert first is not None
    assert (first.job.status, first.job.lease_id, again) == (Status.PROCESSING, 1, None)
    assert await managed.leases.claim("unknown") is None


async def test_readers_see_what_the_holder_reports(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one", "two"))
    await managed.journal.durable()
    reader = managed.queries.watch(by=ANA)
    assert await next_of(reader) == [(Status.PROCESSING, 0, 0, None)]
    first, _ = await managed.videos(lease.job)
    await managed.report(lease, VideoStarted(first))
    assert await next_of(reader) == [(Status.PROCESSING, 0, 1, "starting")]
    await managed.report(lease, VideoProgressed(first, 0.5, "decoding"), VideoProgressed(first, 0.2, "decoding"))
    assert await next_of(reader) == [(Status.PROCESSING, 25, 1, "decoding")]
    await managed.report(lease, finished(first))
    assert await next_of(reader) == [(Status.PROCESSING, 50, 0, None)]


async def test_the_last_result_ends_the_job(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one", "two"))
    first, second = await managed.videos(lease.job)
    await managed.clock.advance(60)
    await managed.report(lease, VideoStarted(first), VideoStarted(second), finished(second, CUT))
    assert (await managed.stored(lease.job)).status is Status.PROCESSING
    await managed.report(lease, finished(first))
    end = await managed.stored(lease.job)
    assert (end.status, end.progress, end.failed, end.running) == (Status.COMPLETED_WITH_ERRORS, 100, 1, 0)
    assert (end.error, end.finished_at) == (CUT, managed.clock.now())
    assert [(video.status, video.attempts, video.result, video.error) for video in await managed.videos(end)] == [
        (VideoStatus.COMPLETED, 1, {"frames": 25}, None),
        (VideoStatus.FAILED, 1, None, CUT),
    ]


async def test_a_released_job_waits_again_with_its_rest(managed: Managed) -> None:
    job = await managed.submit("one", "two", "three")
    lease = await managed.claim(job)
    first, second, _ = await managed.videos(job)
    await managed.report(lease, VideoStarted(first), finished(first), VideoStarted(second))
    await managed.leases.release(lease)
    assert managed.executor.submitted == [(job.id, "ana", True)] * 2
    released = await managed.stored(job)
    assert (released.status, released.current_video, released.running) == (Status.PENDING, 1, 0)
    again = await managed.claim(job)
    left = [(video.video_id, video.status) async for video in managed.leases.pending_videos(again)]
    assert left == [("two", VideoStatus.PENDING), ("three", VideoStatus.PENDING)]


async def test_a_new_lease_begins_with_no_running_videos(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one", "two", "three"))
    first, second, third = await managed.videos(lease.job)
    await managed.report(lease, VideoProgressed(first, 0.9, "decoding"), VideoStarted(second))
    await managed.leases.release(lease)
    again = await managed.claim(lease.job)
    await managed.journal.durable()
    reader = managed.queries.watch(by=ANA)
    await reader.next()
    await managed.report(again, VideoStarted(third))
    assert await next_of(reader) == [(Status.PROCESSING, 30, 1, "starting")]


async def test_a_job_that_itself_failed_stays_failed(managed: Managed) -> None:
    """A job that itself failed ends with its own sentence, and nothing that follows changes that."""
    lease = await managed.claim(await managed.submit("one"))
    [video] = await managed.videos(lease.job)
    await managed.report(lease, VideoStarted(video))
    managed.leases.fail(lease, "The server had a problem.")
    await managed.leases.release(lease)
    await managed.report(lease, finished(video))
    end = await managed.stored(lease.job)
    assert (end.status, end.error, end.current_video) == (Status.FAILED, "The server had a problem.", 0)
    assert [video.status for video in await managed.videos(end)] == [VideoStatus.PENDING]
    assert len(managed.executor.submitted) == 1


# An old lease.

REPORTS: Mapping[str, Callable[[Video], Report]] = {
    "started": VideoStarted,
    "progressed": lambda video: VideoProgressed(video, 0.9, "decoding"),
    "a failed try": lambda video: TryFailed(video, "The disk is full.", Fault.MACHINE, 2.0),
    "a good result": finished,
    "a failure": lambda video: finished(video, "Too late", fault=Fault.MACHINE),
}


async def released(managed: Managed, lease: Lease) -> None:
    await managed.leases.release(lease)


async def claimed_again(managed: Managed, lease: Lease) -> None:
    await managed.leases.release(lease)
    await managed.claim(lease.job)


async def paused(managed: Managed, lease: Lease) -> None:
    await managed.manager.pause(lease.job.id, by=ANA)
    await managed.leases.release(lease)


async def cancelled(managed: Managed, lease: Lease) -> None:
    await managed.manager.cancel(lease.job.id, by=ANA)
    await managed.leases.release(lease)


async def retried(managed: Managed, lease: Lease) -> None:
    await cancelled(managed, lease)
    await managed.claim(await managed.manager.retry(lease.job.id, Selection(), by=ANA))


async def failed(managed: Managed, lease: Lease) -> None:
    managed.leases.fail(lease, "The server had a problem.")


async def completed(managed: Managed, lease: Lease) -> None:
    await managed.run_under(lease, [None, None])


async def removed(managed: Managed, lease: Lease) -> None:
    await completed(managed, lease)
    await managed.manager.dismiss(lease.job.id, by=ANA)


@pytest.mark.parametrize("ending", [released, claimed_again, paused, cancelled, retried, failed, completed, removed])
async def test_nothing_counts_under_an_old_lease(
    managed: Managed, ending: Callable[[Managed, Lease], Awaitable[None]]
) -> None:
    """Under a lease that ended in any way, every report, a failure of the job and a release are ignored."""
    lease = await managed.claim(await managed.submit("one", "two"))
    video, _ = await managed.videos(lease.job)
    await ending(managed, lease)
    before, videos = await managed.stored(lease.job), await managed.videos(lease.job)
    submitted = list(managed.executor.submitted)
    assert not managed.leases.is_held(lease)
    for report in REPORTS.values():
        await managed.report(lease, *[report(video)] * PAUSE_AFTER_FAILURES)
    managed.leases.fail(lease, "Too late as well.")
    await managed.leases.release(lease)
    assert await managed.stored(lease.job) == before
    assert await managed.videos(lease.job) == videos
    assert managed.executor.submitted == submitted


@pytest.mark.parametrize("what", REPORTS)
async def test_each_report_counts_under_the_newest_lease(managed: Managed, what: str) -> None:
    """The reports that an old lease cannot make change the job under the newest one."""
    lease = await managed.claim(await managed.submit("one", "two"))
    await claimed_again(managed, lease)
    newest = managed.held[lease.job.id]
    video, _ = await managed.videos(lease.job)
    before = await managed.stored(lease.job)
    await managed.report(newest, REPORTS[what](video))
    assert managed.leases.is_held(newest)
    assert await managed.stored(lease.job) != before


# The stop signal.


async def returns_now(waiting: Coroutine[Any, Any, None]) -> bool:
    """Return True if the coroutine does not wait."""
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0)
    is_done = task.done()
    task.cancel()
    return is_done


async def assert_drains(lease: Lease) -> None:
    assert lease.stop.is_draining
    assert await returns_now(lease.stop.until_draining())
    assert not await returns_now(lease.stop.until_killed())


async def assert_kills(lease: Lease) -> None:
    assert lease.stop.is_draining
    assert await returns_now(lease.stop.until_draining())
    assert await returns_now(lease.stop.until_killed())


async def assert_runs(lease: Lease) -> None:
    assert not lease.stop.is_draining
    assert not await returns_now(lease.stop.until_draining())
    assert not await returns_now(lease.stop.until_killed())


async def test_a_new_lease_is_not_stopped(managed: Managed) -> None:
    await assert_runs(await managed.claim(await managed.submit("one")))


async def test_a_pause_drains(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one"))
    await managed.manager.pause(lease.job.id, by=ANA)
    await assert_drains(lease)


async def test_a_cancel_kills(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one"))
    await managed.manager.cancel(lease.job.id, by=ANA)
    await assert_kills(lease)
    assert managed.executor.withdrawn == []


async def test_a_cancel_while_pausing_kills(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one"))
    await managed.manager.pause(lease.job.id, by=ANA)
    await managed.manager.cancel(lease.job.id, by=ANA)
    await assert_kills(lease)


@pytest.mark.parametrize("report", ["a failed try", "a failure"])
async def test_a_self_pause_drains(managed: Managed, report: str) -> None:
    lease = await managed.claim(await managed.submit(*(f"v{number}" for number in range(PAUSE_AFTER_FAILURES + 1))))
    *failing, last, _ = await managed.videos(lease.job)
    for video in failing:
        await managed.report(lease, REPORTS[report](video))
    await assert_runs(lease)
    await managed.report(lease, REPORTS[report](last))
    await assert_drains(lease)
    assert (await managed.stored(lease.job)).requested == "pause"


async def test_a_shutdown_drains_and_gives_no_more_leases(managed: Managed) -> None:
    waiting = await managed.submit("one")
    lease = await managed.claim(await managed.submit("one"))
    managed.leases.drain()
    await assert_drains(lease)
    assert await managed.leases.claim(waiting.id) is None
    await managed.leases.release(lease)
    released = await managed.stored(lease.job)
    assert (released.status, released.message) == (Status.PENDING, "Waiting to continue")
    assert [job_id for job_id, *_ in managed.executor.submitted] == [waiting.id, lease.job.id]


async def test_a_job_resumed_while_pausing_continues(managed: Managed) -> None:
    """The old holder still drains; after its release the job waits again, and its next lease is not stopped."""
    job = await managed.submit("one")
    lease = await managed.claim(job)
    await managed.manager.pause(job.id, by=ANA)
    await managed.manager.resume(job.id, by=ANA)
    await assert_drains(lease)
    await managed.leases.release(lease)
    assert [job_id for job_id, *_ in managed.executor.submitted] == [job.id, job.id]
    await assert_runs(await managed.claim(job))
    await assert_drains(lease)


async def test_the_signals_of_two_jobs_are_independent(managed: Managed) -> None:
    one, other = [await managed.claim(await managed.submit("one")) for _ in range(2)]
    await managed.manager.cancel(one.job.id, by=ANA)
    await assert_runs(other)
