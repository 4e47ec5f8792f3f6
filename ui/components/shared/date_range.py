"""Two fields for the first and the last day of a time, by the reader's own clock: only the browser knows the zone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class DateRange(Element, component="date_range.vue"):
    """Shows the times `begin` and `end` as days, and gives those at which the first day begins and the last one ends.

    They are in ISO 8601, "" without one. `on_range` gets them when they change; in a form, without it, they are its
    fields `from` and `to`.
    """

    def __init__(self, begin: str, end: str, *, on_range: Callable[[str, str], Awaitable[None]] | None = None) -> None:
        super().__init__()
        self._props["begin"] = begin
        self._props["end"] = end
        self._props["inForm"] = on_range is None
        if on_range is None:
            return

        async def change(event: GenericEventArguments) -> None:
            match event.args:
                case [str(first), str(last)]:
                    await on_range(first, last)

        self.on("range", change)
