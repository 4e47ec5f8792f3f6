"""When finished jobs leave the dashboard."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.jobs.retention import leaves
from backend.settings import Settings
from progress_dashboard.protocol import UNFINISHED, Status
from tests.support.jobs import ERA, a_job

SETTINGS = Settings.model_construct()


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        (Status.COMPLETED, 300),
        (Status.CANCELLED, 300),
        (Status.FAILED, 86_400),
        (Status.COMPLETED_WITH_ERRORS, 86_400),
    ],
)
def test_a_finished_job_leaves_when_its_time_is_over(status: Status, seconds: int) -> None:
    job = a_job(status=status, finished_at=ERA)
    assert not leaves(job, ERA + timedelta(seconds=seconds - 1), SETTINGS)
    assert leaves(job, ERA + timedelta(seconds=seconds), SETTINGS)


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_an_unfinished_job_never_leaves(status: Status) -> None:
    assert not leaves(a_job(status=status), ERA + timedelta(days=1000), SETTINGS)


@pytest.mark.parametrize("status", sorted(set(Status) - UNFINISHED))
def test_a_pinned_job_never_leaves(status: Status) -> None:
    job = a_job(status=status, finished_at=ERA, pinned=True)
    assert not leaves(job, ERA + timedelta(days=1000), SETTINGS)
