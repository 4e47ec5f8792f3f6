"""What is written through `RowCodec` is read back as it was: jobs, videos with their results, milestones."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from backend.domain.job import Job, Source
from backend.domain.timeline import Milestone
from backend.domain.video import Outcome, Video, VideoStatus
from backend.errors import Fault
from backend.store import Store
from backend.store.changes import NewJob, Tick, VideoChange
from backend.store.rows import RowCodec
from backend.store.tables import JOBS, VIDEOS
from progress_dashboard.protocol import CANCEL, Status
from tests.support.clock import NOON
from tests.support.jobs import ERA, a_job

NOT_STORED = {"running": 0, "doing": None, "waiting_reason": None}
ODD = 'żółć 🎬 "quoted" \\ %s ? :name\n'
FULL_JOB = Job(
    id="job-1",
    owner_id="ana",
    owner="ana",
    name=f"{ODD}.csv",
    processor="poster",
    created_at=ERA,
    updated_at=NOON + timedelta(milliseconds=1),
    total_videos=500,
    found=490,
    skipped_rows=3,
    source=Source.DEMO,
    options={"width": 320, "deep": {"list": [1, 2.5, None, True]}, "text": ODD},
    status=Status.PROCESSING,
    requested=CANCEL,
    attempt=2,
    lease_id=7,
    current_video=214,
    failed=5,
    running=2,
    doing="decoding",
    waiting_reason="Waiting for a worker: none is connected",
    progress=42,
    message=ODD,
    video_id="v-1",
    error=ODD,
    started_at=NOON,
    finished_at=NOON + timedelta(hours=1),
    on_dashboard=False,
    pinned=True,
    priority=-3,
    pause_reason=ODD,
    resumed=200,
    reported=2**53,
    seq=2**60,
)
CHANGED_JOB = FULL_JOB.evolve(
    status=Status.COMPLETED_WITH_ERRORS,
    requested=None,
    attempt=3,
    lease_id=8,
    current_video=500,
    failed=6,
    running=0,
    doing=None,
    waiting_reason=None,
    progress=100,
    message="Done",
    video_id=None,
    error=None,
    updated_at=NOON + timedelta(days=1),
    started_at=None,
    finished_at=None,
    on_dashboard=True,
    pinned=False,
    priority=4,
    pause_reason=None,
    resumed=None,
    reported=-1,
    seq=2**60 + 1,
)


def without_the_moment(job: Job) -> Job:
    """Return the job without the fields that are not stored."""
    return job.evolve(**NOT_STORED)


async def stored_job(store: Store, job: Job) -> Job | None:
    return await store.jobs.find(job.id, owner_id=None)


def test_the_full_job_has_a_value_of_its_own_in_every_field() -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(Job) if not field.required}
    assert [name for name, default in defaults.items() if getattr(FULL_JOB, name) == default] == []


@pytest.mark.parametrize("job", [FULL_JOB, a_job()], ids=["full", "plain"])
async def test_a_new_job_is_read_back_as_it_was(store: Store, job: Job) -> None:
    await store.commit(Tick(new=[NewJob(job=job, columns=("video_id", ODD))]))
    assert await stored_job(store, job) == without_the_moment(job)
    assert await store.jobs.columns(job.id) == ("video_id", ODD)


@pytest.mark.parametrize(("before", "after"), [(FULL_JOB, CHANGED_JOB), (CHANGED_JOB, FULL_JOB)])
async def test_a_changed_job_is_read_back_as_it_was(store: Store, before: Job, after: Job) -> None:
    await store.commit(Tick(new=[NewJob(job=before, columns=())]))
    await store.commit(Tick(jobs=[after]))
    assert await stored_job(store, after) == without_the_moment(after)


async def test_a_change_leaves_what_never_changes_as_it_was(store: Store) -> None:
    await store.commit(Tick(new=[NewJob(job=FULL_JOB, columns=())]))
    await store.commit(Tick(jobs=[FULL_JOB.evolve(name="other", total_videos=1, created_at=NOON, options={})]))
    assert await stored_job(store, FULL_JOB) == without_the_moment(FULL_JOB)


async def test_a_video_is_read_back_as_it_was(store: Store) -> None:
    video = Video(job_id="job-1", position=3, video_id="v-3", line=5, cells=("v-3", ODD, ""))
    bare = Video(job_id="job-1", position=4, video_id="v-4")
    await store.videos.add([video, bare])
    assert (await store.videos.page("job-1", limit=10)).items == [video, bare]


@pytest.mark.parametrize(
    "change",
    [
        VideoChange(
            job_id="job-1",
            position=3,
            status=VideoStatus.FAILED,
            attempts=2,
            started_at=NOON,
            duration_seconds=1.25,
            error=ODD,
            traceback=f"Traceback: {ODD}",
            fault=Fault.MACHINE,
            fingerprint="0123456789ab",
            job_attempt=4,
            tries=3,
            machine="rack-2",
        ),
        VideoChange(
            job_id="job-1",
            position=3,
            status=VideoStatus.COMPLETED,
            attempts=1,
            started_at=NOON,
            duration_seconds=0.5,
            result={"frames": 25, "poster": ODD, "sizes": [1, None, 2.5]},
        ),
    ],
    ids=["failed", "completed"],
)
async def test_a_result_is_read_back_as_it_was(store: Store, change: VideoChange) -> None:
    video = Video(job_id="job-1", position=3, video_id="v-3", line=5, cells=("v-3",))
    await store.videos.add([video])
    await store.commit(Tick(videos=[change]))
    assert await store.videos.find("job-1", 3) == Video(
        job_id="job-1",
        position=3,
        video_id="v-3",
        line=5,
        cells=("v-3",),
        status=change.status,
        attempts=change.attempts,
        error=change.error,
        traceback=change.traceback,
        fault=change.fault,
        group=change.fingerprint,
        result=change.result,
        started_at=change.started_at,
        duration_seconds=change.duration_seconds,
        tries=change.tries,
        machine=change.machine,
    )
    assert await store.videos.outcomes("job-1", 3) == [
        Outcome(
            attempt=change.job_attempt,
            error=change.error,
            traceback=change.traceback,
            fault=change.fault,
            tries=change.tries,
            started_at=NOON,
            duration_seconds=change.duration_seconds,
            machine=change.machine,
        )
    ]


async def test_milestones_are_read_back_as_they_were(store: Store) -> None:
    first = Milestone.between(None, a_job(id="job-1", seq=1))
    second = Milestone.between(a_job(id="job-1", seq=1, updated_at=ERA), FULL_JOB)
    assert first is not None
    assert second is not None
    assert (first.previous_at, second.previous_at, second.pause_reason, second.resumed) == (None, ERA, ODD, 200)
    await store.commit(Tick(milestones=[second, first]))
    assert (await store.history.timeline("job-1")).milestones == (first, second)


def test_a_row_has_the_values_that_the_database_stores() -> None:
    attributes = {name: f"job.{name}" for name in ("id", "updated_at", "status", "pinned")}
    codec = RowCodec[NewJob](JOBS, (*attributes, "columns"), attributes)
    row = codec.row(NewJob(job=a_job(id="job-1", pinned=True, updated_at=ERA), columns=("a", "b")))
    assert row == ("job-1", 1769817600000, "pending", 1, '["a","b"]')
    assert [type(value) for value in row] == [str, int, str, int, str]


def test_a_row_keeps_what_is_missing_as_none() -> None:
    codec = RowCodec[Video](VIDEOS, ("position", "line", "video_id"))
    assert codec.row(Video(job_id="job-1", position=0, video_id="v")) == (0, None, "v")
