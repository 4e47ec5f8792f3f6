"""A field for a whole number, changed in place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class NumberField(Element, component="number_field.vue"):
    """`on_number` gets the typed number, which may lie outside `least` and `most`. `show` displays the result."""

    def __init__(self, *, least: int, most: int, on_number: Callable[[int], Awaitable[None]]) -> None:
        super().__init__()
        self._props["least"] = least
        self._props["most"] = most

        async def typed(event: GenericEventArguments) -> None:
            if isinstance(event.args, int | float):
                await on_number(int(event.args))
            self.run_method("settle")

        self.on("number", typed)

    def show(self, value: int, label: str) -> None:
        """Show the number and what it counts."""
        if (value, label) != (self._props.get("value"), self._props.get("label")):
            self._props["value"] = value
            self._props["label"] = label
