"""A point in time by the reader's own clock: only the browser knows the zone."""

from __future__ import annotations

from datetime import datetime

from nicegui.element import Element

from backend.clock import iso
from ui.components.shared import BROWSER_JS


class Moment(Element, component="moment.vue", dependencies=[BROWSER_JS]):
    """A time like "14:02", with the day unless that is today. Its title has all of it.

    `zoned` adds the zone's short name, `exact` the seconds.
    """

    def __init__(self, at: datetime, *, zoned: bool = False, exact: bool = False) -> None:
        super().__init__()
        self._props["at"] = iso(at)
        self._props["zoned"] = zoned
        self._props["exact"] = exact
