"""The deliveries of a job, for its timeline: who sees them, and when they are looked at again."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from backend.domain.notification import ChannelKind, DeliveryState, EventKind
from backend.errors import JobNotFound
from backend.jobs.queries import JobQueries
from backend.notifications.delivery_log import DeliveryLog
from backend.store.database import Database
from backend.store.deliveries import ChannelQueue, DeliveryStore, Result
from backend.store.tables import DELIVERIES
from tests.support.clock import NOON
from tests.support.delivery import Delivery
from tests.support.managed_backend import ADMIN, ANA, BEN
from tests.support.told import a_channel, add_channels, tell

JOB = "0b5d3c1e-0000-4000-8000-000000000001"


@pytest.fixture
async def delivery_log(database: Database, delivery: Delivery) -> DeliveryLog:
    """Return the log of a database with a job of ana's, two channels and two events."""
    await delivery.add(id=JOB)
    await add_channels(database, a_channel("mail"), a_channel("hook"))
    for seq, event in enumerate((EventKind.STALLED, EventKind.FAILED), 1):
        await tell(database, JOB, "hook", "mail", seq=seq, event=event)
    return DeliveryLog(DeliveryStore(database), JobQueries(delivery.store, delivery.hub))


async def test_all_deliveries_are_there_in_order(delivery_log: DeliveryLog) -> None:
    found = await delivery_log.of(JOB, by=ANA)
    assert [(one.event.value, one.channel_name, one.state.value) for one in found] == [
        *(("stalled", name, "waiting") for name in ("hook", "mail")),
        *(("failed", name, "waiting") for name in ("hook", "mail")),
    ]


async def test_what_became_of_them_is_there(delivery_log: DeliveryLog, database: Database) -> None:
    store = DeliveryStore(database)
    ids = [waiting.event_id for waiting in (await line_of(store)).waiting]
    await store.group("mail", ids, "group-1")
    sent = Result(
        channel_id="mail", event_ids=tuple(ids), state=DeliveryState.GROUPED, tries=2, sent_at=NOON, error=None
    )
    await store.record([sent])
    grouped = [one for one in await delivery_log.of(JOB, by=ADMIN) if one.channel_name == "mail"]
    assert [(one.state.value, one.tries, one.sent_at, one.together) for one in grouped] == [("grouped", 2, NOON, 2)] * 2


async def line_of(store: DeliveryStore) -> ChannelQueue:
    found = await store.line("mail", limits=dict.fromkeys(ChannelKind, 10))
    assert found is not None
    return found


async def test_another_users_job_is_not_found(delivery_log: DeliveryLog) -> None:
    with pytest.raises(JobNotFound):
        await delivery_log.of(JOB, by=BEN)


async def test_those_who_follow_a_job_look_again_after_news_of_it(delivery_log: DeliveryLog) -> None:
    changes = delivery_log.changes(JOB)
    await anext(changes)
    again = asyncio.ensure_future(anext(changes))
    delivery_log.note(["another-job", None])
    await asyncio.sleep(0)
    assert not again.done()
    delivery_log.note([JOB])
    async with asyncio.timeout(5):
        await again
    await changes.aclose()  # type: ignore[attr-defined]
    delivery_log.note([JOB])  # nobody follows it


async def test_a_result_of_what_was_muted_meanwhile_changes_nothing(
    delivery_log: DeliveryLog, database: Database
) -> None:
    ids = tuple(waiting.event_id for waiting in (await line_of(DeliveryStore(database))).waiting)
    muted = update(DELIVERIES).values(state=DeliveryState.MUTED)
    await database.write(lambda connection: connection.execute(muted))
    late = Result(channel_id="mail", event_ids=ids, state=DeliveryState.SENT, tries=1, sent_at=NOON)
    await DeliveryStore(database).record([late])
    assert {one.state for one in await delivery_log.of(JOB, by=ANA)} == {DeliveryState.MUTED}
