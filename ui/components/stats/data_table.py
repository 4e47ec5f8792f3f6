"""The numbers behind a chart as a table, folded up until it is wanted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nicegui.element import Element

from ui.components.shared import BROWSER_JS


class DataTable(Element, component="data_table.vue", dependencies=[BROWSER_JS]):
    """A table with these `heads`.

    The first `times` columns are moments, shown by the reader's own clock, those at the places `texts` are words, the
    others numbers.
    """

    def __init__(self, caption: str, heads: Sequence[str], *, times: int, texts: Collection[int], hook: str) -> None:
        super().__init__()
        self._props["caption"] = caption
        self._props["heads"] = list(heads)
        self._props["rows"] = []
        self._props["times"] = times
        self._props["texts"] = sorted(texts)
        self._props["hook"] = hook

    def show(self, rows: Sequence[Sequence[str]]) -> None:
        """Show these rows."""
        wanted = [list(row) for row in rows]
        if wanted != self._props["rows"]:
            self._props["rows"] = wanted
