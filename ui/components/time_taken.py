"""How long a job took, or has been running."""

from __future__ import annotations

from datetime import datetime

from backend.jobs import Job
from ui.text import MINUTE, duration


def time_taken(job: Job, now: datetime) -> str:
    """From its start (while it waits: from its making) to its end, or to `now` in whole seconds."""
    began = job.started_at or job.created_at
    if job.is_finished and job.finished_at:
        return duration((job.finished_at - began).total_seconds())
    seconds = max(0, round((now - began).total_seconds()))
    return f"{seconds} s" if seconds < MINUTE else duration(seconds)
