"""What users may read of jobs, and what they find."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from backend.domain.auth import User
from backend.domain.job import Selection
from backend.domain.video import VideoStatus
from backend.errors import JobNotFound, StoreRefused
from backend.jobs.queries import JobQueries
from backend.store import Store
from backend.store.sqlite import SqliteDatabase
from tests.support.job_states import CUT, SLOW
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, finished


class Unreadable(SqliteDatabase):
    """A database that refuses every read."""

    async def read(self, *_: object, **__: object) -> NoReturn:
        raise StoreRefused

    async def read_by_cursor(self, *_: object) -> NoReturn:
        raise StoreRefused


async def live_state(queries: JobQueries, job_id: str, by: User) -> object:
    return await (await queries.watch_job(job_id, by=by)).next()


READS: Mapping[str, Callable[[JobQueries, str, User], Awaitable[Any]]] = {
    "the job": lambda queries, job_id, by: queries.find(job_id, by=by),
    "its videos": lambda queries, job_id, by: queries.videos(job_id, by=by),
    "one of its videos": lambda queries, job_id, by: queries.video(job_id, 0, by=by),
    "the results of one of its videos": lambda queries, job_id, by: queries.outcomes(job_id, 0, by=by),
    "the status of its videos": lambda queries, job_id, by: queries.outcome_strip(job_id, by=by),
    "how long its videos took": lambda queries, job_id, by: queries.times(job_id, by=by),
    "why its videos failed": lambda queries, job_id, by: queries.causes(job_id, by=by),
    "its columns": lambda queries, job_id, by: queries.columns(job_id, by=by),
    "its timeline": lambda queries, job_id, by: queries.timeline(job_id, by=by),
    "its history": lambda queries, job_id, by: queries.history(job_id, by=by),
    "its live state": live_state,
}


@pytest.mark.parametrize("what", READS)
async def test_only_the_owner_and_the_admin_can_read_a_job(managed: Managed, what: str) -> None:
    """To other users, a job does not exist."""
    job = await managed.submit("one")
    await managed.run(job, [CUT])
    mine, admins = [await READS[what](managed.queries, job.id, user) for user in (ANA, ADMIN)]
    assert mine
    assert mine == admins
    with pytest.raises(JobNotFound) as of_another_user:
        await READS[what](managed.queries, job.id, BEN)
    with pytest.raises(JobNotFound) as unknown:
        await READS[what](managed.queries, "unknown", BEN)
    assert of_another_user.value.sentence == unknown.value.sentence


async def test_a_job_on_the_dashboard_is_read_from_memory(managed: Managed) -> None:
    job = await managed.submit("one")
    without_store = JobQueries(Store(Unreadable(Path("none"))), managed.hub)
    assert await without_store.find(job.id, by=ANA) == await managed.stored(job)
    with pytest.raises(JobNotFound):
        await without_store.find(job.id, by=BEN)
    with pytest.raises(StoreRefused):
        await without_store.find("unknown", by=ANA)


async def test_users_see_their_own_jobs_and_the_admin_all(managed: Managed) -> None:
    anas, bens = await managed.submit("one", by=ANA), await managed.submit("one", by=BEN)
    visible = {ANA: {anas.id}, BEN: {bens.id}, ADMIN: {anas.id, bens.id}}
    for user, jobs in visible.items():
        assert {job.id for job in (await managed.queries.jobs(by=user)).items} == jobs
        assert await managed.queries.count_jobs(by=user) == len(jobs)
        assert {job.id for job in (await managed.queries.watch(by=user).next()).updates} == jobs
        assert set(await managed.queries.ids_with_video("on", by=user)) == jobs


async def test_jobs_are_found_by_a_video_or_its_error(managed: Managed) -> None:
    """Jobs on the dashboard are found by the beginning of a video's ID or by any part of its error."""
    shown, removed = await managed.submit("clip-1", "clip-2"), await managed.submit("clip-3")
    await managed.manager.cancel(removed.id, by=ANA)
    await managed.manager.dismiss(removed.id, by=ANA)
    found = {q: await managed.queries.ids_with_video(q, by=ANA) for q in ("clip", "clip-2", "lip", "CLIP", " ", "")}
    lease = await managed.claim(shown)
    first, _ = await managed.videos(shown)
    await managed.report(lease, finished(first, error="The file is cut off at 100 %."))
    found |= {q: await managed.queries.ids_with_video(q, by=ANA) for q in ("CUT off", "100 %", "100_")}
    assert found.pop("CUT off") == found.pop("100 %") == [shown.id]
    assert found.pop("100_") == []
    assert found == {"clip": [shown.id], "clip-2": [shown.id], "lip": [], "CLIP": [], " ": [], "": []}


async def test_videos_are_found_by_id_or_newest_error(managed: Managed) -> None:
    """Videos of a job are found by the beginning of their ID or by any part of their newest error."""
    job = await managed.submit("good", "cut-1", "slow", "cut-2")
    await managed.run(job, [None, CUT, SLOW, CUT])

    async def found(q: str) -> list[str]:
        return [video.video_id for video in (await managed.queries.videos(job.id, by=ANA, q=q)).items]

    assert await found("cut") == ["cut-1", "cut-2"]
    assert await found("-1") == []
    assert await found(CUT[3:].upper()) == ["cut-1", "cut-2"]
    assert await found("%") == []
    assert (await managed.queries.videos(job.id, by=ANA, q=SLOW, status=VideoStatus.COMPLETED)).items == []
    again = await managed.manager.retry(job.id, Selection(video_ids=("cut-1",)), by=ANA)
    await managed.run(again, ["Not a video"])
    assert await found(CUT) == ["cut-2"]
    assert await found("a video") == ["cut-1"]


async def test_a_cause_has_the_traceback_of_its_example(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("first", "second"))
    for video in await managed.videos(lease.job):
        await managed.report(lease, finished(video, CUT, traceback=f"Traceback of {video.video_id}"))
    [cause] = await managed.queries.causes(lease.job.id, by=ANA)
    assert (cause.count, cause.traceback) == (2, "Traceback of first")


async def test_history_has_each_status_in_order(managed: Managed) -> None:
    job = await managed.submit("one")
    await managed.run(job, [None])
    updates = [json.loads(update) for update in await managed.queries.history(job.id, by=ANA)]
    assert [update["status"] for update in updates] == ["pending", "processing", "completed"]
    assert [update["seq"] for update in updates] == sorted({update["seq"] for update in updates})
