"""What waits to be sent on each channel, in order, and what has become of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, distinct, exists, func, select, update

from backend.domain.notification import Channel, ChannelKind, DeliveryState, EventKind, NotificationSettings
from backend.domain.sending import Waiting
from backend.domain.timeline import ChannelDelivery
from backend.store.channels import channel_of, stored
from backend.store.database import Database
from backend.store.tables import CHANNELS, DELIVERIES, IS_WAITING, NOTIFICATION_SETTINGS, NOTIFICATIONS, USERS

MAX_SHOWN = 500  # deliveries of a job in its timeline, the newest


@dataclass(frozen=True, slots=True)
class ChannelQueue:
    """What waits on a channel, the first of it, and the channel. `is_silent`: its owner's account is disabled."""

    channel: Channel
    waiting: tuple[Waiting, ...]
    settings: NotificationSettings
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a delivery says; of many at once only the titles. `job` is the update at that moment as JSON."""

    event_id: str
    job_id: str | None
    event: EventKind
    at: datetime
    title: str
    text: str = ""
    details: str | None = None
    job: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What has become of deliveries that were one message, and of their channel (`of_channel`: its columns)."""

    channel_id: str
    event_ids: tuple[str, ...]
    state: DeliveryState
    tries: int
    due_at: datetime | None = None
    sent_at: datetime | None = None
    error: str | None = None
    of_channel: Mapping[str, Any] = field(default_factory=dict)


