"""A point in time as the reader's own clock shows it: only the browser knows the zone."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from nicegui.element import Element

from backend.clock import iso


class Moment(Element, component="moment.vue", dependencies=["browser.js"]):
    """ "14:02", with the day when it is another one; all of it with the zone in its title.

    `form`: "zoned" adds the zone's short name, "zone" is that name alone.
    """

    def __init__(self, at: datetime, *, form: Literal["short", "zoned", "zone"] = "short") -> None:
        super().__init__()
        self._props["at"] = iso(at)
        self._props["form"] = form
