"""One action on many jobs: what becomes of each, whose they are, and how they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.domain.job import Action
from backend.domain.job_filter import JobFilter
from backend.domain.many import MAX_JOBS_AT_ONCE, JobChoice
from backend.domain.problem import ProblemPeriod
from backend.errors import Conflict, Invalid, JobNotFound
from progress_dashboard.protocol import EXTERNAL, Status
from tests.support.job_states import CUT, job_in
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed
from tests.support.problem_desk import CUT_CAUSE, Desk

NOWHERE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def desk(managed: Managed, tmp_path: Path) -> Desk:
    return Desk.over(managed, tmp_path)


async def test_an_action_is_done_to_each_job(desk: Desk) -> None:
    managed = desk.managed
    waiting = [await managed.submit("a", "b") for _ in range(40)]
    many = await desk.many.act(Action.PAUSE, by=ANA, job_ids=[job.id for job in waiting])
    assert (list(many.done), many.refused) == ([job.id for job in waiting], [])
    assert {(await managed.stored(job)).status for job in waiting} == {Status.PAUSED}


async def test_what_is_refused_for_one_does_not_stop_the_others(desk: Desk) -> None:
    managed = desk.managed
    failed, running = await job_in(managed, "failed"), await job_in(managed, "processing")
    external = await job_in(managed, "external completed")
    many = await desk.many.act(Action.RETRY, by=ANA, job_ids=[running.id, failed.id, external.id, NOWHERE])
    assert list(many.done) == [failed.id]
    assert [(one.job_id, one.detail) for one in many.refused] == [
        (running.id, "This job has not ended yet; retry its videos when it has."),
        (external.id, "This is an external job; it can only be retried by the program that runs it."),
        (NOWHERE, JobNotFound().sentence),
    ]
    assert (await managed.stored(failed)).attempt == 2


async def test_another_users_job_answers_like_one_that_does_not_exist(desk: Desk) -> None:
    theirs = await desk.managed.submit("a", by=BEN)
    many = await desk.many.act(Action.CANCEL, by=ANA, job_ids=[theirs.id, NOWHERE])
    assert many.done == []
    assert {one.detail for one in many.refused} == {JobNotFound().sentence}
    assert (await desk.managed.stored(theirs)).status is Status.PENDING
    assert (await desk.many.act(Action.CANCEL, by=ADMIN, job_ids=[theirs.id])).done == [theirs.id]


@pytest.mark.parametrize(
    ("action", "state", "is_done"),
    [
        (Action.KEEP, "failed", lambda job: job.pinned),
        (Action.DISMISS, "completed", lambda job: not job.on_dashboard),
        (Action.RESUME, "paused", lambda job: job.status is Status.PENDING),
        (Action.CANCEL, "pending", lambda job: job.status is Status.CANCELLED),
    ],
)
async def test_each_action_has_one_entry_in_each_timeline(
    desk: Desk, action: Action, state: str, is_done: object
) -> None:
    jobs = [await job_in(desk.managed, state) for _ in range(3)]
    await desk.many.act(action, by=ANA, job_ids=[job.id for job in jobs])
    for job in jobs:
        assert is_done(await desk.managed.queries.find(job.id, by=ANA))  # type: ignore[operator]
        actions = (await desk.managed.queries.timeline(job.id, by=ANA)).actions
        assert [(one.action, one.user_name, one.jobs) for one in actions] == [(action, "ana", 3)]


async def test_an_action_on_one_job_is_told_as_always(desk: Desk) -> None:
    job = await job_in(desk.managed, "pending")
    await desk.many.act(Action.CANCEL, by=ANA, job_ids=[job.id, job.id])
    assert (await desk.managed.queries.timeline(job.id, by=ANA)).actions == ()


async def test_many_jobs_are_deleted_with_their_entries(desk: Desk) -> None:
    jobs = [await job_in(desk.managed, "failed") for _ in range(3)]
    ids = [job.id for job in jobs]
    await desk.many.act(Action.KEEP, by=ANA, job_ids=ids)
    assert list((await desk.many.act(Action.DELETE, by=ANA, job_ids=ids)).done) == ids
    for job_id in ids:
        while await desk.managed.store.jobs.erase_some(job_id):
            pass
        assert (await desk.managed.store.history.timeline(job_id)).actions == ()
        with pytest.raises(JobNotFound):
            await desk.managed.queries.find(job_id, by=ADMIN)


async def test_a_filter_names_the_jobs_of_now(desk: Desk) -> None:
    managed = desk.managed
    failed = [await desk.ended({f"{number}": CUT}, name=f"nightly {number}") for number in range(3)]
    await desk.ended({"x": CUT}, name="other")
    await desk.ended({"y": CUT}, by=BEN, name="nightly 9")
    choice = JobChoice(statuses=frozenset({Status.FAILED}), q="nightly")
    assert {job.id for job in await desk.many.choose(choice, by=ANA)} == {job.id for job in failed}
    many = await desk.many.act(Action.RETRY, by=ANA, choice=choice, expected=3)
    assert sorted(many.done) == sorted(job.id for job in failed)
    assert {(await managed.stored(job)).status for job in failed} == {Status.PENDING}


async def test_a_filter_that_names_others_than_expected_touches_nothing(desk: Desk) -> None:
    job = await desk.ended({"a": CUT})
    for expected in (0, 2):
        with pytest.raises(Conflict, match="1 job now"):
            await desk.many.act(Action.DELETE, by=ANA, choice=JobChoice(dashboard=True), expected=expected)
    with pytest.raises(Conflict, match="1 job now"):
        await desk.many.act(Action.DELETE, by=ANA, job_ids=[job.id, job.id], expected=2)
    assert (await desk.managed.stored(job)).attempt == 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"job_ids": []}, "No job is selected"),
        ({"choice": JobChoice(), "expected": 0}, "The filter is empty"),
        ({"choice": JobChoice(period=ProblemPeriod.WEEK), "expected": 0}, "The filter is empty"),
        ({"choice": JobChoice(dashboard=True)}, "Say in expected"),
        ({}, "one of both"),
        ({"job_ids": ["a"], "choice": JobChoice(dashboard=True)}, "one of both"),
        ({"job_ids": [f"{number}" for number in range(MAX_JOBS_AT_ONCE + 1)]}, "At most 10,000 jobs"),
        ({"choice": JobChoice(cause=CUT_CAUSE, q="x"), "expected": 0}, "leave the others out"),
    ],
)
async def test_what_names_no_jobs_is_refused(desk: Desk, asked: dict[str, object], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        await desk.many.act(Action.CANCEL, by=ANA, **asked)  # type: ignore[arg-type]


async def test_only_some_actions_can_be_done_to_many(desk: Desk) -> None:
    with pytest.raises(Invalid, match="action must be one of retry, cancel"):
        await desk.many.act(Action.RUN_NEXT, by=ANA, job_ids=["a"])


async def test_the_jobs_of_a_cause_are_chosen_by_it(desk: Desk) -> None:
    mine = [await desk.ended({f"a{number}": CUT, f"b{number}": None}) for number in range(2)]
    await desk.ended({"c": CUT}, by=BEN)
    await desk.ended({"d": None})
    choice = JobChoice(cause=CUT_CAUSE)
    assert {job.id for job in await desk.many.choose(choice, by=ANA)} == {job.id for job in mine}
    assert len(await desk.many.choose(choice, by=ADMIN)) == 3
    await desk.managed.manager.dismiss(mine[0].id, by=ANA)
    on_dashboard = JobChoice(cause=CUT_CAUSE, dashboard=True)
    assert [job.id for job in await desk.many.choose(on_dashboard, by=ANA)] == [mine[1].id]


async def test_every_filter_of_history_names_jobs(desk: Desk) -> None:
    job = await desk.ended({"a": CUT})
    await desk.managed.submit("b", processor=EXTERNAL)
    only = JobFilter(processor="probe", owner="ana")
    assert [found.id for found in await desk.many.choose(JobChoice(only=only), by=ANA)] == [job.id]
    two = JobChoice(statuses=frozenset({Status.FAILED, Status.PENDING}))
    assert len(await desk.many.choose(two, by=ANA)) == 2


async def test_a_search_on_the_dashboards_page_finds_errors_of_videos(desk: Desk) -> None:
    """The page's search does, so that all that match are those that it shows."""
    job = await desk.ended({"a": "It is quite damaged", "b": CUT})
    choice = JobChoice(dashboard=True, q="damaged")
    assert await desk.many.choose(choice, by=ANA) == []
    found = await desk.many.choose(choice, by=ANA, has_video_errors=True)
    assert [one.id for one in found] == [job.id]


async def test_an_export_of_many_is_that_of_history(desk: Desk) -> None:
    job, theirs = await desk.ended({"a": CUT, "b": None}), await desk.managed.submit("c", by=BEN)
    await desk.managed.manager.dismiss(job.id, by=ANA)
    lines = await desk.managed.queries.export_many([job.id, theirs.id, NOWHERE], by=ANA)
    assert lines == (await desk.managed.queries.export_jobs(by=ANA)).items
