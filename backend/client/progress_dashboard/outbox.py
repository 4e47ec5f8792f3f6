"""Updates that wait for a consumer: all of them, unless it is slow; then only percents are left out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .mirror import MAX_REMEMBERED_JOBS, only_progressed
from .protocol import ProgressUpdate

MAX_LOSSLESS_UPDATES = 1_000  # updates that wait before percents give way to newer ones


@dataclass(frozen=True, slots=True)
class QueuedUpdate:
    """An update and whether it only moved percents since the one of its job that waits before it."""

    update: ProgressUpdate
    is_percent: bool


class Outbox:
    """What a consumer has not taken yet, job by job in the order of `seq`, and each update once.

    Holds at most 1,000 updates besides status changes, errors and two of each job; remembers the `seq` of 10,000 jobs.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, int], QueuedUpdate] = OrderedDict()
        self._newest: dict[str, QueuedUpdate] = {}
        self._seqs: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, update: ProgressUpdate) -> None:
        """One more; what is not newer than all of its job before is left out."""
        if not self._is_newer(update):
            return
        before = self._newest.get(update.job_id)
        waiting = QueuedUpdate(update, before is not None and only_progressed(before.update, update))
        if (
            before is not None
            and before.is_percent
            and waiting.is_percent
            and len(self._waiting) >= MAX_LOSSLESS_UPDATES
        ):
            del self._waiting[before.update.job_id, before.update.seq]
        self._waiting[update.job_id, update.seq] = waiting
        self._newest[update.job_id] = waiting

    def take(self) -> ProgressUpdate | None:
        """The one that has waited longest; None when none waits."""
        if not self._waiting:
            return None
        _, oldest = self._waiting.popitem(last=False)
        if self._newest[oldest.update.job_id] is oldest:
            del self._newest[oldest.update.job_id]
        return oldest.update

    def _is_newer(self, update: ProgressUpdate) -> bool:
        if update.seq <= self._seqs.get(update.job_id, -1):
            return False
        self._seqs[update.job_id] = update.seq
        self._seqs.move_to_end(update.job_id)
        if len(self._seqs) > MAX_REMEMBERED_JOBS:
            self._seqs.popitem(last=False)
        return True
