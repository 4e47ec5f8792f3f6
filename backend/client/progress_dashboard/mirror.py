"""The state of a client of the progress socket: frames and pages of history in, updates out; no socket, clock or wait.

Promise: `jobs` holds the newest state of each job, never an older one after a newer one. Updates are delivered in the
order of `seq` within each job, each of them once. When history has answered for every job in `gaps`, every error was
delivered, whatever was cut, repeated or reduced to newest states on the way.

The server sends every status change and every failed video, but a reader that was away or too slow gets newest states
only. The protocol does not mark them. So an update that may stand for several puts its job into `gaps`, and is held
back until history has answered. This happens

- on an open connection, when it is more than one step from the state before it (`_is_one_step`);
- at the start of a connection, when more than percents changed, or when the job has an error at all;
- for an unknown job, when it has had an error or a retry, also on the very first connection: the default format does
  not mark the end of its snapshot, so an old job and one that was reduced on the way look the same, and "every error"
  holds only if history is asked about both.

One limit: on a connection that stays open, a slow reader may miss the text of an error that belongs to no video (of an
external job) when a newer error followed it, because no update counts such errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

import msgspec

from .protocol import NEXT, UNFINISHED, WITH_FAILURES, ProgressUpdate, Status

MAX_REMEMBERED_JOBS = 10_000  # removed jobs whose last `seq` is kept, so that a repetition of it is not delivered again
FINAL_STATUSES = frozenset(Status) - UNFINISHED
STEPS: Mapping[str, frozenset[Status]] = {status.value: successors for status, successors in NEXT.items()}


class OutOfStep(Exception):
    """A frame does not follow the one before it; connect again and resume from `Mirror.position`."""


class BatchFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of `format=batch`."""

    # `seq` of the frame before.
    prev: int
    # Position of this frame, to resume from.
    seq: int
    # True for a snapshot: jobs that are not in it are not on the dashboard.
    snapshot: bool = False
    # Updates in the order of `seq`.
    updates: list[ProgressUpdate]
    # IDs of the jobs that left the dashboard.
    removed: list[str]
    # True for a part that another part follows.
    more: bool = False


class FrameType(msgspec.Struct):
    """The field that distinguishes a batch from an update."""

    # "updates" for a batch; "" when there is no such field.
    type: str = ""


@dataclass(slots=True)
class KnownJob:
    """What the mirror knows about one job."""

    # `seq` of the last update that was delivered; 0 before the first one.
    delivered_seq: int = 0
    # The last update that was delivered; None before the first one.
    delivered: ProgressUpdate | None = None
    # Updates that wait until history has answered, in the order of `seq`.
    held: list[ProgressUpdate] = field(default_factory=list)
    # A complete answer to the open request has every update up to this `seq`.
    filled_to: int = 0
    # From this `seq` on another request is needed, unless the answer reaches it; 0 when none is.
    gap_from: int = 0
    # True while the gap is only suspected: no update says that something is missing.
    is_suspected: bool = False
    # Number of the last connection that sent an update of the job.
    connection: int = 0
    # False after the server removed the job.
    is_shown: bool = True
    # When its end was received, by the client's clock; None while the job is unfinished.
    ended_at: datetime | None = None

    @property
    def newest(self) -> ProgressUpdate | None:
        """The newest update, delivered or not; None before the first one."""
        return self.held[-1] if self.held else self.delivered

    @property
    def newest_seq(self) -> int:
        """The `seq` of the newest update, delivered or not."""
        return self.held[-1].seq if self.held else self.delivered_seq

    @property
    def has_ended(self) -> bool:
        """True when the newest status is a final one."""
        return self.newest is not None and self.newest.status in FINAL_STATUSES

    def leaves_no_gap(self, update: ProgressUpdate, *, is_reduced: bool) -> bool:
        """Return True if no error can lie between the newest state and this update.

        `is_reduced`: the server may have left updates out before this one.
        """
        before = self.newest
        if before is None:
            return _has_had_no_error(update)
        if is_reduced:
            return only_progressed(before, update) and update.error is msgspec.UNSET
        return _is_one_step(before, update)

    def is_certain_step(self, held: ProgressUpdate) -> bool:
        """Return True if a held update can be delivered next although history has not answered up to it."""
        return self.delivered is not None and not 0 < self.gap_from <= held.seq and _is_one_step(self.delivered, held)

    def deliver(self, update: ProgressUpdate) -> None:
        """Note an update as delivered."""
        self.delivered, self.delivered_seq = update, update.seq

    def hold(self, update: ProgressUpdate) -> None:
        """Hold an update back; of percents in a row, which history may thin out, keep the first and the newest."""
        if (
            len(self.held) > 1
            and only_progressed(self.held[-2], self.held[-1])
            and only_progressed(self.held[-1], update)
        ):
            self.held.pop()
        self.held.append(update)


