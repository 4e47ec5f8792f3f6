"""Notifications and deliveries in a database, as the program's composing leaves them, and channels for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import insert, select

from backend.domain.notification import Channel, ChannelKind, DeliveryState, EventKind, event_id
from backend.store.channels import ChannelStore
from backend.store.database import Database
from backend.store.tables import DELIVERIES, NOTIFICATIONS
from tests.support.clock import NOON
from tests.support.jobs import a_job


def a_channel(channel_id: str = "hook", **given: Any) -> Channel:
    """Return a webhook of ana's with the fields that are `given`."""
    usual: dict[str, Any] = {
        "id": channel_id,
        "owner_id": "ana",
        "kind": ChannelKind.WEBHOOK,
        "name": channel_id,
        "url": f"https://hooks.example/{channel_id}",
        "secret": None,
        "events": None,
        "only": None,
        "tells_details": False,
        "enabled": True,
        "daily_cap": 10_000,
        "created_at": NOON,
    }
    return Channel(**usual | given)


async def add_channels(database: Database, *channels: Channel) -> None:
    """Store these channels."""
    for channel in channels:
        await ChannelStore(database).add(channel)


async def tell(
    database: Database,
    job_id: str,
    *channel_ids: str,
    seq: int,
    event: EventKind = EventKind.FAILED,
    at: datetime = NOON,
    attempt: int = 1,
    error: str | None = None,
    details: str | None = None,
) -> str:
    """Store an event of a job, composed, and its deliveries on these channels; return its ID."""
    job = a_job(id=job_id, name=job_id, seq=seq, error=error)
    row = {
        "event_id": event_id(job_id, event, attempt),
        "user_id": "ana",
        "job_id": job_id,
        "event": event,
        "attempt": attempt,
        "seq": seq,
        "at": at,
        "job": msgspec.json.encode(job.update()),
        "title": f"{job_id}: {event.words}",
        "text": f"{job_id} in words",
        "details": details,
        "for_all": True,
        "composed": True,
        "in_bell": True,
        "wished": False,
        "muted": False,
    }
    deliveries = [
        {
            "event_id": row["event_id"],
            "channel_id": channel_id,
            "job_id": job_id,
            "seq": seq,
            "state": DeliveryState.WAITING,
            "tries": 0,
            "due_at": at,
        }
        for channel_id in channel_ids
    ]

    def write(connection: Any) -> None:
        connection.execute(insert(NOTIFICATIONS), row)
        connection.execute(insert(DELIVERIES), deliveries)

    await database.write(write)
    return str(row["event_id"])


async def states(database: Database, channel_id: str = "hook") -> list[tuple[str, str, int, str | None]]:
    """Return (job, state, tries, error) of the deliveries of a channel, in order."""
    columns = (DELIVERIES.c.job_id, DELIVERIES.c.state, DELIVERIES.c.tries, DELIVERIES.c.error)
    query = select(*columns).where(DELIVERIES.c.channel_id == channel_id).order_by(DELIVERIES.c.seq)
    rows = await database.read(lambda connection: connection.execute(query).all())
    return [(row.job_id, row.state.value, row.tries, row.error) for row in rows]
