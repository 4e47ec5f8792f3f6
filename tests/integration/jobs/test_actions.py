"""What users may do to a job in each of its states, and what happens then."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest

from backend.domain.auth import User
from backend.domain.job import Action, Job, Selection, offered_actions
from backend.errors import Conflict, Invalid, JobNotFound
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.job_states import (
    FINISHED_STATES,
    SPECIAL_STATES,
    STATES,
    UNFINISHED_STATES,
    job_in,
    state_of,
)
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed

PRIORITY = 7
NOT_ENDED, BEING_CANCELLED, NOTHING = "has not ended yet", "is being cancelled", "nothing to retry"
DELETED = "deleted"
OUTCOMES: Mapping[Action, tuple[str, ...]] = {
    Action.CANCEL: ("cancelled", "cancelling", "cancelling", "cancelling", "cancelled", *FINISHED_STATES),
    Action.PAUSE: ("paused", "pausing", "pausing", "cancelling", "paused", *FINISHED_STATES),
    Action.RESUME: ("pending", "processing", "processing", BEING_CANCELLED, "pending", *FINISHED_STATES),
    Action.RETRY: (*(NOT_ENDED,) * 5, NOTHING, "pending", "pending", "pending"),
    Action.RETRY_ALL: (*(NOT_ENDED,) * 5, *("pending",) * 4),
    Action.KEEP: STATES,
    Action.DISMISS: (*(NOT_ENDED,) * 5, *FINISHED_STATES),
    Action.PRIORITISE: STATES,
    Action.RUN_NEXT: STATES,
    Action.RUN_LAST: STATES,
    Action.DELETE: (*(NOT_ENDED,) * 5, *(DELETED,) * 4),
}
"""For each action and each of `STATES`: the state that follows, or the reason for the refusal."""
DONE_UNOFFERED: Mapping[Action, tuple[str, ...]] = {
    Action.KEEP: (*UNFINISHED_STATES, "external pending", "external processing"),
    Action.PRIORITISE: ("pending", "paused"),
}
"""States in which cards do not offer the action, but the API takes it."""


async def act(managed: Managed, job: Job, action: Action, by: User = ANA) -> Job | None:
    return await managed.manager.act(job.id, action, by=by, priority=PRIORITY)


@pytest.mark.parametrize("action", OUTCOMES)
async def test_an_action_has_its_outcome_in_each_state(managed: Managed, action: Action) -> None:
    """An action happens or is refused with a reason, and doing it twice changes nothing more."""
    for state, outcome in zip(STATES, OUTCOMES[action], strict=True):
        job = await job_in(managed, state)
        assert state_of(job) == state
        if outcome not in (*STATES, DELETED):
            with pytest.raises(Conflict, match=outcome):
                await act(managed, job, action)
            assert await managed.stored(job) == job
            continue
        answer = await act(managed, job, action)
        if answer is None:
            assert outcome == DELETED
            for _ in range(2):
                with pytest.raises(JobNotFound):
                    await act(managed, job, action)
            continue
        assert state_of(answer) == outcome
        assert await managed.stored(job) == answer
        assert await act(managed, job, action) == answer


def test_the_table_has_every_action() -> None:
    assert set(OUTCOMES) == set(Action)


@pytest.mark.parametrize("state", [*STATES, *SPECIAL_STATES])
async def test_an_offered_action_is_never_refused(managed: Managed, state: str) -> None:
    for action in offered_actions(await job_in(managed, state)):
        job = await job_in(managed, state)
        answer = await act(managed, job, action)
        assert (answer is None) is (action is Action.DELETE), action
        assert answer != job, action


@pytest.mark.parametrize("state", [*STATES, *SPECIAL_STATES])
async def test_an_action_that_is_not_offered_changes_nothing(managed: Managed, state: str) -> None:
    for action in Action:
        job = await job_in(managed, state)
        if action in offered_actions(job):
            continue
        with suppress(Conflict):
            await act(managed, job, action)
        is_changed = await managed.stored(job) != job
        assert is_changed is (state in DONE_UNOFFERED.get(action, ())), action


async def test_an_action_is_offered_where_it_changes_the_state(managed: Managed) -> None:
    for state in STATES:
        offered = set(offered_actions(await job_in(managed, state)))
        for action in (Action.CANCEL, Action.PAUSE, Action.RESUME, Action.RETRY, Action.DELETE):
            outcome = OUTCOMES[action][STATES.index(state)]
            assert (action in offered) is (outcome in (*STATES, DELETED) and outcome != state), (state, action)


@pytest.mark.parametrize("action", Action)
async def test_the_job_of_another_user_is_not_found(managed: Managed, action: Action) -> None:
    for state in ("pending", "processing", "completed", "failed"):
        job = await job_in(managed, state)
        for job_id in (job.id, "unknown"):
            with pytest.raises(JobNotFound):
                await managed.manager.act(job_id, action, by=BEN, priority=PRIORITY)
        assert await managed.stored(job) == job


async def test_an_administrator_controls_the_jobs_of_all_users(managed: Managed) -> None:
    job = await job_in(managed, "pending")
    assert (await managed.manager.pause(job.id, by=ADMIN)).status is Status.PAUSED


@pytest.mark.parametrize("action", [Action.PAUSE, Action.RESUME, Action.RUN_NEXT])
async def test_an_external_job_can_only_be_cancelled_and_at_once(managed: Managed, action: Action) -> None:
    job = await managed.submit("one", processor=EXTERNAL)
    with pytest.raises(Conflict, match="is an external job"):
        await act(managed, job, action)
    await managed.external.apply_reports(job.id, [SenderReport(n=1, status="processing")], by=ANA)
    cancelled = await managed.manager.cancel(job.id, by=ANA)
    assert (cancelled.status, cancelled.message) == (Status.CANCELLED, "Cancelled at 0/1")
    with pytest.raises(Conflict, match="was cancelled"):
        await managed.external.apply_reports(job.id, [SenderReport(n=2, progress=50)], by=ANA)
    with pytest.raises(Conflict, match="can only be retried by the program that runs it"):
        await managed.manager.retry(job.id, Selection(), by=ANA)


# The order of the queue.


async def test_the_priority_of_a_waiting_job_reaches_the_executor(managed: Managed) -> None:
    """A priority is stored and reaches the executor only while the job waits."""
    waiting, running = await job_in(managed, "pending"), await job_in(managed, "processing")
    assert (await managed.manager.prioritise(waiting.id, 7, by=ANA)).priority == 7
    assert (await managed.manager.prioritise(running.id, 7, by=ANA)).priority == 0
    assert managed.executor.priorities[waiting.id] == 7
    paused = await managed.manager.pause(waiting.id, by=ANA)
    assert (await managed.manager.prioritise(paused.id, -1000, by=ANA)).priority == -1000
    await managed.manager.resume(paused.id, by=ANA)
    assert managed.executor.priorities[waiting.id] == -1000


@pytest.mark.parametrize("priority", [-1001, 1001])
async def test_a_priority_beyond_the_limits_is_refused(managed: Managed, priority: int) -> None:
    job = await job_in(managed, "pending")
    with pytest.raises(Invalid, match="from -1,000 to 1,000"):
        await managed.manager.prioritise(job.id, priority, by=ANA)


async def test_a_missing_priority_is_refused(managed: Managed) -> None:
    job = await job_in(managed, "pending")
    with pytest.raises(Invalid, match="priority is missing"):
        await managed.manager.act(job.id, Action.PRIORITISE, by=ANA)
    assert await managed.stored(job) == job


async def test_next_and_last_are_among_the_jobs_of_the_owner(managed: Managed) -> None:
    jobs = [await managed.submit("one") for _ in range(3)]
    theirs = await managed.submit("one", by=BEN)
    await managed.manager.prioritise(theirs.id, 500, by=BEN)
    await managed.manager.prioritise(jobs[1].id, 20, by=ANA)
    await managed.manager.act(jobs[0].id, Action.RUN_NEXT, by=ANA)
    await managed.manager.act(jobs[2].id, Action.RUN_LAST, by=ADMIN)
    assert [(await managed.stored(job)).priority for job in (*jobs, theirs)] == [21, 20, 19, 500]


async def test_a_paused_or_cancelled_job_is_out_of_the_queue(managed: Managed) -> None:
    paused, cancelled = await managed.submit("one"), await managed.submit("one")
    await managed.manager.pause(paused.id, by=ANA)
    await managed.manager.cancel(cancelled.id, by=ANA)
    assert managed.executor.withdrawn == [paused.id, cancelled.id]
