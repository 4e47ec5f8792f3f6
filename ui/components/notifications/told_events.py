"""The events that a user is told of, as switches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.notification import EventKind, NotificationSettings, event_kinds

MEANINGS: Mapping[EventKind, str] = {
    EventKind.COMPLETED: "All videos are ok.",
    EventKind.WITH_ERRORS: "Some videos failed, after all automatic tries.",
    EventKind.FAILED: "All videos failed, or the job itself did.",
    EventKind.STALLED: "No video has made progress for a while.",
    EventKind.PAUSED_ITSELF: "The machine failed one video after the other.",
    EventKind.SLOWER: "It took longer than the list's earlier runs, at least 5 of them.",
    EventKind.FASTER: "It took less time than the list's earlier runs, at least 5 of them.",
    EventKind.RECOVERED: "A stalled job makes progress again.",
    EventKind.DISK_LOW: "The server's disk is nearly full.",
}
FOR_ADMINISTRATORS = frozenset({EventKind.DISK_LOW})


class ToldEvents(Element, component="told_events.vue"):
    """`on_events` gets the chosen events, None for the usual ones."""

    def __init__(self, *, is_admin: bool, on_events: Callable[[frozenset[EventKind] | None], Awaitable[None]]) -> None:
        super().__init__()
        self._props["kinds"] = [
            {"name": kind.value, "words": kind.words, "text": MEANINGS[kind]} for kind in kinds_for(is_admin=is_admin)
        ]

        async def chosen(event: GenericEventArguments) -> None:
            await on_events(None if event.args is None else events_in(event.args))

        self.on("events", chosen)

    def show(self, settings: NotificationSettings) -> None:
        """Show what these settings ask for."""
        shown = {"wanted": names_of(settings.wanted), "is-usual": settings.events is None}
        for name, value in shown.items():
            if self._props.get(name) != value:
                self._props[name] = value


def kinds_for(*, is_admin: bool) -> Sequence[EventKind]:
    """Return the events that such a user can be told of."""
    return [kind for kind in EventKind if is_admin or kind not in FOR_ADMINISTRATORS]


def names_of(events: Iterable[EventKind]) -> list[str]:
    """Return the names of events, in the order in which they are shown."""
    chosen = frozenset(events)
    return [kind.value for kind in EventKind if kind in chosen]


def events_in(sent: object) -> frozenset[EventKind]:
    """Return the events in a message of the browser, without what is none."""
    return event_kinds(name for name in sent if isinstance(name, str)) if isinstance(sent, list) else frozenset()
