"""The channels of a user, or those for all: each with what it did last, and a form to add or change one."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import to_builtins
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.notification import DEFAULTS, Channel, ChannelKind, EventKind
from backend.errors import DashboardError
from ui.components.notifications.told_events import events_in, kinds_for, names_of
from ui.components.shared import BROWSER_JS
from ui.text import count

KINDS: Mapping[ChannelKind, str] = {ChannelKind.WEBHOOK: "Webhook", ChannelKind.APPRISE: "Apprise address"}
EXAMPLES: Mapping[ChannelKind, str] = {
    ChannelKind.WEBHOOK: "https://hooks.example.org/dashboard",
    ChannelKind.APPRISE: "mailto://…, ntfy://…, slack://…, tgram://…",
}
NOTES: Mapping[ChannelKind, str] = {
    ChannelKind.WEBHOOK: "A program gets each event as JSON, signed if there is a secret.",
    ChannelKind.APPRISE: "Mail, chats and phones, by an address of the Apprise library.",
}
NEW = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A channel as it is typed. `id` is that of a stored one, NEW for another one.

    Of a stored one an empty `url` or `secret` means that it stays as it is. Nothing of both is in its `repr`.
    """

    id: str
    kind: ChannelKind
    name: str
    url: str
    secret: str
    events: frozenset[EventKind] | None
    only: Mapping[str, str]
    tells_details: bool
    daily_cap: int | None

    def __repr__(self) -> str:
        return f"Draft(id={self.id!r}, kind={self.kind.value!r})"


class ChannelActions(Protocol):
    """What a list of channels asks for, as the user of its page. What is refused raises `DashboardError`."""

    async def save(self, draft: Draft) -> str:
        """Store the channel, and return that in a sentence."""

    async def test(self, draft: Draft | str) -> str:
        """Send a test to what is typed, or to the channel of this ID, and return in a sentence that it arrived."""

    async def switch(self, channel_id: str, *, is_on: bool) -> None:
        """Switch the channel on or off."""

    async def remove(self, channel_id: str) -> None:
        """Remove the channel for good."""


class ChannelList(Element, component="channel_list.vue", dependencies=[BROWSER_JS]):
    """What is typed stays in the browser until it is sent; the server gives back masked addresses only.

    `missing` says what to install for addresses of Apprise, None if it is there.
    """

    def __init__(
        self,
        actions: ChannelActions,
        *,
        is_for_all: bool,
        is_admin: bool,
        missing: str | None,
        owners: Sequence[str] = (),
        processors: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._actions = actions
        self._props["channels"] = []
        self._props["is-for-all"] = is_for_all
        for name, words in (("kinds", KINDS), ("examples", EXAMPLES), ("notes", NOTES)):
            self._props[name] = {kind.value: text for kind, text in words.items()}
        events = kinds_for(is_admin=is_admin)
        self._props["events"] = [{"name": kind.value, "words": kind.words} for kind in events]
        self._props["usual"] = names_of(DEFAULTS.intersection(events))
        self._props["usual-words"] = "The usual ones" if is_for_all else "Those that you are told of"
        self._props["owners"], self._props["processors"] = list(owners), list(processors)
        self._props["missing"] = missing or ""
        self._props["empty"] = "No channel for all yet." if is_for_all else "No channel yet: the bell is the only one."
        self._props["adding"] = "Add a channel for all" if is_for_all else "Add a channel"
        self.on("save", self._save)
        self.on("test", self._test)
        self.on("turn", self._turn)
        self.on("remove", self._remove)

    def show(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Show these channels, as `row` makes them."""
        rows = list(rows)
        if rows != self._props["channels"]:
            self._props["channels"] = rows

    async def _save(self, event: GenericEventArguments) -> None:
        draft = draft_in(event.args)
        if draft and await self._answer(NEW, self._actions.save(draft)):
            self.run_method("saved")

    async def _test(self, event: GenericEventArguments) -> None:
        match event.args:
            case {"id": str(channel_id), **rest} if not rest:
                await self._answer(channel_id, self._actions.test(channel_id))
            case _ if draft := draft_in(event.args):
                await self._answer(NEW, self._actions.test(draft))

    async def _turn(self, event: GenericEventArguments) -> None:
        match event.args:
            case {"id": str(channel_id), "on": bool(is_on)}:
                await self._actions.switch(channel_id, is_on=is_on)

    async def _remove(self, event: GenericEventArguments) -> None:
        if isinstance(event.args, str):
            await self._actions.remove(event.args)

    async def _answer(self, about: str, doing: Awaitable[str]) -> bool:
        """Show what came of it beside what it is about; return False if it was refused."""
        try:
            sentence, is_good = await doing, True
        except DashboardError as error:
            sentence, is_good = error.sentence, False
        self.run_method("answered", about, is_good, sentence)
        return is_good


def draft_in(sent: object) -> Draft | None:
    """Return the channel in a message of the browser; None if it is none."""
    match sent:
        case {"id": None | str() as channel_id, "kind": str(kind), "name": str(name), "url": str(url), **rest}:
            only, cap, secret = rest.get("only"), rest.get("cap"), rest.get("secret")
            if kind not in set(ChannelKind):
                return None
            return Draft(
                id=channel_id or NEW,
                kind=ChannelKind(kind),
                name=name,
                url=url,
                secret=secret if isinstance(secret, str) else "",
                events=events_in(rest["events"]) if isinstance(rest.get("events"), list) else None,
                only={key: text for key, text in only.items() if text} if isinstance(only, dict) else {},
                tells_details=rest.get("details") is True,
                daily_cap=cap if isinstance(cap, int) else None,
            )
    return None


def row(channel: Channel, url: str) -> Mapping[str, Any]:
    """Return the facts of a channel that leave the server; `url` is masked."""
    events = None if channel.events is None else names_of(channel.events)
    only = {} if channel.only is None else to_builtins(channel.only)
    return {
        "id": channel.id,
        "name": channel.name,
        "kind": channel.kind.value,
        "url": url,
        "tells": _tells(channel, only),
        "enabled": channel.enabled,
        "lastSent": channel.last_sent_at and iso(channel.last_sent_at),
        "problem": channel.disabled_because or channel.last_error or "",
        "events": events,
        "only": only,
        "details": channel.tells_details,
        "cap": channel.daily_cap,
        "hasSecret": channel.secret is not None,
    }


def _tells(channel: Channel, only: Mapping[str, str]) -> str:
    """Return in words what goes to a channel."""
    if channel.events is None:
        events = "The usual events" if channel.owner_id is None else "What you are told of"
    else:
        events = ", ".join(kind.words for kind in EventKind if kind in channel.events) or "No event"
    words = {"name": "lists named {}", "owner": "jobs of {}", "processor": "processor {}"}
    limits = [f"only {words[key].format(text)}" for key, text in only.items() if text]
    details = ["errors as they are"] if channel.tells_details else []
    cap = [f"at most {count(channel.daily_cap)} a day"] if channel.daily_cap else []
    return " · ".join([events[:1].upper() + events[1:], *limits, *details, *cap])
