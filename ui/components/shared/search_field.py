"""A search field that sends its text when the user stops typing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class SearchField(Element, component="search_field.vue"):
    """`on_search` gets the text. `label` says what can be searched; `hook` is the test ID."""

    def __init__(self, initial: str, *, label: str, hook: str, on_search: Callable[[str], Awaitable[None]]) -> None:
        super().__init__()
        self._props["initial"] = initial
        self._props["label"] = label
        self._props["hook"] = hook

        async def search(event: GenericEventArguments) -> None:
            await on_search(str(event.args))

        self.on("search", search)

    def empty(self) -> None:
        """Clear the field."""
        self._props["initial"] = ""
        self.run_method("empty")