class Mirror:
    """The newest state of each job that a server shows, kept from the frames of its progress socket.

    Uses memory for each job, and for the errors that arrive while history has not answered.
    """

    def __init__(self, *, completed_ttl_seconds: float = 300, failed_ttl_seconds: float = 86_400) -> None:
        self._completed_ttl = timedelta(seconds=completed_ttl_seconds)
        self._failed_ttl = timedelta(seconds=failed_ttl_seconds)
        self._known: dict[str, KnownJob] = {}
        self._jobs: dict[str, ProgressUpdate] = {}
        self._gaps: dict[str, int] = {}
        self._tombstones: dict[str, int] = {}
        self._monitored: set[str] | None = None
        self._looked_up: set[str] = set()
        self._connection = 0
        self._is_batch_format = False
        self._is_catching_up = False
        self._snapshot: set[str] | None = None
        self._last_received_at: datetime | None = None
        # Newest state of each job by job ID.
        self.jobs: Mapping[str, ProgressUpdate] = MappingProxyType(self._jobs)
        # By job ID the `seq` after which to request the job's history (`GET /api/jobs/{id}/progress-history?after=`);
        # answer with `fill_in` or `give_up`. On the default format every job is in it right after `connected`, and most
        # jobs leave it when the snapshot has arrived: read it then.
        self.gaps: Mapping[str, int] = MappingProxyType(self._gaps)
        # IDs of the jobs that come from history only, after `look_up`.
        self.looked_up: Set[str] = self._looked_up
        # Value of `after=` for the next connection with `format=batch`; None to begin with a snapshot.
        self.position: int | None = None

    def connected(self) -> None:
        """Note that a new connection begins: what happened in between is unknown until the server sends it.

        The default format does not show which jobs have left. On it, every job may have a gap until it is sent again.
        """
        self._connection += 1
        self._is_catching_up = True
        if not self._is_batch_format:
            for job_id, known in self._known.items():
                self._suspect_gap(job_id, known)

    def receive(self, frame: str | bytes, *, at: datetime) -> list[ProgressUpdate]:
        """Take in a frame of either format and return the updates that it delivers, in order.

        Returns [] for `pong` and for unknown frames; pass them too, because each frame is a sign of life. `at`: the
        current time, by the client's clock. Raises `OutOfStep`.
        """
        self._last_received_at = at
        message = _decoded(frame)
        if isinstance(message, BatchFrame):
            return self._take_batch(message, at)
        if isinstance(message, ProgressUpdate):
            self._is_batch_format = False
            return self._take(message, at)
        return []

    def fill_in(
        self, job_id: str, updates: Iterable[ProgressUpdate], *, at: datetime, whole: bool = True
    ) -> list[ProgressUpdate]:
        """Take in a page of a job's history and return the updates that it delivers, in order.

        Pass every page but the last with `whole=False`, and request the next one after `gaps[job_id]`. A job that was
        reduced again in the meantime stays in `gaps`: request its history again. Drop answers to requests that were
        made before the last `connected`.
        """
        known = self._known.get(job_id)
        if known is None:
            return []
        answered = {update.seq: update for update in updates}
        filled_to = max([*answered, known.filled_to if whole else 0], default=0)
        answered.update((update.seq, update) for update in known.held)
        waiting = [answered[seq] for seq in sorted(answered) if seq > known.delivered_seq]
        delivered = _deliver(known, waiting, filled_to, whole=whole)
        known.held = waiting[len(delivered) :]
        self._show(job_id, known, at)
        self._update_gap(job_id, known, whole=whole)
        return delivered

    def give_up(self, job_id: str, *, gone: bool = False) -> list[ProgressUpdate]:
        """Stop waiting for history and return the updates that were held back for it.

        `gone`: history has no such job (404), so forget it.
        """
        known = self._known.get(job_id)
        if known is None:
            return []
        delivered, known.held = known.held, []
        for update in delivered:
            known.deliver(update)
        self._close_gap(job_id, known)
        if gone:
            self._forget(job_id)
        return delivered

    def expire(self, now: datetime) -> list[str]:
        """Forget the jobs that ended long ago, by the client's clock; return their IDs.

        The time counts from when the end was received, so the clocks may differ. With `format=batch` the server tells
        which jobs leave, so there the time counts from its last frame, and the next connection begins with a snapshot.
        """
        expired = [job_id for job_id, known in self._known.items() if self._is_expired(job_id, known, now)]
        if self._is_batch_format and not self._looked_up.issuperset(expired):
            self.position = None
        for job_id in expired:
            self._forget(job_id)
        return expired

    def monitor(self, job_id: str) -> None:
        """Keep this job; from the first call on keep only such jobs. A job that is not known yet is put into `gaps`."""
        self.keep({job_id, *(self._monitored or ())})
        self.look_up(job_id)

    def unmonitor(self, job_id: str) -> None:
        """Stop keeping this job; when no monitored job is left, keep none."""
        if self._monitored is not None:
            self.keep(self._monitored - {job_id})

    def keep(self, job_ids: Set[str] | None) -> bool:
        """Keep only these jobs, None: all that the server shows; return True if that needs a new connection."""
        was_limited, self._monitored = self._monitored is not None, None if job_ids is None else set(job_ids)
        if job_ids is None:
            self.position = None if was_limited else self.position
            return was_limited
        for other in self._known.keys() - job_ids:
            self._erase(other)
        return False

    def look_up(self, job_id: str) -> None:
        """Ask history for an unknown job, such as one that left the dashboard; `looked_up` has it until it is sent."""
        if job_id not in self._known:
            self._tombstones.pop(job_id, None)
            self._looked_up.add(job_id)
            self._suspect_gap(job_id, self._known.setdefault(job_id, KnownJob()))

    def delivered(self, job_id: str) -> ProgressUpdate | None:
        """Return the last update that was delivered of a job that is shown; else None."""
        known = self._known.get(job_id)
        return known.delivered if known is not None and known.is_shown else None

    def _take_batch(self, batch: BatchFrame, at: datetime) -> list[ProgressUpdate]:
        if batch.snapshot:
            self._snapshot = set()
        elif batch.prev != self.position:
            raise OutOfStep
        self._is_batch_format = True
        delivered = [news for update in batch.updates for news in self._take(update, at)]
        for job_id in batch.removed:
            self._remove(job_id)
        if self._snapshot is not None:
            self._snapshot.update(update.job_id for update in batch.updates)
        self.position = batch.seq
        if not batch.more:
            self._end_catch_up()
        return delivered

    def _end_catch_up(self) -> None:
        """Remove the jobs that a snapshot lacks, after its last part.

        A snapshot that was cut continues after resuming: like a catch-up, its parts come in the order of `seq`.
        """
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            for job_id in self._known.keys() - snapshot:
                if self._known[job_id].newest is not None:  # else history is being asked whether the job exists
                    self._remove(job_id)
        self._is_catching_up = False

    def _take(self, update: ProgressUpdate, at: datetime) -> list[ProgressUpdate]:
        if not self._is_wanted(update):
            return []
        job_id = update.job_id
        known = self._known.get(job_id) or self._add(job_id)
        is_reduced = self._is_catching_up if self._is_batch_format else known.connection != self._connection
        known.connection = self._connection
        self._looked_up.discard(job_id)
        if update.seq <= known.newest_seq:
            self._take_repetition(update, known, at)
            return []
        known.is_shown = True
        leaves_no_gap = known.leaves_no_gap(update, is_reduced=is_reduced)
        if leaves_no_gap and (job_id not in self._gaps or known.is_suspected):
            known.deliver(update)
            self._close_gap(job_id, known)
        else:
            self._hold(update, known, leaves_no_gap)
        self._show(job_id, known, at)
        return [] if known.held else [update]

    def _is_wanted(self, update: ProgressUpdate) -> bool:
        """Return False for a job that is not monitored, and for a repetition of one that was forgotten.

        With batches a repetition is wanted: the server shows the job, and will send its removal.
        """
        if self._monitored is not None and update.job_id not in self._monitored:
            return False
        return self._is_batch_format or update.seq > self._tombstones.get(update.job_id, -1)

    def _add(self, job_id: str) -> KnownJob:
        known = KnownJob(delivered_seq=self._tombstones.pop(job_id, 0), connection=self._connection)
        self._known[job_id] = known
        return known

    def _take_repetition(self, update: ProgressUpdate, known: KnownJob, at: datetime) -> None:
        if known.delivered is None:
            known.delivered = update
            self._show(update.job_id, known, at)
        if known.is_suspected and update.seq == known.delivered_seq:
            self._close_gap(update.job_id, known)

    def _hold(self, update: ProgressUpdate, known: KnownJob, leaves_no_gap: bool) -> None:
        if known.is_suspected or update.job_id not in self._gaps:
            self._open_gap(update.job_id, known, filled_to=update.seq)
        elif not leaves_no_gap:
            known.gap_from = known.gap_from or update.seq
        known.hold(update)

    def _suspect_gap(self, job_id: str, known: KnownJob) -> None:
        if job_id not in self._gaps:
            self._open_gap(job_id, known, filled_to=known.delivered_seq)
            known.is_suspected = True

    def _open_gap(self, job_id: str, known: KnownJob, *, filled_to: int) -> None:
        known.filled_to, known.gap_from, known.is_suspected = filled_to, 0, False
        self._gaps[job_id] = known.delivered_seq

    def _update_gap(self, job_id: str, known: KnownJob, *, whole: bool) -> None:
        """Close, reopen or shorten the gap after an answer of history."""
        if whole and not known.held:
            self._close_gap(job_id, known)
        elif whole:
            self._open_gap(job_id, known, filled_to=known.newest_seq)
        elif job_id in self._gaps:
            self._gaps[job_id], known.is_suspected = known.delivered_seq, False

    def _close_gap(self, job_id: str, known: KnownJob) -> None:
        self._gaps.pop(job_id, None)
        known.is_suspected = False
        if not known.is_shown or known.delivered is None:
            self._forget(job_id)

    def _show(self, job_id: str, known: KnownJob, at: datetime) -> None:
        before, newest = self._jobs.get(job_id), known.newest
        if newest is None or not known.is_shown:
            return
        if not known.has_ended:
            known.ended_at = None
        elif known.ended_at is None or before is None or before.attempt != newest.attempt:
            known.ended_at = at
        self._jobs[job_id] = newest

    def _remove(self, job_id: str) -> None:
        """Hide a job that the server shows no longer; request its history first if its end may not have arrived."""
        known = self._known.get(job_id)
        if known is None:
            return
        self._jobs.pop(job_id, None)
        known.is_shown = False
        if job_id in self._gaps:
            return
        if known.has_ended and not self._is_catching_up:
            self._forget(job_id)
        else:
            self._open_gap(job_id, known, filled_to=known.delivered_seq)

    def _is_expired(self, job_id: str, known: KnownJob, now: datetime) -> bool:
        if known.newest is None or known.ended_at is None or job_id in self._gaps:
            return False
        since = known.ended_at
        if self._is_batch_format and self._last_received_at is not None and job_id not in self._looked_up:
            since = max(since, self._last_received_at)
        return now - since >= (self._failed_ttl if known.newest.status in WITH_FAILURES else self._completed_ttl)

    def _forget(self, job_id: str) -> None:
        """Erase a job, and remember what was delivered of it."""
        known = self._known.get(job_id)
        self._erase(job_id)
        if known is not None and known.delivered_seq:
            self._tombstones[job_id] = known.delivered_seq
            if len(self._tombstones) > MAX_REMEMBERED_JOBS:
                del self._tombstones[next(iter(self._tombstones))]

    def _erase(self, job_id: str) -> None:
        self._looked_up.discard(job_id)
        for by_job in (self._known, self._jobs, self._gaps):
            by_job.pop(job_id, None)


