"""The hours in which a user is told nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from zoneinfo import available_timezones

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.notification import NotificationSettings


@dataclass(frozen=True, slots=True)
class Quiet:
    """Quiet hours as they are typed: minutes since midnight, in a zone."""

    begin: int
    end: int
    zone: str


class QuietHours(Element, component="quiet_hours.vue"):
    """`on_quiet` gets the hours that the user saves, None for none. `server_zone` is "" if it has no name."""

    def __init__(self, *, server_zone: str, on_quiet: Callable[[Quiet | None], Awaitable[None]]) -> None:
        super().__init__()
        self._props["zones"] = zone_names()
        self._props["server-zone"] = server_zone

        async def saved(event: GenericEventArguments) -> None:
            match event.args:
                case None:
                    await on_quiet(None)
                case {"begin": str(begin), "end": str(end), "zone": str(zone)}:
                    first, last = minutes_of(begin), minutes_of(end)
                    if first is not None and last is not None:
                        await on_quiet(Quiet(first, last, zone))

        self.on("quiet", saved)

    def show(self, settings: NotificationSettings) -> None:
        """Show the hours of these settings."""
        begin, end = settings.quiet_from, settings.quiet_to
        quiet = None
        if begin is not None and end is not None:
            quiet = {"begin": clock_of(begin), "end": clock_of(end), "zone": settings.zone or ""}
        if quiet != self._props.get("quiet"):
            self._props["quiet"] = quiet


@cache
def zone_names() -> list[str]:
    """Return the names of the zones that this server knows."""
    return sorted(name for name in available_timezones() if "/" in name or name == "UTC")


def clock_of(minutes: int) -> str:
    """Return minutes since midnight as a clock shows them.

    >>> clock_of(7 * 60 + 5)
    '07:05'
    """
    return f"{minutes // 60:02}:{minutes % 60:02}"


def minutes_of(text: str) -> int | None:
    """Return the minutes since midnight of "07:05"; None for anything else.

    >>> minutes_of("07:05"), minutes_of("24:00"), minutes_of("soon")
    (425, None, None)
    """
    hours, _, minutes = text[:5].partition(":")
    if not (hours.isdecimal() and minutes.isdecimal()):
        return None
    return int(hours) * 60 + int(minutes) if int(hours) < 24 and int(minutes) < 60 else None
