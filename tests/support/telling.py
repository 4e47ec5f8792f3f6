"""The parts that tell users what happened, over the parts that steer jobs; a test composes when it wants."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import insert, select

from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.notification import ChannelKind, EventKind, Notification
from backend.jobs.composing import Composer
from backend.jobs.notifications import Notifications
from backend.store.database import Database
from backend.store.tables import CHANNELS, DELIVERIES, NOTIFICATIONS, USERS
from tests.support.jobs import ERA
from tests.support.managed_backend import ANA, Managed

LINK = "http://localhost:8000/jobs/"


@dataclass
class Telling:
    """What users are told over `managed`. `known` are the causes that are known until later."""

    managed: Managed
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        store, clock = self.managed.store, self.managed.clock
        self.notifications = Notifications(
            store.notifications, self.managed.queries, clock, known_causes=self._known_causes
        )
        self.composer = Composer(
            store,
            clock,
            link=lambda job_id: f"{LINK}{job_id}",
            zone=UTC,
            on_told=self.notifications.take,
            known_causes=self._known_causes,
        )

    async def _known_causes(self, owner_id: str, fingerprints: Collection[str], at: datetime) -> Collection[str]:
        return self.known.intersection(fingerprints)

    async def compose(self) -> None:
        """Compose everything that is staged."""
        await self.managed.journal.durable()
        while await self.composer.run_once():
            pass

    async def bell(self, by: User = ANA) -> list[Notification]:
        """Return the user's whole list, newest first, after everything that is staged."""
        await self.compose()
        return (await self.notifications.page(by=by)).items

    async def ran(self, name: str, seconds: float, errors: Sequence[str | None] = (None, None), by: User = ANA) -> Job:
        """Return a job of this name that took so long, the time being spread over its videos."""
        job = await self.managed.new_job(name, len(errors), by=by)
        lease = await self.managed.claim(job)
        for error in errors:
            await self.managed.clock.advance(seconds / len(errors))
            job = await self.managed.run_under(lease, [error])
        return job


def add_administrators(database: Database, *users: User) -> None:
    """Store the accounts of administrators, who are told of the server and of jobs that they wish."""
    rows = [
        {"id": user.id, "name": user.name, "is_admin": True, "disabled": user.disabled, "created_at": ERA}
        for user in users
    ]
    database.write_now(lambda connection: connection.execute(insert(USERS), rows))


def stored_events(database: Database) -> list[tuple[str | None, str, int]]:
    """Return (job ID, event, attempt) of each stored notification, in the order of the events."""
    columns = (NOTIFICATIONS.c.job_id, NOTIFICATIONS.c.event, NOTIFICATIONS.c.attempt)
    query = select(*columns).order_by(NOTIFICATIONS.c.seq, NOTIFICATIONS.c.at)
    return database.read_now(lambda connection: [tuple(row) for row in connection.execute(query)])


def add_channel(database: Database, name: str, owner_id: str | None, **given: object) -> str:
    """Store a channel, and return its ID."""
    usual = {
        "id": name,
        "owner_id": owner_id,
        "kind": ChannelKind.WEBHOOK,
        "name": name,
        "url": "http://localhost:1/",
        "tells_details": False,
        "enabled": True,
        "daily_cap": 100,
        "created_at": ERA,
        "refused_in_a_row": 0,
    }
    database.write_now(lambda connection: connection.execute(insert(CHANNELS), [{**usual, **given}]))
    return name


def deliveries(database: Database) -> list[tuple[str, EventKind, str]]:
    """Return (channel, event, state) of each delivery, in the order of the events."""
    query = select(DELIVERIES.c.channel_id, NOTIFICATIONS.c.event, DELIVERIES.c.state).join(
        NOTIFICATIONS, NOTIFICATIONS.c.event_id == DELIVERIES.c.event_id
    )
    query = query.order_by(DELIVERIES.c.seq, DELIVERIES.c.channel_id)
    return database.read_now(lambda connection: [tuple(row) for row in connection.execute(query)])
