"""The one entry point to channels, for routes and pages: whose they are, and what may leave the server of them."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from backend.clock import Clock
from backend.domain.auth import User
from backend.domain.notification import Channel, ChannelFilter, ChannelKind, EventKind
from backend.domain.sending import MAX_A_DAY, Verdict
from backend.domain.texts import checked_text, printable, trimmed
from backend.errors import Conflict, Invalid, NotAllowed, NotFound, TooManyAttempts
from backend.notifications.apprise import HOST_SCHEMES, missing
from backend.notifications.messages import a_test
from backend.notifications.outbox import Outbox
from backend.notifications.senders import Senders
from backend.store.channels import ChannelStore

log = logging.getLogger(__name__)
MAX_CHANNELS = 20  # of a user; as many for all
MAX_NAME_LENGTH, MAX_SECRET_LENGTH = 100, 500
MAX_DAILY_CAP = 100_000
MAX_TESTS, TESTS_SECONDS = 10, 60.0  # of a user: a test calls an address of the user's choice
WEB_SCHEMES = ("http", "https")


class ChannelNotFound(NotFound):
    """There is no such channel; it may have been removed."""


class NotSent(Conflict):
    """The test was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A channel as it is asked for. `events` None: what its owner is told of; `daily_cap` None: that of its kind."""

    kind: ChannelKind
    url: str = field(repr=False)
    name: str | None = None
    events: frozenset[EventKind] | None = None
    secret: str | None = field(default=None, repr=False)
    only: ChannelFilter | None = None
    tells_details: bool = False
    enabled: bool = True
    daily_cap: int | None = None
    is_for_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownChannel:
    """What may be shown of a channel: its address is masked, its secret is not there."""

    id: str
    is_for_all: bool
    kind: ChannelKind
    name: str
    url: str
    events: frozenset[EventKind] | None
    has_secret: bool
    only: ChannelFilter | None
    tells_details: bool
    enabled: bool
    daily_cap: int
    created_at: datetime
    last_sent_at: datetime | None
    last_error: str | None
    disabled_because: str | None

    @classmethod
    def of(cls, channel: Channel) -> ShownChannel:
        same = {name: getattr(channel, name) for name in cls.__slots__ if name not in ("is_for_all", "has_secret")}
        shown = same | {"url": masked(channel.url)}
        return cls(is_for_all=channel.owner_id is None, has_secret=channel.secret is not None, **shown)


class Channels:
    """Everybody has channels of their own; administrators those for all, too. Another one's channel is not found."""

    def __init__(self, store: ChannelStore, senders: Senders, outbox: Outbox, clock: Clock, *, base_url: str) -> None:
        self._store = store
        self._senders = senders
        self._outbox = outbox
        self._clock = clock
        self._base_url = base_url
        self._tests: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_TESTS))

    @property
    def apprise_missing(self) -> str | None:
        """What to install for channels through Apprise; None if it is there."""
        return missing()

    async def list(self, *, by: User) -> list[ShownChannel]:
        """Return the user's channels and, for an administrator, those for all, oldest first."""
        return [ShownChannel.of(channel) for channel in await self._store.of(by.id, for_all=by.is_admin)]

    async def add(self, draft: Draft, *, by: User) -> ShownChannel:
        """Store a channel. Raises `Invalid` for what cannot be used, `NotAllowed`, and `Conflict` for too many."""
        channel = await self._made(draft, by)
        if await self._store.count(channel.owner_id) >= MAX_CHANNELS:
            raise Conflict(f"There are {MAX_CHANNELS} channels already; remove one before you add another.")
        await self._store.add(channel)
        self._note("channel_added", channel, by)
        return ShownChannel.of(channel)

    async def change(self, channel_id: str, values: Mapping[str, Any], *, by: User) -> ShownChannel:
        """Change what is given: fields of `Draft` but `kind` and `is_for_all`.

        A channel that is switched off sends nothing more when this returns. Raises like `add`, and `ChannelNotFound`.
        """
        before = await self._find(channel_id, by)
        changes = dict(values)
        if changes.get("url") is not None:
            await self._senders.check(before.kind, changes["url"])
        checked = {name: _checked(name, value, before.kind, before.url) for name, value in changes.items()}
        if checked.get("enabled", before.enabled):
            checked |= {"refused_in_a_row": 0, "disabled_because": None}
        after = await self._store.change(channel_id, checked)
        await self._outbox.stop_line(channel_id)
        self._outbox.wake()
        if after is None:
            raise ChannelNotFound
        self._note("channel_changed", after, by)
        return ShownChannel.of(after)

    async def remove(self, channel_id: str, *, by: User) -> None:
        """Remove the channel with what waits on it. Raises `ChannelNotFound`."""
        channel = await self._find(channel_id, by)
        await self._store.remove(channel_id)
        await self._outbox.stop_line(channel_id)
        self._note("channel_removed", channel, by)

    async def test(self, what: str | Draft, *, by: User) -> None:
        """Send a test to a channel, or to a draft before it is saved.

        Raises `NotSent` with what is wrong if it is not taken, else like `add`, and `TooManyAttempts`.
        """
        channel = await self._find(what, by) if isinstance(what, str) else await self._made(what, by)
        self._admit(by)
        answer = await self._senders.send(channel, a_test(str(uuid4()), self._base_url, self._clock.now()))
        if answer.verdict is not Verdict.TAKEN:
            raise NotSent(answer.error)

    async def _made(self, draft: Draft, by: User) -> Channel:
        if draft.is_for_all and not by.is_admin:
            raise NotAllowed("Only an administrator can have channels for all.")
        await self._senders.check(draft.kind, draft.url)
        names = ("name", "secret", "events", "only", "tells_details", "enabled", "daily_cap")
        values = {name: _checked(name, getattr(draft, name), draft.kind, draft.url) for name in names}
        owner = None if draft.is_for_all else by.id
        now = self._clock.now()
        return Channel(id=str(uuid4()), owner_id=owner, kind=draft.kind, url=draft.url, created_at=now, **values)

    async def _find(self, channel_id: str, by: User) -> Channel:
        channel = await self._store.find(channel_id)
        if channel is None or channel.owner_id not in ((by.id, None) if by.is_admin else (by.id,)):
            raise ChannelNotFound
        return channel

    def _admit(self, by: User) -> None:
        now, tests = self._clock.monotonic(), self._tests[by.id]
        if len(tests) == MAX_TESTS and now - tests[0] < TESTS_SECONDS:
            wait = TESTS_SECONDS - (now - tests[0])
            raise TooManyAttempts(f"That were {MAX_TESTS} tests within a minute; wait a little.", retry_after=wait)
        tests.append(now)

    def _note(self, action: str, channel: Channel, by: User) -> None:
        extra = {"action": action, "channel": channel.id, "kind": channel.kind.value, "user": by.name}
        log.info("%s", action.replace("_", " "), extra=extra)


