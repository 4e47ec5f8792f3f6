"""Updates that wait for a consumer: all of them for one that keeps up, for a slow one all but some percents."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .mirror import MAX_REMEMBERED_JOBS, only_progressed
from .protocol import ProgressUpdate

MAX_WAITING_UPDATES = 1_000  # updates that wait before a newer percent replaces an older one


@dataclass(frozen=True, slots=True)
class QueuedUpdate:
    """An update that waits for a consumer."""

    # The update itself.
    update: ProgressUpdate
    # True when only percents changed since the update of the same job that waits before it.
    is_percent: bool


class Outbox:
    """The updates that a consumer has not taken yet: each once, and in the order of `seq` within a job.

    Holds at most 1,000 updates besides status changes, errors and two updates of each job. Remembers the `seq` of
    10,000 jobs.
    """

    def __init__(self) -> None:
        self._queued: OrderedDict[tuple[str, int], QueuedUpdate] = OrderedDict()
        self._newest: dict[str, QueuedUpdate] = {}
        self._seqs: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queued)

    def put(self, update: ProgressUpdate) -> None:
        """Queue an update; ignore one that is not newer than every earlier one of its job."""
        if not self._is_newer(update):
            return
        before = self._newest.get(update.job_id)
        queued = QueuedUpdate(update, before is not None and only_progressed(before.update, update))
        if before is not None and before.is_percent and queued.is_percent and self._is_full:
            del self._queued[before.update.job_id, before.update.seq]
        self._queued[update.job_id, update.seq] = queued
        self._newest[update.job_id] = queued

    def take(self) -> ProgressUpdate | None:
        """Remove and return the update that has waited longest; None when none waits."""
        if not self._queued:
            return None
        _, oldest = self._queued.popitem(last=False)
        if self._newest[oldest.update.job_id] is oldest:
            del self._newest[oldest.update.job_id]
        return oldest.update

    @property
    def _is_full(self) -> bool:
        return len(self._queued) >= MAX_WAITING_UPDATES

    def _is_newer(self, update: ProgressUpdate) -> bool:
        if update.seq <= self._seqs.get(update.job_id, -1):
            return False
        self._seqs[update.job_id] = update.seq
        self._seqs.move_to_end(update.job_id)
        if len(self._seqs) > MAX_REMEMBERED_JOBS:
            self._seqs.popitem(last=False)
        return True
