"""A search field that tells what is in it when the writer pauses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class SearchField(Element, component="search_field.vue"):
    """`on_search` gets the text; `label` says what can be searched; `hook` is its test ID."""

    def __init__(self, initial: str, *, label: str, hook: str, on_search: Callable[[str], Awaitable[None]]) -> None:
        super().__init__()
        self._props["initial"] = initial
        self._props["label"] = label
        self._props["hook"] = hook

        async def search(event: GenericEventArguments) -> None:
            await on_search(str(event.args))

        self.on("search", search)

    def empty(self) -> None:
        """Nothing is searched for any more."""
        self._props["initial"] = ""
        self.run_method("empty")
