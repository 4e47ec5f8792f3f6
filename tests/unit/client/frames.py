"""Updates and frames of the progress socket, as values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from progress_dashboard import ProgressUpdate, Status
from tests.support.jobs import a_job

Seqs = list[tuple[str, int]]  # job ID and `seq` of updates


def state(job_id: str, seq: int, status: Status = Status.PROCESSING, **given: Any) -> ProgressUpdate:
    """Return an update of a job of ten videos."""
    return a_job(id=job_id, seq=seq, status=status, **given).update()


def frame(update: ProgressUpdate) -> bytes:
    """Return a frame of the default format."""
    return msgspec.json.encode(update)


def batch(
    prev: int | None, seq: int, *updates: ProgressUpdate, removed: Iterable[str] = (), more: bool = False
) -> bytes:
    """Return a frame of `format=batch`; `prev` None makes it a snapshot."""
    fields = {"type": "updates", "prev": prev or 0, "seq": seq, "snapshot": prev is None, "updates": updates}
    return msgspec.json.encode({**fields, "removed": list(removed), **({"more": True} if more else {})})


def seqs(updates: Iterable[ProgressUpdate]) -> Seqs:
    """Return the job ID and the `seq` of each update."""
    return [(update.job_id, update.seq) for update in updates]