def _deliver(known: KnownJob, waiting: list[ProgressUpdate], filled_to: int, *, whole: bool) -> list[ProgressUpdate]:
    """Deliver the updates up to where history has answered, and further as long as nothing can be missing."""
    delivered: list[ProgressUpdate] = []
    for update in waiting:
        if update.seq > filled_to and not (whole and known.is_certain_step(update)):
            break
        known.deliver(update)
        delivered.append(update)
    return delivered


def _has_had_no_error(update: ProgressUpdate) -> bool:
    return update.failed == 0 and update.attempt == 1 and update.error is msgspec.UNSET


def only_progressed(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    """Return True if two states of a job differ only in what a percent changes."""
    return (before.attempt, before.status, before.requested, before.failed, before.error) == (
        after.attempt,
        after.status,
        after.requested,
        after.failed,
        after.error,
    )


def _is_one_step(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    """Return True if one status change or one failed video leads from one state to the other, with percents around it.

    A failed video together with a status change is the end of a job by its last video. A retry is always more than one
    step, because it takes errors away, so that new ones cannot be counted. After one step, the only error that can have
    come in between is the one in the later state.
    """
    rise = after.failed - before.failed
    if after.attempt != before.attempt or rise not in (0, 1):
        return False
    if after.status == before.status:
        return True
    if after.status not in STEPS.get(before.status, ()):
        return False
    end = Status.FAILED if after.failed == after.total_videos else Status.COMPLETED_WITH_ERRORS
    return rise == 0 or after.status == end


_FRAME_TYPE = msgspec.json.Decoder(FrameType)
_BATCH = msgspec.json.Decoder(BatchFrame)
_UPDATE = msgspec.json.Decoder(ProgressUpdate)


def _decoded(frame: str | bytes) -> BatchFrame | ProgressUpdate | None:
    try:
        return _BATCH.decode(frame) if _FRAME_TYPE.decode(frame).type == "updates" else _UPDATE.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None  # `pong`, or a message that this version does not know
