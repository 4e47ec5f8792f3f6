"""What the manager decides about jobs, over a real store and hub."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from backend.delivery.hub import Reader
from backend.domain.auth import User
from backend.domain.video import VideoStatus
from backend.errors import JobNotFound
from backend.jobs.manager import JobManager, VideoProgressed, VideoStarted
from backend.store import JobStore
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, ended, open_managed


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


async def next_of(reader: Reader) -> list[tuple[Status, int, int, str | None]]:
    """What the reader sees next of its jobs."""
    return [(seen.status, seen.progress, seen.running, seen.doing) for seen in (await reader.next()).updates]


async def test_a_new_job_is_stored_with_its_videos_before_it_is_in_line(managed: Managed) -> None:
    managed.add_file("one")
    job = await managed.submit("one", "two", name=" nightly\n.csv ")
    assert managed.executor.submitted == [(job.id, "ana", True)]
    stored = await managed.store.find(job.id, owner_id="ana")
    assert stored is not None
    assert (stored.status, stored.name, stored.total_videos, stored.found) == (Status.PENDING, "nightly .csv", 2, 1)
    videos = (await managed.store.videos(job.id, status=None, q="", limit=10, cursor=None)).items
    assert [(video.position, video.video_id, video.status) for video in videos] == [
        (0, "one", VideoStatus.PENDING),
        (1, "two", VideoStatus.PENDING),
    ]


async def test_a_job_is_claimed_once(managed: Managed) -> None:
    job = await managed.submit("one")
    first, again = [await managed.manager.claim(job.id) for _ in range(2)]
    assert first is not None
    assert (first.status, first.epoch, again) == (Status.PROCESSING, 1, None)
    assert await managed.manager.claim("never-was") is None


async def test_readers_see_what_its_holder_reports(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one", "two"))
    await managed.hub.durable()
    reader = managed.manager.watch(by=ANA)
    assert await next_of(reader) == [(Status.PROCESSING, 0, 0, None)]
    first, _ = await managed.videos(job)
    await managed.report(job, VideoStarted(first))
    assert await next_of(reader) == [(Status.PROCESSING, 0, 1, "starting")]
    await managed.report(job, VideoProgressed(first, 0.5, "decoding"), VideoProgressed(first, 0.2, "decoding"))
    assert await next_of(reader) == [(Status.PROCESSING, 25, 1, "decoding")]
    await managed.report(job, ended(first))
    assert await next_of(reader) == [(Status.PROCESSING, 50, 0, None)]


async def test_the_last_result_ends_the_job(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one", "two"))
    first, second = await managed.videos(job)
    await managed.clock.advance(60)
    await managed.report(job, VideoStarted(first), VideoStarted(second), ended(second, "File is cut off"))
    assert (await managed.stored(job)).status is Status.PROCESSING
    await managed.report(job, ended(first))
    end = await managed.stored(job)
    assert (end.status, end.progress, end.failed, end.running) == (Status.COMPLETED_WITH_ERRORS, 100, 1, 0)
    assert (end.error, end.finished_at) == ("File is cut off", managed.clock.now())
    assert [(video.status, video.attempts, video.result, video.error) for video in await managed.videos(job)] == [
        (VideoStatus.COMPLETED, 1, {"frames": 25}, None),
        (VideoStatus.FAILED, 1, None, "File is cut off"),
    ]


async def test_what_an_earlier_holder_still_reports_is_ignored(managed: Managed) -> None:
    earlier = await managed.claim(await managed.submit("one"))
    await managed.manager.let_go(earlier.id, earlier.epoch)
    job = await managed.claim(earlier)
    [video] = await managed.videos(job)
    await managed.report(earlier, ended(video, "Too late"))
    managed.manager.fail(earlier.id, earlier.epoch, "Too late as well.")
    await managed.manager.let_go(earlier.id, earlier.epoch)
    now = await managed.stored(job)
    assert (now.status, now.epoch, now.current_video, now.error) == (Status.PROCESSING, job.epoch, 0, None)
    assert len(managed.executor.submitted) == 2


async def test_a_job_that_was_let_go_of_is_in_line_again_with_what_is_left(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one", "two", "three"))
    first, second, _ = await managed.videos(job)
    await managed.report(job, VideoStarted(first), ended(first), VideoStarted(second))
    await managed.manager.let_go(job.id, job.epoch)
    assert managed.executor.submitted == [(job.id, "ana", True)] * 2
    released = await managed.stored(job)
    assert (released.status, released.current_video, released.running) == (Status.PENDING, 1, 0)
    again = await managed.claim(job)
    left = [(video.video_id, video.status) async for video in managed.manager.todo(again)]
    assert left == [("two", VideoStatus.PENDING), ("three", VideoStatus.PENDING)]


async def test_a_job_that_itself_failed_ends_with_its_sentence_and_stays_ended(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one"))
    [video] = await managed.videos(job)
    await managed.report(job, VideoStarted(video))
    managed.manager.fail(job.id, job.epoch, "The server had a problem.")
    await managed.manager.let_go(job.id, job.epoch)
    await managed.report(job, ended(video))
    end = await managed.stored(job)
    assert (end.status, end.error, end.current_video) == (Status.FAILED, "The server had a problem.", 0)
    assert [video.status for video in await managed.videos(job)] == [VideoStatus.PENDING]
    assert len(managed.executor.submitted) == 1


async def test_a_finished_job_leaves_the_dashboard_and_stays_in_history(managed: Managed) -> None:
    job, waiting = await managed.submit("one"), await managed.submit("one")
    claimed = await managed.claim(job)
    [video] = await managed.videos(job)
    await managed.report(claimed, ended(video))
    reader = managed.manager.watch(by=ANA)
    await reader.next()
    managed.manager.remove_from_dashboard(lambda _, now: now == managed.clock.now())
    assert (await reader.next()).removed == (job.id,)
    shown, kept = [(await managed.manager.jobs(by=ANA, dashboard=only)).items for only in (True, None)]
    assert ({one.id for one in shown}, {one.id for one in kept}) == ({waiting.id}, {job.id, waiting.id})


READS: dict[str, Callable[[JobManager, str, User], Awaitable[Any]]] = {
    "the job": lambda manager, job_id, by: manager.find(job_id, by=by),
    "its videos": lambda manager, job_id, by: manager.videos(job_id, by=by),
    "one of its videos": lambda manager, job_id, by: manager.video(job_id, 0, by=by),
    "what came of one of its videos": lambda manager, job_id, by: manager.outcomes(job_id, 0, by=by),
    "how its videos stand": lambda manager, job_id, by: manager.outcome_strip(job_id, by=by),
    "how long its videos took": lambda manager, job_id, by: manager.times(job_id, by=by),
    "why its videos failed": lambda manager, job_id, by: manager.causes(job_id, by=by),
    "its columns": lambda manager, job_id, by: manager.columns(job_id, by=by),
    "its timeline": lambda manager, job_id, by: manager.timeline(job_id, by=by),
    "its history": lambda manager, job_id, by: manager.history(job_id, by=by),
}


@pytest.mark.parametrize("what", READS)
async def test_a_job_is_read_by_its_owner_and_the_admin_and_to_others_it_is_not_there(
    managed: Managed, what: str
) -> None:
    job = await managed.submit("one")
    await managed.run(job, ["File is cut off"])
    mine, admins = [await READS[what](managed.manager, job.id, user) for user in (ANA, ADMIN)]
    assert mine
    assert mine == admins
    with pytest.raises(JobNotFound) as theirs:
        await READS[what](managed.manager, job.id, BEN)
    with pytest.raises(JobNotFound) as nobodys:
        await READS[what](managed.manager, "never-was", BEN)
    assert theirs.value.sentence == nobodys.value.sentence


async def test_everybody_lists_counts_and_watches_their_own_jobs_and_the_admin_all(managed: Managed) -> None:
    anas, bens = await managed.submit("one", by=ANA), await managed.submit("one", by=BEN)
    everybody = {ANA: {anas.id}, BEN: {bens.id}, ADMIN: {anas.id, bens.id}}
    for user, visible in everybody.items():
        assert {job.id for job in (await managed.manager.jobs(by=user)).items} == visible
        assert await managed.manager.count_jobs(by=user) == len(visible)
        assert {job.id for job in (await managed.manager.watch(by=user).next()).updates} == visible
        assert set(await managed.manager.ids_with_video("on", by=user)) == visible


async def test_a_video_is_found_by_its_beginning_or_its_error_in_jobs_on_the_dashboard_only(managed: Managed) -> None:
    shown, left = await managed.submit("clip-1", "clip-2"), await managed.submit("clip-3")
    await managed.manager.cancel(left.id, by=ANA)
    await managed.manager.dismiss(left.id, by=ANA)
    found = {q: await managed.manager.ids_with_video(q, by=ANA) for q in ("clip", "clip-2", "lip", "CLIP", " ", "")}
    claimed = await managed.claim(shown)
    first, _ = await managed.videos(claimed)
    await managed.report(claimed, ended(first, error="The file is cut off at 100 %."))
    found |= {q: await managed.manager.ids_with_video(q, by=ANA) for q in ("CUT off", "100 %", "100_")}
    assert found.pop("CUT off") == found.pop("100 %") == [shown.id]
    assert found.pop("100_") == []
    assert found == {"clip": [shown.id], "clip-2": [shown.id], "lip": [], "CLIP": [], " ": [], "": []}


async def test_history_tells_each_change_of_status_in_order(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one"))
    [video] = await managed.videos(job)
    await managed.report(job, ended(video))
    updates = [json.loads(update) for update in await managed.manager.history(job.id, by=ANA)]
    assert [update["status"] for update in updates] == ["pending", "processing", "completed"]
    assert [update["seq"] for update in updates] == sorted({update["seq"] for update in updates})
