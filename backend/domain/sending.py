"""The rules of sending: when it is tried again, quiet hours, floods, and what an answer means. Pure values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

from backend.domain.notification import ChannelKind, EventKind, NotificationSettings
from backend.domain.texts import counted

TRY_DELAYS = (1.0, 10.0, 60.0)  # seconds after the first, second and third try
MAX_TRY_SECONDS = 30.0
MAX_SINGLE, GROUP_SECONDS = 3, 30.0  # more messages than that in this time become one
MAX_GONE = 3  # answers in a row that nothing is there
PASSING_STATUSES = frozenset({408, 425, 429})  # of 400 to 499 those after which another try may help
GONE_STATUSES = frozenset({404, 410})
MAX_TEXT_LENGTH = 1_000  # characters
MAX_A_DAY = {ChannelKind.WEBHOOK: 10_000, ChannelKind.APPRISE: 200}
"""Messages of a channel in a day, unless it has a limit of its own."""
GROUPED = frozenset({ChannelKind.APPRISE})
"""Where many messages at once become one: people read them. Programs read webhooks, and want each event."""
MINUTES_A_DAY = 24 * 60
UNREACHABLE = "The receiver cannot be reached; check its address and its machine."
TIMED_OUT = f"The receiver did not answer within {MAX_TRY_SECONDS:g} s."


class Verdict(StrEnum):
    """What a try came to."""

    TAKEN = "taken"
    AGAIN = "again"  # another try may help
    ENDED = "ended"  # no other try will help


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a try came to, and why it failed. `is_gone`: the receiver says that nothing is there."""

    verdict: Verdict
    error: str | None = None
    is_gone: bool = False


TAKEN = Receipt(Verdict.TAKEN)


def answer_of_status(status: int) -> Receipt:
    """Return what the status of an HTTP answer means.

    >>> answer_of_status(204).verdict.value, answer_of_status(500).verdict.value, answer_of_status(400).verdict.value
    ('taken', 'again', 'ended')
    """
    if 200 <= status < 300:
        return TAKEN
    if 300 <= status < 400:
        return Receipt(Verdict.ENDED, f"The receiver answered {status}, a redirect; enter the address it leads to.")
    error = f"The receiver answered {status}."
    if 400 <= status < 500 and status not in PASSING_STATUSES:
        return Receipt(Verdict.ENDED, error, is_gone=status in GONE_STATUSES)
    return Receipt(Verdict.AGAIN, error)


def next_try(tries: int, now: datetime) -> datetime | None:
    """Return when to try again after so many tries; None after the last one."""
    return now + timedelta(seconds=TRY_DELAYS[tries - 1]) if tries <= len(TRY_DELAYS) else None


def gone_after(gone_in_a_row: int, answer: Receipt) -> int:
    """Return how often in a row a channel's receiver has said that nothing is there. Only what it takes ends that."""
    if answer.verdict is Verdict.TAKEN:
        return 0
    return gone_in_a_row + 1 if answer.is_gone else gone_in_a_row


def off_because(error: str | None, gone_in_a_row: int) -> str | None:
    """Return why a channel is switched off after so many such answers; None while it stays on."""
    if gone_in_a_row < MAX_GONE:
        return None
    reason = (error or "The receiver is gone.").rstrip(".")
    return f"{reason}, {MAX_GONE} times in a row; correct the address, then switch the channel on again."


def group_title(events: Collection[EventKind]) -> str:
    """Return the title of the message that many events become.

    >>> group_title([EventKind.FAILED, EventKind.STALLED, EventKind.FAILED, EventKind.COMPLETED])
    '4 notifications: 2 failed, 1 stalled, 1 completed'
    """
    kinds = ", ".join(f"{number:,} {event.words}" for event, number in Counter(events).most_common())
    return f"{counted(len(events), 'notification')}: {kinds}"


