"""What the routes of channels take and give, as types. The comment above a field is its description."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from backend.api.types import Timestamp
from backend.clock import iso
from backend.domain.notification import ChannelFilter, ChannelKind, EventKind
from backend.notifications.channels import MAX_DAILY_CAP, MAX_NAME_LENGTH, MAX_SECRET_LENGTH, Draft, ShownChannel
from backend.notifications.guard import MAX_URL_LENGTH

Url = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": MAX_URL_LENGTH})]
Name = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": MAX_NAME_LENGTH})]
Secret = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": MAX_SECRET_LENGTH})]
Cap = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_DAILY_CAP})]


class OnlyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which jobs a channel is told of; what is left out or null: all."""

    # Name of the list.
    name: str | None = None
    # Name of the user.
    owner: str | None = None
    processor: str | None = None

    def filter(self) -> ChannelFilter:
        """Return the filter that it asks for."""
        return ChannelFilter(name=self.name or None, owner=self.owner or None, processor=self.processor or None)


class ChannelBody(msgspec.Struct, forbid_unknown_fields=True):
    """A new channel, or one to be tested."""

    kind: ChannelKind
    # An https address, or one that Apprise knows. It never leaves the server again.
    url: Url
    # By default what may be shown of the address.
    name: Name | None = None
    # Null: what its owner chose to be told of.
    events: list[EventKind] | None = None
    # Signs what a webhook gets. It never leaves the server again.
    secret: Secret | None = None
    only: OnlyBody | None = None
    # True: errors as they are, perhaps with paths; false: in general words.
    tells_details: bool = False
    enabled: bool = True
    # Messages a day; null: 10,000 for a webhook, otherwise 200.
    daily_cap: Cap | None = None
    # True: for the jobs of all users; for administrators.
    for_all: bool = False

    def draft(self) -> Draft:
        """Return the channel that it asks for."""
        return Draft(
            kind=self.kind,
            url=self.url,
            name=self.name,
            events=None if self.events is None else frozenset(self.events),
            secret=self.secret,
            only=None if self.only is None else self.only.filter(),
            tells_details=self.tells_details,
            enabled=self.enabled,
            daily_cap=self.daily_cap,
            is_for_all=self.for_all,
        )


class ChannelChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What changes about a channel; a field that is left out stays. Null is as for a new channel."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType | None = msgspec.UNSET
    events: list[EventKind] | msgspec.UnsetType | None = msgspec.UNSET
    secret: Secret | msgspec.UnsetType | None = msgspec.UNSET
    only: OnlyBody | msgspec.UnsetType | None = msgspec.UNSET
    tells_details: bool | msgspec.UnsetType = msgspec.UNSET
    # False: it sends nothing more once this is answered.
    enabled: bool | msgspec.UnsetType = msgspec.UNSET
    daily_cap: Cap | msgspec.UnsetType | None = msgspec.UNSET

    def values(self) -> dict[str, Any]:
        """Return the fields that were given."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        values = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        if values.get("events") is not None:
            values["events"] = frozenset(values["events"])
        if isinstance(self.only, OnlyBody):
            values["only"] = self.only.filter()
        return values


class OnlyOut(msgspec.Struct):
    """Which jobs a channel is told of; null: all."""

    # Name of the list.
    name: str | None
    # Name of the user.
    owner: str | None
    processor: str | None


class ChannelOut(msgspec.Struct):
    """A channel. Its address is masked."""

    id: str
    kind: ChannelKind
    name: str
    # Only the scheme, and the host where no token can be there.
    url: str
    # Null: what its owner chose to be told of.
    events: list[EventKind] | None
    enabled: bool
    last_sent_at: Timestamp | None
    # Why the newest message was not taken; null after one that was.
    last_error: str | None
    # Why it was switched off, unless by a user.
    disabled_because: str | None
    has_secret: bool
    only: OnlyOut | None
    # True: errors as they are, perhaps with paths; false: in general words.
    tells_details: bool
    # Messages a day.
    daily_cap: int
    # True: for the jobs of all users.
    for_all: bool

    @classmethod
    def of(cls, channel: ShownChannel) -> ChannelOut:
        """Return the answer for a channel."""
        only = channel.only
        return cls(
            id=channel.id,
            kind=channel.kind,
            name=channel.name,
            url=channel.url,
            events=None if channel.events is None else sorted(channel.events),
            enabled=channel.enabled,
            last_sent_at=None if channel.last_sent_at is None else iso(channel.last_sent_at),
            last_error=channel.last_error,
            disabled_because=channel.disabled_because,
            has_secret=channel.has_secret,
            only=None if only is None else OnlyOut(only.name, only.owner, only.processor),
            tells_details=channel.tells_details,
            daily_cap=channel.daily_cap,
            for_all=channel.is_for_all,
        )


class TestOut(msgspec.Struct):
    """A test that was taken."""

    __test__ = False  # for pytest

    sent: bool
    # In words.
    detail: str
