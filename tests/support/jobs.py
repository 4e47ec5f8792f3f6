"""Jobs for tests, with a value in every field that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from backend.domain.job import Job

ERA = datetime(2026, 1, 31, tzinfo=UTC)


def a_job(**given: Any) -> Job:
    """Return a pending job of ten videos with the fields that are `given`."""
    usual = {
        "id": "0b5d3c1e-0000-4000-8000-000000000001",
        "owner_id": "ana",
        "owner": "ana",
        "name": "list.csv",
        "processor": "probe",
        "created_at": ERA,
        "updated_at": ERA,
        "total_videos": 10,
    }
    return Job(**{**usual, **given})
