"""What becomes of jobs when the server ends and starts again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backend.domain.video import VideoStatus
from backend.errors import Fault
from backend.jobs.leases import TryFailed, VideoStarted
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.job_states import STATES, job_in, state_of
from tests.support.managed_backend import open_managed

RUNNING_STATES = ("processing", "pausing", "cancelling")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *((state, state) for state in STATES if state not in RUNNING_STATES),
        ("processing", "pending"),
        ("pausing", "paused"),
        ("cancelling", "cancelled"),
    ],
)
async def test_a_restart_applies_requests_or_enqueues_the_job(
    store: Store, tmp_path: Path, before: str, after: str
) -> None:
    """A restart applies what was requested of a running job; otherwise the job waits again."""
    async with open_managed(store, tmp_path) as first:
        job = await job_in(first, before)
        if before in RUNNING_STATES:
            await first.report(first.held[job.id], VideoStarted((await first.videos(job))[1]))
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        now = await second.stored(job)
        assert (state_of(now), now.current_video, now.failed) == (after, job.current_video, job.failed)
        assert VideoStatus.PROCESSING not in {video.status for video in await second.videos(job)}
        assert [job_id for job_id, *_ in second.executor.submitted] == ([job.id] if after == "pending" else [])


async def test_a_job_says_where_it_continues_after_a_restart(store: Store, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await job_in(first, "processing")
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        assert (await second.stored(job)).message == "Waiting to continue after a restart"
        lease = await second.claim(job)
        assert (lease.job.message, lease.job.resumed) == ("Resumed at 1/2 after a restart", 1)
        assert (await second.run_under(lease, [None])).message == "All done: 2 videos"


async def test_the_reason_of_a_self_pause_survives_a_restart(store: Store, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await job_in(first, "processing")
        failure = TryFailed((await first.videos(job))[1], "The disk is full.", Fault.MACHINE, 2.0)
        await first.report(first.held[job.id], failure, failure, failure)
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        now = await second.stored(job)
        assert now.status is Status.PAUSED
        assert now.message == "Paused by itself: 3 failures in a row: The disk is full."


async def test_no_job_ends_before_its_start(store: Store, tmp_path: Path) -> None:
    """A clock that was set back between two runs of the server gives no job an end before its start."""
    async with open_managed(store, tmp_path) as first:
        await first.clock.advance(86_400)
        job = await job_in(first, "processing")
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        end = await second.run(job, [None])
        assert end.started_at is not None
        assert end.finished_at is not None
        assert timedelta(0) <= end.finished_at - end.started_at
