"""The button by which a user asks to be told when a job ends."""

from __future__ import annotations

from nicegui.element import Element

from backend.domain.job import Job
from ui.components.shared import BROWSER_JS, BROWSER_NOTICES_JS, NOTICES_JS


class TellMe(Element, component="tell_me.js", dependencies=[BROWSER_JS, NOTICES_JS, BROWSER_NOTICES_JS]):
    """The button of a job's page. The bell of the page asks the server, and knows what was asked for."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._props["job-id"] = job.id
        self._props["name"] = job.name
        self._props["wide"] = True
