"""Two fields for the first and the last day of a time, by the reader's own clock: only the browser knows the zone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class DateRange(Element, component="date_range.vue"):
    """`on_range` gets the times at which the first day begins and the last one ends, in ISO 8601; "" without one."""

    def __init__(self, begin: str, end: str, *, on_range: Callable[[str, str], Awaitable[None]]) -> None:
        super().__init__()
        self._props["begin"] = begin
        self._props["end"] = end

        async def change(event: GenericEventArguments) -> None:
            match event.args:
                case [str(first), str(last)]:
                    await on_range(first, last)

        self.on("range", change)
