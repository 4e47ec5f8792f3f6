"""What the routes of notifications take and give, as types; the comment above a field is its description in OpenAPI."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from backend.api.types import Timestamp
from backend.app import Backend
from backend.clock import iso
from backend.domain.notification import DEFAULTS, EventKind, Notification, NotificationSettings, job_link
from backend.errors import Invalid
from backend.jobs.notifications import MAX_IDS
from progress_dashboard.protocol import ProgressUpdate

TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")
TimeOfDay = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"^([01]\d|2[0-3]):[0-5]\d$"})]


class NotificationOut(msgspec.Struct):
    """An event that the caller is told of."""

    # The same for one event and user, however often it comes.
    event_id: str
    event: EventKind
    title: str
    # A few lines, at most 1,000 characters.
    text: str
    timestamp: Timestamp
    # The job at that moment; null for an event of the server.
    job: ProgressUpdate | None
    # The page about it.
    link: str
    read: bool
    # True if all causes of the failures are known until later: it is shown, but not sent.
    muted: bool

    @classmethod
    def of(cls, told: Notification, backend: Backend) -> NotificationOut:
        """Return the answer for a notification."""
        return cls(
            event_id=told.event_id,
            event=told.event,
            title=told.title or "",
            text=told.text or "",
            timestamp=iso(told.at),
            job=told.job,
            link=job_link(backend.settings.base_url, told.job_id),
            read=told.read_at is not None,
            muted=told.muted,
        )


class NotificationPage(msgspec.Struct):
    """A part of the caller's list, newest first."""

    items: list[NotificationOut]
    # Number of unread ones in the whole list.
    unread: int
    # Where the next part begins; null for the last one.
    next_cursor: str | None


class ReadBody(msgspec.Struct, forbid_unknown_fields=True):
    """The notifications that were read; without `event_ids` all of them."""

    event_ids: Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_IDS})] | None = None


class UnreadOut(msgspec.Struct):
    """How many notifications are unread now."""

    unread: int


class WishBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the caller wishes to be told of a job, until its end; an empty list takes the wish back."""

    events: list[EventKind]


class NotificationSettingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the caller is told of, and when nothing is sent."""

    # null for the usual ones.
    events: list[EventKind] | None = None
    # Between these times of the day nothing is sent; null for no quiet hours.
    quiet_from: TimeOfDay | None = None
    quiet_to: TimeOfDay | None = None
    # The zone of the quiet hours and of times in texts, such as Europe/Berlin; null for the server's.
    zone: str | None = None

    def settings(self) -> NotificationSettings:
        """Return the settings. Raises `Invalid` for what is no time of the day."""
        return NotificationSettings(
            events=None if self.events is None else frozenset(self.events),
            quiet_from=_minutes(self.quiet_from),
            quiet_to=_minutes(self.quiet_to),
            zone=self.zone,
        )


class NotificationSettingsOut(NotificationSettingsBody):
    """The settings, and what the usual events are."""

    defaults: list[EventKind] = msgspec.field(default_factory=lambda: sorted(DEFAULTS))

    @classmethod
    def of(cls, settings: NotificationSettings) -> NotificationSettingsOut:
        """Return the answer for settings."""
        events = None if settings.events is None else sorted(settings.events)
        return cls(events, _time_of(settings.quiet_from), _time_of(settings.quiet_to), settings.zone)


def _minutes(text: str | None) -> int | None:
    if text is None:
        return None
    found = TIME_OF_DAY.match(text)
    if found is None:
        raise Invalid("Quiet hours are times of the day, such as 22:00 and 07:00.")
    return int(found[1]) * 60 + int(found[2])


def _time_of(minutes: int | None) -> str | None:
    return None if minutes is None else f"{minutes // 60:02}:{minutes % 60:02}"
