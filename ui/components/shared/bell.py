"""The bell in the frame of every page: how much is unread, the newest notifications, and their browser's twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nicegui import Client, ElementFilter
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import to_millis
from backend.domain.auth import User
from backend.domain.notification import Away, EventKind, Notification
from backend.domain.sending import GROUP_SECONDS, MAX_SINGLE
from progress_dashboard.protocol import Status
from ui.components.shared import BROWSER_JS, BROWSER_NOTICES_JS, NOTICES_JS
from ui.theme import STALLED_LOOK, STATUS_LOOK

MAX_IDS, MAX_ID_LENGTH = 1_000, 64
EVENT_ICONS: Mapping[EventKind, str] = {
    EventKind.COMPLETED: STATUS_LOOK[Status.COMPLETED].icon,
    EventKind.WITH_ERRORS: STATUS_LOOK[Status.COMPLETED_WITH_ERRORS].icon,
    EventKind.FAILED: STATUS_LOOK[Status.FAILED].icon,
    EventKind.STALLED: STALLED_LOOK.icon,
    EventKind.PAUSED_ITSELF: STATUS_LOOK[Status.PAUSED].icon,
    EventKind.SLOWER: "trending_down",
    EventKind.FASTER: "trending_up",
    EventKind.RECOVERED: "play_circle",
    EventKind.DISK_LOW: "storage",
}


class BellActions(Protocol):
    """What a bell asks for, as the user of its page."""

    async def wish(self, job_id: str, *, is_on: bool) -> None:
        """Tell the user when the job ends, or no longer."""

    async def mark_read(self, event_ids: Sequence[str] | None) -> None:
        """Mark these notifications as read; None: all."""

    async def end_absence(self) -> None:
        """Forget what happened while the user was away."""

    async def note_presence(self) -> None:
        """Note that the user is here."""


class Bell(Element, component="bell.vue", dependencies=[BROWSER_JS, NOTICES_JS, BROWSER_NOTICES_JS]):
    """The bell, its menu, and notifications of the browser; also what the cards and the dashboard know of its user.

    `ui.bells` shows its state while the page is connected.
    """

    def __init__(self, actions: BellActions, user: User) -> None:
        super().__init__()
        self._actions = actions
        words = {event.value: event.words for event in EventKind}
        self._props["group"] = {"most": MAX_SINGLE, "seconds": GROUP_SECONDS, "words": words, "user": user.id}
        self._props["icons"] = {event.value: name for event, name in EVENT_ICONS.items()}
        self.on("wish", self._wish)
        self.on("read", self._read)
        self.on("back", actions.end_absence, args=[])
        self.on("present", actions.note_presence, args=[])

    def show(self, state: Mapping[str, Any]) -> None:
        """Show this state, as `state_of` makes it."""
        if self._props.get("state") != state:
            self._props["state"] = state

    async def _wish(self, event: GenericEventArguments) -> None:
        match event.args:
            case {"job": str(job_id), "on": bool(is_on)}:
                await self._actions.wish(job_id[:MAX_ID_LENGTH], is_on=is_on)

    async def _read(self, event: GenericEventArguments) -> None:
        match event.args:
            case None:
                await self._actions.mark_read(None)
            case [*ids]:
                await self._actions.mark_read([one for one in ids[:MAX_IDS] if isinstance(one, str)])


def bell_of(client: Client) -> Bell | None:
    """Return the bell of a page; None if it has none."""
    with client:
        return next(iter(ElementFilter(kind=Bell)), None)


def state_of(
    unread: int, newest: Sequence[Notification], wishes: Sequence[str], away: Away | None, *, is_quiet: bool
) -> Mapping[str, Any]:
    """Return what all bells of a user show. `is_quiet`: the browser tells nothing now."""
    return {
        "unread": unread,
        "items": [_item(one, is_quiet=is_quiet) for one in newest],
        "wishes": sorted(wishes),
        "away": away_facts(away),
    }


def away_facts(away: Away | None) -> Mapping[str, Any] | None:
    """Return what happened while the user was away, for the line on the dashboard."""
    if away is None:
        return None
    return {
        "since": to_millis(away.since),
        "jobs": away.jobs,
        "videos": away.videos,
        "succeeded": away.succeeded,
        "causes": away.causes,
    }


def _item(told: Notification, *, is_quiet: bool) -> Mapping[str, Any]:
    return {
        "id": told.event_id,
        "event": told.event.value,
        "title": told.title or "",
        "text": told.text or "",
        "at": to_millis(told.at),
        "link": f"/jobs/{told.job_id}" if told.job_id else "/",
        "isRead": told.read_at is not None,
        "isMuted": told.muted,
        "isQuiet": is_quiet or told.muted,
    }
