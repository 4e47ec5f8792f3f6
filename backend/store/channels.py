"""The channels in the database, with their addresses and secrets, which only what sends ever sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from backend.domain.notification import Channel, ChannelFilter, event_kinds
from backend.store.database import Database
from backend.store.tables import CHANNELS, DELIVERIES


class ChannelStore:
    """The channels. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, owner_id: str, *, for_all: bool) -> list[Channel]:
        """Return the user's own channels and, if wanted, those for all, oldest first."""
        mine = CHANNELS.c.owner_id == owner_id
        query = select(CHANNELS).where(or_(mine, CHANNELS.c.owner_id.is_(None)) if for_all else mine)
        ordered = query.order_by(CHANNELS.c.created_at, CHANNELS.c.id)
        return await self._database.read(lambda connection: [channel_of(row) for row in connection.execute(ordered)])

    async def find(self, channel_id: str) -> Channel | None:
        """Return the channel, None if there is none."""
        query = select(CHANNELS).where(CHANNELS.c.id == channel_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else channel_of(row)

    async def count(self, owner_id: str | None) -> int:
        """Return how many channels the user has; None: how many there are for all."""
        owned = CHANNELS.c.owner_id.is_(None) if owner_id is None else CHANNELS.c.owner_id == owner_id
        query = select(func.count()).select_from(CHANNELS).where(owned)
        return await self._database.read(lambda connection: int(connection.execute(query).scalar_one()))

    async def add(self, channel: Channel) -> None:
        """Store a new channel."""
        row = {name: getattr(channel, name) for name in CHANNELS.c.keys()}  # noqa: SIM118  the columns' names
        await self._database.write(lambda connection: connection.execute(insert(CHANNELS), stored(row)))

    async def change(self, channel_id: str, values: Mapping[str, Any]) -> Channel | None:
        """Change these columns and return the channel; None if there is none."""
        return await self._database.write(_change, channel_id, stored(values))

    async def remove(self, channel_id: str) -> None:
        """Delete the channel and all its deliveries."""
        await self._database.write(_remove, channel_id)


def channel_of(row: Row[Any]) -> Channel:
    """Return the channel of a row."""
    given = dict(row._mapping)
    events = None if row.events is None else event_kinds(row.events)
    only = None if row.only is None else msgspec.convert(row.only, ChannelFilter)
    return Channel(**{name: given[name] for name in CHANNELS.c.keys()} | {"events": events, "only": only})  # noqa: SIM118


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of columns as the table takes them."""
    row = dict(values)
    if row.get("events") is not None:
        row["events"] = tuple(sorted(row["events"]))
    if row.get("only") is not None:
        row["only"] = msgspec.to_builtins(row["only"])
    return row


def _change(connection: Connection, channel_id: str, values: Mapping[str, Any]) -> Channel | None:
    if values:
        connection.execute(update(CHANNELS).where(CHANNELS.c.id == channel_id).values(dict(values)))
    rows: Sequence[Row[Any]] = connection.execute(select(CHANNELS).where(CHANNELS.c.id == channel_id)).all()
    return channel_of(rows[0]) if rows else None


def _remove(connection: Connection, channel_id: str) -> None:
    connection.execute(delete(DELIVERIES).where(DELIVERIES.c.channel_id == channel_id))
    connection.execute(delete(CHANNELS).where(CHANNELS.c.id == channel_id))
