"""The channels of a user, or those for all: each with what it did last, and a form to add or change one."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.notification import DEFAULTS, ChannelFilter, ChannelKind, EventKind
from backend.domain.sending import MAX_A_DAY
from backend.errors import DashboardError
from backend.notifications.channels import Draft, ShownChannel
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
ONLY: Mapping[str, str] = {"name": "only lists named {}", "owner": "only jobs of {}", "processor": "only processor {}"}
NEW = ""


@dataclass(frozen=True, slots=True)
class Typed:
    """A channel as it is typed. `id` is that of a stored one, NEW for another one.

    Of a stored one an empty `url` or `secret` means that it stays as it is.
    """

    id: str
    draft: Draft

    def changes(self) -> Mapping[str, Any]:
        """Return what changes of a stored channel."""
        draft = self.draft
        given = {name: text for name, text in (("url", draft.url), ("secret", draft.secret)) if text}
        same = ("name", "events", "only", "tells_details", "daily_cap")
        return {name: getattr(draft, name) for name in same} | given


class ChannelActions(Protocol):
    """What a list of channels asks for, as the user of its page. What is refused raises `DashboardError`."""

    async def save(self, typed: Typed) -> str:
        """Store the channel, and return that in a sentence."""

    async def test(self, what: Typed | str) -> str:
        """Send a test to what is typed, or to the channel of this ID, and return in a sentence that it was taken."""

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
        self._is_for_all = is_for_all
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

    def show(self, channels: Iterable[ShownChannel]) -> None:
        """Show those of these channels that belong here."""
        rows = [row(channel) for channel in channels if channel.is_for_all is self._is_for_all]
        if rows != self._props["channels"]:
            self._props["channels"] = rows

    async def _save(self, event: GenericEventArguments) -> None:
        typed = typed_in(event.args, is_for_all=self._is_for_all)
        if typed and await self._answer(NEW, self._actions.save(typed)):
            self.run_method("saved")

    async def _test(self, event: GenericEventArguments) -> None:
        match event.args:
            case {"id": str(channel_id), **rest} if not rest:
                await self._answer(channel_id, self._actions.test(channel_id))
            case _ if typed := typed_in(event.args, is_for_all=self._is_for_all):
                await self._answer(NEW, self._actions.test(typed))

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


def typed_in(sent: object, *, is_for_all: bool) -> Typed | None:
    """Return the channel in a message of the browser; None if it is none."""
    match sent:
        case {"id": None | str() as channel_id, "kind": str(kind), "name": str(name), "url": str(url), **rest}:
            if kind not in set(ChannelKind):
                return None
            draft = Draft(
                kind=ChannelKind(kind),
                url=url,
                name=name or None,
                events=events_in(rest["events"]) if isinstance(rest.get("events"), list) else None,
                secret=secret if isinstance(secret := rest.get("secret"), str) and secret else None,
                only=_only(rest.get("only")),
                tells_details=rest.get("details") is True,
                daily_cap=cap if isinstance(cap := rest.get("cap"), int) else None,
                is_for_all=is_for_all,
            )
            return Typed(channel_id or NEW, draft)
    return None


def _only(sent: object) -> ChannelFilter | None:
    given = sent if isinstance(sent, dict) else {}
    facts = {name: text for name in ONLY if isinstance(text := given.get(name), str) and text}
    return ChannelFilter(**facts) if facts else None


def row(channel: ShownChannel) -> Mapping[str, Any]:
    """Return the facts of a channel for the component that draws them."""
    return {
        "id": channel.id,
        "name": channel.name,
        "kind": channel.kind.value,
        "url": channel.url,
        "tells": _tells(channel),
        "enabled": channel.enabled,
        "lastSent": channel.last_sent_at and iso(channel.last_sent_at),
        "problem": channel.disabled_because or channel.last_error or "",
        "events": None if channel.events is None else names_of(channel.events),
        "only": {name: getattr(channel.only, name, None) or "" for name in ONLY},
        "details": channel.tells_details,
        "cap": None if _has_usual_cap(channel) else channel.daily_cap,
        "hasSecret": channel.has_secret,
    }


def _tells(channel: ShownChannel) -> str:
    """Return in words what goes to a channel."""
    if channel.events is None:
        events = "the usual events" if channel.is_for_all else "what you are told of"
    else:
        events = ", ".join(kind.words for kind in EventKind if kind in channel.events) or "no event"
    limits = [words.format(text) for name, words in ONLY.items() if (text := getattr(channel.only, name, None))]
    details = ["errors as they are"] if channel.tells_details else []
    cap = [] if _has_usual_cap(channel) else [f"at most {count(channel.daily_cap)} a day"]
    return " · ".join([events[:1].upper() + events[1:], *limits, *details, *cap])


def _has_usual_cap(channel: ShownChannel) -> bool:
    return channel.daily_cap == MAX_A_DAY[channel.kind]
