"""Tabs with their panels; one panel may stand beside the others where the page is wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments
from nicegui.slot import Slot


class Tabs(Element, component="tabs.vue"):
    """A tab for each of `titles` (name -> words); what is drawn within `part(name)` is its panel.

    What is drawn within `part("head")` stands above. The panel of `beside` stands at the side of all that, and is a tab
    only where the page is too narrow. Switching does not wait for the server, and puts the name into the address as
    `tab`.
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
        """Where to draw what belongs there."""
        return self.add_slot(name)

    def count(self, **counts: str) -> None:
        """How much there is behind the tabs, by name."""
        tabs: list[dict[str, Any]] = [
            {"name": name, "title": title, "count": counts.get(name, "")} for name, title in self._titles.items()
        ]
        if tabs != self._props.get("tabs"):
            self._props["tabs"] = tabs

    def choose(self, name: str) -> None:
        """Show this one, because somebody asked for what is in it."""
        self.chosen = name
        self.run_method("show", name)
