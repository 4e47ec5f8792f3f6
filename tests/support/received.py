"""The newest states and the errors that a client received, to compare with those of the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from progress_dashboard.protocol import ProgressUpdate
from tests.support.senders import Order

FIELDS = ProgressUpdate.__struct_fields__
PAGE = 1_000

Fields = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """The newest state of each job, and every error."""

    # Newest update of each job, by job ID.
    newest: dict[str, Fields]
    # The first update with each error, by `seq`.
    errors: dict[int, Fields]

    @classmethod
    def from_updates(cls, updates: Iterable[Fields]) -> Received:
        """Collect from updates in any order."""
        ordered = sorted(updates, key=lambda update: int(update["seq"]))
        first: dict[tuple[object, ...], Fields] = {}
        for update in ordered:
            if "error" in update:
                first.setdefault(tuple(update[name] for name in ("job_id", "attempt", "failed", "error")), update)
        return cls(
            {update["job_id"]: update for update in ordered}, {update["seq"]: update for update in first.values()}
        )

    @classmethod
    def from_api(cls, api: httpx.Client) -> Received:
        """Collect from the API's list of jobs and their complete histories."""
        jobs = api.get("/api/jobs", params={"limit": PAGE}).raise_for_status().json()["items"]
        history = cls.from_updates(update for job in jobs for update in _history(api, job["job_id"]))
        return cls({job["job_id"]: {name: job[name] for name in FIELDS if name in job} for job in jobs}, history.errors)

    @property
    def positions(self) -> dict[str, int]:
        """The `seq` of each job's newest state."""
        return {job_id: update["seq"] for job_id, update in self.newest.items()}

    def failures(self, order: Order) -> dict[str, str]:
        """Return the failed videos and errors of a job that was not retried; its own error is with its last video."""
        errors = (error for error in self.errors.values() if error["job_id"] == order.job_id)
        return {error["video_id"]: error["error"] for error in errors}


def reported_failures(order: Order) -> dict[str, str]:
    """Return the failed videos that the sender of this job reported, and their errors."""
    return {video_id: error.strip() for video_id, (_, error) in order.failures.items()}


def _history(api: httpx.Client, job_id: str) -> Iterator[Fields]:
    after = 0
    while True:
        query = {"after": after, "limit": PAGE}
        page = api.get(f"/api/jobs/{job_id}/progress-history", params=query).raise_for_status().json()
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["seq"]
