"""Tabs with their panels. On a wide page one panel may be next to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments
from nicegui.slot import Slot


class Tabs(Element, component="tabs.vue"):
    """A tab for each of `titles` (name -> words), whose panel is drawn within `part(name)`.

    `part("head")` is above the tabs. The panel of `beside` is at the side of all that; it is a tab only on a narrow
    page. Switching does not wait for the server, and puts the name into the address as `tab`.
    """

    def __init__(self, titles: Mapping[str, str], *, chosen: str, label: str, beside: str = "") -> None:
        super().__init__()
        self._titles = titles
        self.chosen = chosen
        self._props["chosen"] = chosen
        self._props["label"] = label
        self._props["beside"] = beside
        self.count()

        def choose(event: GenericEventArguments) -> None:
            if event.args in titles:
                self.chosen = event.args

        self.on("choose", choose)

    def part(self, name: str) -> Slot:
        """Return the slot to draw this part in."""
        return self.add_slot(name)

    def count(self, **counts: str) -> None:
        """Show the number of entries of the tabs, by name."""
        tabs: list[dict[str, Any]] = [
            {"name": name, "title": title, "count": counts.get(name, "")} for name, title in self._titles.items()
        ]
        if tabs != self._props.get("tabs"):
            self._props["tabs"] = tabs

    def choose(self, name: str) -> None:
        """Switch to this tab."""
        self.chosen = name
        self.run_method("show", name)