def masked(url: str) -> str:
    """Return what may be shown of an address: its scheme, and its host where no token can be there.

    >>> masked("https://hooks.example:8443/T0/B0?key=1"), masked("mailto://ana:pass@mail.example")
    ('https://hooks.example:8443/…', 'mailto://mail.example/…')
    >>> masked("slack://T1JJ3T3L2/A1BRTD4JD/secret")
    'slack://…'
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in (*WEB_SCHEMES, *HOST_SCHEMES):
        return f"{scheme}://…"
    netloc = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return f"{scheme}://{netloc.rpartition('@')[2]}/…"


def _checked(name: str, value: Any, kind: ChannelKind, url: str) -> Any:
    """Return the value of a column for what was asked for. Raises `Invalid`."""
    match name:
        case "name":
            return _name(value) or masked(url).partition("://")[2].strip("/…") or f"{url.partition('://')[0]}"
        case "secret":
            return _secret(value, kind)
        case "daily_cap":
            return MAX_A_DAY[kind] if value is None else _cap(value)
        case "only":
            return value if value is not None and any((value.name, value.owner, value.processor)) else None
    return value


def _name(name: str | None) -> str:
    return printable(trimmed(checked_text(name or "", "The name", MAX_NAME_LENGTH)))


def _secret(secret: str | None, kind: ChannelKind) -> str | None:
    if not secret:
        return None
    if kind is not ChannelKind.WEBHOOK:
        raise Invalid("Only a webhook has a secret; services of Apprise have theirs in the address.")
    return checked_text(secret, "The secret", MAX_SECRET_LENGTH)


def _cap(cap: int) -> int:
    if not 1 <= cap <= MAX_DAILY_CAP:
        raise Invalid(f"The limit of messages a day must be from 1 to {MAX_DAILY_CAP:,}.")
    return cap
