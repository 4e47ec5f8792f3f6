"""A point in time as the reader's own clock shows it: only the browser knows the zone."""

from __future__ import annotations

from datetime import datetime

from nicegui.element import Element

from backend.clock import iso
from ui.components.shared import BROWSER_JS


class Moment(Element, component="moment.vue", dependencies=[BROWSER_JS]):
    """ "14:02", with the day when it is another one, and the zone's short name if `zoned`; all of it in its title.

    With the seconds if `exact`.
    """

    def __init__(self, at: datetime, *, zoned: bool = False, exact: bool = False) -> None:
        super().__init__()
        self._props["at"] = iso(at)
        self._props["zoned"] = zoned
        self._props["exact"] = exact
