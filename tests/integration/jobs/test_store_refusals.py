"""Steering while the database refuses to store anything."""

from __future__ import annotations

import pytest

from backend.domain.job import Action, Selection
from backend.errors import JobNotFound, StoreRefused
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from tests.support.job_states import job_in, state_of
from tests.support.managed_backend import ANA, Managed, RefusingStore


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        ("pending", Action.CANCEL, "cancelled"),
        ("pending", Action.PAUSE, "paused"),
        ("processing", Action.CANCEL, "cancelling"),
        ("processing", Action.PAUSE, "pausing"),
        ("paused", Action.RESUME, "pending"),
        ("failed", Action.KEEP, "failed"),
        ("failed", Action.DISMISS, "failed"),
        ("pending", Action.RUN_NEXT, "pending"),
    ],
)
async def test_a_refused_action_is_reported_and_done_later(
    refusing: tuple[Managed, RefusingStore], state: str, action: Action, after: str
) -> None:
    """An action that cannot be stored now raises at once, and is done as soon as the database stores again."""
    managed, store = refusing
    job = await job_in(managed, state)
    store.refuse()
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await managed.manager.act(job.id, action, by=ANA)
    assert await managed.queries.find(job.id, by=ANA) == job
    store.accept()
    now = await managed.stored(job)
    assert state_of(now) == after
    assert now != job


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
async def test_an_action_that_reads_first_is_refused(refusing: tuple[Managed, RefusingStore], action: Action) -> None:
    """A retry or deletion, which needs the newest stored state, changes nothing while nothing can be stored."""
    managed, store = refusing
    job, other = await job_in(managed, "failed"), await job_in(managed, "pending")
    store.refuse()
    with pytest.raises(StoreRefused):
        await managed.manager.pause(other.id, by=ANA)  # from here on the refusal is known
    with pytest.raises(StoreRefused):
        await managed.manager.act(job.id, action, by=ANA)
    store.accept()
    assert await managed.stored(job) == job
    assert await managed.manager.act(job.id, action, by=ANA) != job


async def test_a_refused_deletion_is_done_later(refusing: tuple[Managed, RefusingStore]) -> None:
    managed, store = refusing
    job = await job_in(managed, "failed")
    store.refuse(after=1)  # the last state of the job is still stored
    for action in (Action.DELETE, Action.DELETE, Action.RETRY):
        with pytest.raises(StoreRefused):
            await managed.manager.act(job.id, action, by=ANA)
    store.accept()
    await managed.journal.durable()
    with pytest.raises(JobNotFound):
        await managed.queries.find(job.id, by=ANA)


async def test_a_refused_retry_begins_later(refusing: tuple[Managed, RefusingStore]) -> None:
    managed, store = refusing
    job = await job_in(managed, "failed")
    store.refuse(after=1)
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await managed.manager.retry(job.id, Selection(), by=ANA)
    store.accept()
    lease = await managed.claim(job)
    assert lease.job.attempt == 2
    assert [video.video_id async for video in managed.leases.pending_videos(lease)] == ["one", "two"]


async def test_a_refused_request_with_a_key_makes_one_job(refusing: tuple[Managed, RefusingStore]) -> None:
    """A request with an idempotency key that is sent again after refusals creates one job."""
    managed, store = refusing
    videos, order = list_of_ids(["one"]), Order(name="list")
    store.refuse(after=1)
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await managed.manager.submit(videos, order, by=ANA, idempotency_key="k")
    store.accept()
    await managed.journal.durable()
    job = (await managed.manager.submit(videos, order, by=ANA, idempotency_key="k")).job
    assert [job.id for job in (await managed.queries.jobs(by=ANA)).items] == [job.id]
    assert [job_id for job_id, *_ in managed.executor.submitted] == [job.id]