class DeliveryStore:
    """The deliveries. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def channels_with_waiting(self) -> list[str]:
        """Return the IDs of the channels on which something waits."""
        query = select(CHANNELS.c.id).where(exists().where(DELIVERIES.c.channel_id == CHANNELS.c.id, IS_WAITING))
        return await self._database.read(lambda connection: list(connection.scalars(query)))

    async def line(self, channel_id: str, *, limits: Mapping[ChannelKind, int]) -> ChannelQueue | None:
        """Return the first of what waits on the channel, as many as its kind allows; None without such a channel."""
        return await self._database.read(_line, channel_id, limits)

    async def sent_since(self, channel_id: str, since: datetime) -> int:
        """Return how many messages the channel has sent since then."""
        message = func.coalesce(DELIVERIES.c.group_id, DELIVERIES.c.event_id)
        query = select(func.count(distinct(message))).where(
            DELIVERIES.c.channel_id == channel_id, DELIVERIES.c.sent_at >= since
        )
        return await self._database.read(lambda connection: int(connection.execute(query).scalar_one()))

    async def contents(self, channel_id: str, event_ids: Collection[str]) -> tuple[Channel | None, dict[str, Content]]:
        """Return the channel as it is now, and what those of these deliveries say that still wait."""
        return await self._database.read(_contents, channel_id, event_ids)

    async def group(self, channel_id: str, event_ids: Collection[str], group_id: str) -> None:
        """Make one message of deliveries that wait: from now on they are sent together or not at all."""
        chosen = _waiting(channel_id, event_ids).values(group_id=group_id)
        await self._database.write(lambda connection: connection.execute(chosen))

    async def mute(self, channel_id: str, reason: str, *, but: Collection[str] = ()) -> int:
        """Let nothing that waits on the channel be sent, `but` these events; return how many deliveries that were."""
        chosen = (DELIVERIES.c.channel_id == channel_id, DELIVERIES.c.event_id.not_in(but), IS_WAITING)
        every = update(DELIVERIES).where(*chosen)
        muted = every.values(state=DeliveryState.MUTED, error=reason)
        return await self._database.write(lambda connection: connection.execute(muted).rowcount)

    async def mute_events(self, event_ids: Collection[str], reason: str) -> dict[ChannelKind, int]:
        """Let nothing that waits about these events be sent; return how many deliveries that were, by kind."""
        return await self._database.write(_mute_events, event_ids, reason)

    async def record(self, results: Sequence[Result]) -> None:
        """Store what has become of messages."""
        await self._database.write(_record, results)

    async def of_job(self, job_id: str) -> list[ChannelDelivery]:
        """Return the newest deliveries of a job, oldest first."""
        return await self._database.read(_of_job, job_id)


def _line(connection: Connection, channel_id: str, limits: Mapping[ChannelKind, int]) -> ChannelQueue | None:
    owner = and_(USERS.c.id == CHANNELS.c.owner_id)
    settings = NOTIFICATION_SETTINGS.c
    query = (
        select(CHANNELS, USERS.c.disabled, settings.quiet_from, settings.quiet_to, settings.zone)
        .join(USERS, owner, isouter=True)
        .join(NOTIFICATION_SETTINGS, settings.user_id == CHANNELS.c.owner_id, isouter=True)
        .where(CHANNELS.c.id == channel_id)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    quiet = NotificationSettings(quiet_from=row.quiet_from, quiet_to=row.quiet_to, zone=row.zone)
    columns = [DELIVERIES.c[name] for name in ("event_id", "job_id", "seq", "due_at", "tries", "group_id")]
    waiting = select(*columns).where(DELIVERIES.c.channel_id == channel_id, IS_WAITING)
    rows = connection.execute(waiting.order_by(DELIVERIES.c.seq, DELIVERIES.c.event_id).limit(limits[row.kind]))
    is_silent = row.owner_id is not None and row.disabled is not False
    return ChannelQueue(channel_of(row), tuple(Waiting(**found._mapping) for found in rows), quiet, is_silent)


def _contents(
    connection: Connection, channel_id: str, event_ids: Collection[str]
) -> tuple[Channel | None, dict[str, Content]]:
    channel = connection.execute(select(CHANNELS).where(CHANNELS.c.id == channel_id)).first()
    told = NOTIFICATIONS.c
    columns = [told.event_id, told.job_id, told.event, told.at, told.title]
    if len(event_ids) == 1:
        columns += [told.job, told.text, told.details]
    chosen = (DELIVERIES.c.channel_id == channel_id, DELIVERIES.c.event_id.in_(event_ids), IS_WAITING)
    query = select(*columns).join(DELIVERIES, DELIVERIES.c.event_id == told.event_id).where(*chosen)
    found = [_content(row) for row in connection.execute(query)]
    return None if channel is None else channel_of(channel), {content.event_id: content for content in found}


def _content(row: Row[Any]) -> Content:
    given = dict(row._mapping)
    return Content(**given | {"title": row.title or "", "text": given.get("text") or ""})


def _mute_events(connection: Connection, event_ids: Collection[str], reason: str) -> dict[ChannelKind, int]:
    chosen = (DELIVERIES.c.event_id.in_(event_ids), IS_WAITING)
    of_kinds = select(CHANNELS.c.kind, func.count()).join(DELIVERIES, DELIVERIES.c.channel_id == CHANNELS.c.id)
    numbers = {row[0]: row[1] for row in connection.execute(of_kinds.where(*chosen).group_by(CHANNELS.c.kind))}
    connection.execute(update(DELIVERIES).where(*chosen).values(state=DeliveryState.MUTED, error=reason))
    return numbers


def _record(connection: Connection, results: Sequence[Result]) -> None:
    for result in results:
        values = {"state": result.state, "tries": result.tries, "sent_at": result.sent_at, "error": result.error}
        if result.due_at is not None:
            values["due_at"] = result.due_at
        connection.execute(_waiting(result.channel_id, result.event_ids).values(values))
        if result.of_channel:
            channel = update(CHANNELS).where(CHANNELS.c.id == result.channel_id)
            connection.execute(channel.values(stored(result.of_channel)))


def _waiting(channel_id: str, event_ids: Collection[str]) -> Any:
    return update(DELIVERIES).where(
        DELIVERIES.c.channel_id == channel_id, DELIVERIES.c.event_id.in_(event_ids), IS_WAITING
    )


def _of_job(connection: Connection, job_id: str) -> list[ChannelDelivery]:
    own, told, other = DELIVERIES.c, NOTIFICATIONS.c, DELIVERIES.alias("other")
    together = (
        select(func.count())
        .select_from(other)
        .where(other.c.channel_id == own.channel_id, other.c.group_id == own.group_id)
        .scalar_subquery()
    )
    query = (
        select(
            *(told.event, told.attempt, CHANNELS.c.name.label("channel_name"), CHANNELS.c.kind, own.state, own.tries),
            *(told.at, own.sent_at, own.error),
            together.label("together"),
        )
        .join(NOTIFICATIONS, told.event_id == own.event_id)
        .join(CHANNELS, CHANNELS.c.id == own.channel_id)
        .where(own.job_id == job_id)
        .order_by(own.seq.desc(), CHANNELS.c.name.desc())
    )
    rows = connection.execute(query.limit(MAX_SHOWN)).all()
    return [ChannelDelivery(**dict(row._mapping) | {"together": row.together or 1}) for row in reversed(rows)]