def group_text(titles: Sequence[str], *, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Return a line for each title; as many as fit, and the number of the others.

    >>> print(group_text(["a.csv: failed", "b.csv: failed", "c.csv: failed"], max_length=30))
    a.csv: failed
    and 2 more
    """
    lines: list[str] = []
    for number, title in enumerate(titles, 1):
        rest = f"and {len(titles) - number:,} more" if number < len(titles) else ""
        if len("\n".join((*lines, title, *filter(None, (rest,))))) > max_length:
            return "\n".join((*lines, f"and {len(titles) - number + 1:,} more"))
        lines.append(title)
    return "\n".join(lines)


def quiet_hours(settings: NotificationSettings, zone: tzinfo) -> QuietHours | None:
    """Return the quiet hours of a user, None without any; `zone` holds where the user has chosen none."""
    if settings.quiet_from is None or settings.quiet_to is None or settings.quiet_from == settings.quiet_to:
        return None
    begin, end = (divmod(minutes % MINUTES_A_DAY, 60) for minutes in (settings.quiet_from, settings.quiet_to))
    return QuietHours(time(*begin), time(*end), _zone_of(settings.zone) or zone)


def _zone_of(name: str | None) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):  # this machine does not know it
        return None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """The hours of a day in which a user is told nothing; over midnight where they begin later than they end."""

    begin: time
    end: time
    zone: tzinfo

    def until(self, now: datetime) -> datetime | None:
        """Return when the present quiet hours end; None outside of them.

        >>> quiet = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
        >>> quiet.until(datetime(2026, 1, 31, 22, 30, tzinfo=UTC)).isoformat()
        '2026-02-01T06:00:00+00:00'
        """
        here = now.astimezone(self.zone)
        clock = here.time()
        if self.begin <= self.end:
            is_quiet, ends_today = self.begin <= clock < self.end, True
        else:
            is_quiet, ends_today = clock >= self.begin or clock < self.end, clock < self.end
        if not is_quiet:
            return None
        day = here.date() if ends_today else here.date() + timedelta(days=1)
        return datetime.combine(day, self.end, self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A delivery that is not sent yet. Those of a group are one message. `seq` is its place in its channel's line."""

    event_id: str
    job_id: str | None
    seq: int
    due_at: datetime
    tries: int = 0
    group_id: str | None = None

    @property
    def key(self) -> str:
        """Deliveries of one key are sent in order."""
        return self.job_id or self.event_id

    def in_group(self, group_id: str) -> Waiting:
        """Return the delivery as a part of this message."""
        return replace(self, group_id=group_id)


@dataclass(frozen=True, slots=True)
class Unit:
    """What is sent as one message."""

    members: tuple[Waiting, ...]

    @property
    def group_id(self) -> str | None:
        """The ID of the group, None for a single delivery."""
        return self.members[0].group_id

    @property
    def keys(self) -> frozenset[str]:
        """The keys that wait for this message."""
        return frozenset(member.key for member in self.members)

    def tried(self, *, due_at: datetime) -> Unit:
        """Return the message after another try that failed."""
        return Unit(tuple(replace(member, tries=member.tries + 1, due_at=due_at) for member in self.members))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send now, deliveries that shall become one message, and when to look again (None: after news)."""

    units: tuple[Unit, ...] = ()
    group: tuple[Waiting, ...] = ()
    look_at: datetime | None = None


def plan(
    line: Sequence[Waiting],
    *,
    now: datetime,
    busy: Collection[str] = (),
    recent: Sequence[datetime] = (),
    groups: bool,
    room: int,
) -> Plan:
    """Plan what a channel sends now of its `line`, which is in order of `seq`.

    `busy` are the keys that are being sent, `recent` the times of its newest messages, `room` how many further ones it
    may have under way. Nothing overtakes an earlier delivery of its key. A group is sent again as it is.
    """
    ready, again, look_at = _due(line, now, set(busy))
    if not groups:
        return Plan(_heads((*again, *map(_single, ready)))[:room], look_at=look_at)
    free_at = _free_at(recent, now)
    free = MAX_SINGLE - sum(now - at < timedelta(seconds=GROUP_SECONDS) for at in recent)
    if len(ready) <= free:
        return Plan(_heads((*again, *map(_single, ready)))[:room], look_at=look_at)
    if free <= 0:
        return Plan(tuple(again[:room]), look_at=min(filter(None, (look_at, free_at)), default=None))
    return Plan(tuple(again[:room]), tuple(ready) if len(again) < room else (), look_at)


def _due(
    line: Sequence[Waiting], now: datetime, blocked: set[str]
) -> tuple[list[Waiting], list[Unit], datetime | None]:
    """Return what is due and was never tried, messages to try again, and when the next of those is due."""
    grouped: dict[str, list[Waiting]] = {}
    for waiting in line:
        if waiting.group_id is not None:
            grouped.setdefault(waiting.group_id, []).append(waiting)
    ready: list[Waiting] = []
    again: list[Unit] = []
    later: list[datetime] = []
    for unit in _units(line, grouped):
        first = unit.members[0]
        if unit.keys & blocked:
            blocked |= unit.keys
        elif first.due_at > now:
            later.append(first.due_at)
            blocked |= unit.keys
        elif first.tries or first.group_id:
            again.append(unit)
            blocked |= unit.keys
        else:
            ready.append(first)
    return ready, again, min(later, default=None)


def _units(line: Sequence[Waiting], grouped: Mapping[str, Sequence[Waiting]]) -> list[Unit]:
    units = []
    for waiting in line:
        if waiting.group_id is None:
            units.append(Unit((waiting,)))
        elif grouped[waiting.group_id][0] is waiting:
            units.append(Unit(tuple(grouped[waiting.group_id])))
    return units


def _heads(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the first of each key."""
    heads: list[Unit] = []
    taken: set[str] = set()
    for unit in units:
        if not unit.keys & taken:
            heads.append(unit)
        taken |= unit.keys
    return tuple(heads)


def _single(waiting: Waiting) -> Unit:
    return Unit((waiting,))


def _free_at(recent: Sequence[datetime], now: datetime) -> datetime | None:
    """Return when one of the newest messages no longer counts."""
    counted = sorted(at for at in recent if now - at < timedelta(seconds=GROUP_SECONDS))
    return counted[-MAX_SINGLE] + timedelta(seconds=GROUP_SECONDS) if len(counted) >= MAX_SINGLE else None
