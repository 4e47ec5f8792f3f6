"""Jobs as rows of History: one element whose rows are replaced in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nicegui.element import Element

from backend.clock import iso
from backend.domain.job import Job, Source
from progress_dashboard.protocol import WITH_FAILURES
from ui.components.shared.bulk import PARTS, bulk_looks, offered
from ui.text import count, time_taken
from ui.theme import looks


class JobTable(Element, component="job_table.vue", dependencies=PARTS):
    """A table whose rows link to their jobs."""

    def __init__(self, *, show_owner: bool) -> None:
        super().__init__()
        self._props["looks"] = looks()
        self._props["show-owner"] = show_owner
        self._props["bulk-actions"] = bulk_looks()
        self._props["matching"] = 0
        self._props["rows"] = []
        self._props["news"] = ""

    def say(self, sentence: str) -> None:
        """Announce a sentence to assistive technology, unless it is the same as the last one."""
        self._props["news"] = sentence

    def match(self, number: int) -> None:
        """Offer to select all jobs that match, which are so many; 0: they cannot be selected at once."""
        if self._props["matching"] != number:
            self._props["matching"] = number

    def show(self, jobs: Sequence[Job], *, now: datetime) -> None:
        """Show these jobs in this order."""
        rows = [_row(job, now) for job in jobs]
        if rows != self._props["rows"]:
            self._props["rows"] = rows


def _row(job: Job, now: datetime) -> Mapping[str, Any]:
    done = "" if job.is_finished else f"{count(job.current_video)} / "
    return {
        "id": job.id,
        "name": job.name,
        "offers": [{"act": name} for name in offered(job)],
        "status": job.status.value,
        "demo": job.source is Source.DEMO,
        "owner": job.owner,
        "videos": f"{done}{count(job.total_videos)}",
        "failed": count(job.failed),
        "error": job.error if job.status in WITH_FAILURES else None,
        "created": iso(job.created_at),
        "took": time_taken(job, now) if job.started_at else "",
    }
