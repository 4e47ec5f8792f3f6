"""New jobs are stored before they run, and one idempotency key makes one job."""

from __future__ import annotations

import pytest

from backend.domain.job import Job
from backend.domain.video import VideoStatus
from backend.errors import Conflict
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ANA, Managed


async def test_a_new_job_is_stored_before_it_is_enqueued(managed: Managed) -> None:
    managed.add_file("one")
    job = await managed.submit("one", "two", name=" nightly\n.csv ")
    assert managed.executor.submitted == [(job.id, "ana", True)]
    stored = await managed.queries.find(job.id, by=ANA)
    assert (stored.status, stored.name, stored.total_videos, stored.found) == (Status.PENDING, "nightly .csv", 2, 1)
    videos = (await managed.queries.videos(job.id, by=ANA)).items
    assert [(video.position, video.video_id, video.status) for video in videos] == [
        (0, "one", VideoStatus.PENDING),
        (1, "two", VideoStatus.PENDING),
    ]


async def test_a_key_makes_one_job_until_that_is_deleted(managed: Managed) -> None:
    async def submitted() -> Job:
        return await managed.submit("one", key="k")

    job = await submitted()
    assert (await submitted()).id == job.id
    await managed.manager.cancel(job.id, by=ANA)
    await managed.manager.delete(job.id, by=ANA)
    assert (await submitted()).id != job.id


async def test_a_key_of_another_list_is_refused(managed: Managed) -> None:
    await managed.submit("one", key="k")
    with pytest.raises(Conflict, match="use a new key"):
        await managed.submit("two", key="k")
