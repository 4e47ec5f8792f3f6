"""How the videos of jobs are worked through, with processes that end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.errors import VideoFailed
from backend.jobs import Job, Status, VideoStatus
from backend.processors import Step, VideoFile
from backend.store import JobStore
from backend.work import VideoWork
from tests.support.managed import Managed, open_managed

WAIT = 10


class Processes:
    """Stands for a `ChildRunner`; a video runs until `end`."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Condition()

    async def run(
        self, processor: str, file: VideoFile, options: Mapping[str, Any], *, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        video_id = file.path.stem
        self.started.append(video_id)
        self.running[video_id] = asyncio.get_running_loop().create_future()
        on_step(Step(0.5, "decoding"))
        async with self._changed:
            self._changed.notify_all()
        try:
            return await self.running[video_id]
        finally:
            del self.running[video_id]

    async def until_started(self, number: int) -> None:
        async with self._changed, asyncio.timeout(WAIT):
            await self._changed.wait_for(lambda: len(self.started) >= number)

    def end(self, video_id: str, error: VideoFailed | None = None) -> None:
        if error is None:
            self.running[video_id].set_result({"frames": 25})
        else:
            self.running[video_id].set_exception(error)


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


def work_of(managed: Managed, processes: Any, *, slots: int) -> VideoWork:
    return VideoWork(managed.manager, processes, slots=slots, outputs=managed.media / "out", clock=managed.clock)


async def new_job(managed: Managed, name: str, videos: int) -> Job:
    """A job over that many files, which are called like it."""
    video_ids = [f"{name}-{number}" for number in range(videos)]
    for video_id in video_ids:
        managed.add_file(video_id)
    return await managed.submit(*video_ids)


async def test_two_jobs_share_the_slots_evenly(managed: Managed) -> None:
    processes, videos = Processes(), 40
    work = work_of(managed, processes, slots=2)
    first, second = await new_job(managed, "first", videos), await new_job(managed, "second", videos)
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(work.process_job(first.id))
        await processes.until_started(2)
        jobs.create_task(work.process_job(second.id))
        for number in range(3, 2 * videos + 1):
            await managed.stored(second)  # time enough for the second one to read its list
            processes.end(next(iter(processes.running)))
            await processes.until_started(number)
            assert len(processes.running) == 2
        for video_id in list(processes.running):
            processes.end(video_id)
    names = [video_id.partition("-")[0] for video_id in processes.started]
    together = names[names.index("second") : names.index("second") + 40]
    assert together == ["second", "first"] * 20


async def test_a_video_that_fails_does_not_hold_up_the_others(managed: Managed) -> None:
    processes = Processes()
    job = await new_job(managed, "clip", 3)
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(work_of(managed, processes, slots=3).process_job(job.id))
        await processes.until_started(3)
        processes.end("clip-1", VideoFailed("File is cut off", traceback="Traceback: here"))
        processes.end("clip-0")
        processes.end("clip-2")
    end = await managed.stored(job)
    assert (end.status, end.failed, end.current_video) == (Status.COMPLETED_WITH_ERRORS, 1, 3)
    assert [(video.status, video.error, video.traceback) for video in await managed.videos(job)] == [
        (VideoStatus.COMPLETED, None, None),
        (VideoStatus.FAILED, "File is cut off", "Traceback: here"),
        (VideoStatus.COMPLETED, None, None),
    ]


async def test_a_fault_of_our_own_fails_only_its_video_and_names_its_kind(managed: Managed) -> None:
    processes = Processes()
    managed.add_file("one")
    job = await managed.submit("one", "away")
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(work_of(managed, processes, slots=1).process_job(job.id))
        await processes.until_started(1)
        processes.running["one"].set_exception(KeyError("a mistake of ours"))
    one, away = await managed.videos(job)
    assert one.error == "The server had a problem with this video (KeyError); its log has the details."
    assert away.error == "No file for this ID in the media directory"
    assert (await managed.stored(job)).status is Status.FAILED


async def test_a_cancelled_run_leaves_the_rest_in_line_and_the_next_one_does_only_that(managed: Managed) -> None:
    processes = Processes()
    work, job = work_of(managed, processes, slots=1), await new_job(managed, "clip", 3)
    run = asyncio.create_task(work.process_job(job.id))
    await processes.until_started(1)
    processes.end("clip-0")
    await processes.until_started(2)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    left = await managed.stored(job)
    assert (left.status, left.current_video, left.running, processes.running) == (Status.PENDING, 1, 0, {})
    assert [video.status for video in await managed.videos(job)] == [
        VideoStatus.COMPLETED,
        VideoStatus.PENDING,
        VideoStatus.PENDING,
    ]
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(work.process_job(job.id))
        for number, video_id in ((3, "clip-1"), (4, "clip-2")):
            await processes.until_started(number)
            processes.end(video_id)
    assert processes.started == ["clip-0", "clip-1", "clip-1", "clip-2"]
    assert (await managed.stored(job)).status is Status.COMPLETED
