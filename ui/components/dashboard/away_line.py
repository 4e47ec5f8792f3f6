"""The dashboard's line about what happened while its user was away."""

from __future__ import annotations

from nicegui.element import Element

from backend.domain.auth import User
from backend.domain.notification import Away
from ui.components.shared import BROWSER_JS, NOTICES_JS
from ui.components.shared.bell import away_facts


class AwayLine(Element, component="away_line.vue", dependencies=[BROWSER_JS, NOTICES_JS]):
    """What happened to the user's own jobs, with a link to each part, until it is read, in any tab.

    `away` is what the page draws first; the bell's state follows.
    """

    def __init__(self, away: Away | None, user: User) -> None:
        super().__init__()
        self._props["first"] = away_facts(away)
        self._props["owner"] = user.name if user.is_admin else ""  # others see only their own jobs
