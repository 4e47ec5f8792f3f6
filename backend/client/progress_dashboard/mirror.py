"""What a client of the progress socket knows: frames and answers in, news out; no socket, no clock, no waiting.

Promise: `jobs` holds the newest state of each job, never an older one after a newer one; what is handed on is, job by
job, in the order of `seq` and each update once; and when all that stands in `missed` was answered from history, every
error was handed on, whatever was cut, repeated or reduced to newest states on the way.

The server sends every status change and failed video, but a reader that was away or too slow gets newest states only.
The protocol does not say when it did so. Thus an update that may stand for more than it tells puts its job into
`missed`, and what would be handed on is held back until history has answered:

- on a connection, when it is more than one step from the state before it (`_one_step`);
- at the start of a connection, when more than a percent changed, or when the job has an error at all;
- for a job never heard of, when it has seen an error or a retry, also on the first connection of all: the default
  format does not mark where its snapshot ends, so an old job and one that was reduced on the way look the same, and
  "every error" holds only if both are asked for.

One limit: on a connection that stays, a slow reader may miss the words of an error that belongs to no video (of jobs
that run elsewhere) when a newer error followed it; no update counts those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

import msgspec

from .protocol import NEXT, UNFINISHED, WITH_FAILURES, ProgressUpdate, Status

MAX_REMEMBERED_JOBS = 10_000  # jobs that left, so that a repetition of their end is no news
FINAL_STATUSES = frozenset(Status) - UNFINISHED
STEPS: Mapping[str, frozenset[Status]] = {status.value: following for status, following in NEXT.items()}


class OutOfStep(Exception):
    """A frame does not follow on the one before it; connect again and resume from `Mirror.position`."""


class BatchFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of `format=batch`; with `more` it is a part, and the next part follows."""

    prev: int
    seq: int
    snapshot: bool = False
    updates: list[ProgressUpdate]
    removed: list[str]
    more: bool = False


class FrameType(msgspec.Struct):
    """What tells a batch from an update."""

    type: str = ""


@dataclass(slots=True)
class KnownJob:
    """What is known of one job: what was handed on last (`told`), and what waits for an answer of history (`held`).

    `covered`: an answer to the question that is open has everything up to this `seq`; `unsure`: from this `seq` on it
    surely takes a further question, if the answer does not reach there (0: it may not). `is_doubted`: nothing is known
    to be missed yet. `connection`: the last one that told of it. `is_shown`: the server did not remove it.
    """

    delivered_seq: int = 0
    delivered: ProgressUpdate | None = None
    held: list[ProgressUpdate] = field(default_factory=list)
    filled_to: int = 0
    gap_from: int = 0
    is_suspected: bool = False
    connection: int = 0
    is_shown: bool = True
    ended_at: datetime | None = None

    @property
    def newest(self) -> ProgressUpdate | None:
        return self.held[-1] if self.held else self.delivered

    @property
    def newest_seq(self) -> int:
        return self.held[-1].seq if self.held else self.delivered_seq

    @property
    def has_ended(self) -> bool:
        return self.newest is not None and self.newest.status in FINAL_STATUSES

    def leaves_no_gap(self, update: ProgressUpdate, *, is_reduced: bool) -> bool:
        """Whether no error can have come between what is known and this; `is_reduced`: others may have."""
        before = self.newest
        if before is None:
            return _has_seen_no_error(update)
        if is_reduced:
            return only_progressed(before, update) and update.error is msgspec.UNSET
        return _one_step(before, update)

    def is_certain_step(self, held: ProgressUpdate) -> bool:
        """Whether this can be handed on next although history has not answered up to there."""
        return self.delivered is not None and not 0 < self.gap_from <= held.seq and _one_step(self.delivered, held)

    def deliver(self, update: ProgressUpdate) -> None:
        self.delivered, self.delivered_seq = update, update.seq

    def hold(self, update: ProgressUpdate) -> None:
        """Keep it for later; of percents in a row, all of which history need not have, the first and the newest."""
        if (
            len(self.held) > 1
            and only_progressed(self.held[-2], self.held[-1])
            and only_progressed(self.held[-1], update)
        ):
            self.held.pop()
        self.held.append(update)


class Mirror:
    """The newest state of each job that a server shows, kept from the frames of its progress socket.

    `jobs`: by job ID. `missed`: job ID -> the `seq` after which its history is to be asked for
    (`GET /api/jobs/{id}/progress-history?after=`); answer with `fill_in` or `give_up`. On the default format it lists
    every job right after `connected`, and most leave it again when the snapshot has arrived: read it then.
    `looked_up`: jobs of which only history told. `position`: `after=` of the next connection with `format=batch`, None
    for one from the beginning.

    Memory grows with the jobs, and with the errors that arrive while history has not answered.
    """

    def __init__(self, *, completed_ttl_seconds: float = 300, failed_ttl_seconds: float = 86_400) -> None:
        self._completed_ttl = timedelta(seconds=completed_ttl_seconds)
        self._failed_ttl = timedelta(seconds=failed_ttl_seconds)
        self._known: dict[str, KnownJob] = {}
        self._jobs: dict[str, ProgressUpdate] = {}
        self._gaps: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._monitored: set[str] | None = None
        self._looked_up: set[str] = set()
        self._connection = 0
        self._in_batches = False
        self._is_catching_up = False
        self._snapshot: set[str] | None = None
        self._last_received_at: datetime | None = None
        self.jobs: Mapping[str, ProgressUpdate] = MappingProxyType(self._jobs)
        self.gaps: Mapping[str, int] = MappingProxyType(self._gaps)
        self.looked_up: Set[str] = self._looked_up
        self.position: int | None = None

    def connected(self) -> None:
        """A new connection begins: what was sent in between is unknown until it, or history, tells.

        The default format tells nothing of jobs that have left, so each one is in doubt until it is heard again.
        """
        self._connection += 1
        self._is_catching_up = True
        if not self._in_batches:
            for job_id, known in self._known.items():
                self._suspect_gap(job_id, known)

    def receive(self, frame: str | bytes, *, at: datetime) -> list[ProgressUpdate]:
        """The news in a frame of either format, in order; [] for `pong` and what is not understood.

        `at`: now, by the client's clock. Hand in every frame, also pongs: they are signs of life. Raises `OutOfStep`.
        """
        self._last_received_at = at
        message = _decoded(frame)
        if isinstance(message, BatchFrame):
            return self._take_batch(message, at)
        if isinstance(message, ProgressUpdate):
            self._in_batches = False
            return self._take(message, at)
        return []

    def fill_in(
        self, job_id: str, updates: Iterable[ProgressUpdate], *, at: datetime, whole: bool = True
    ) -> list[ProgressUpdate]:
        """The news in history's answer, with what was held back for it, in order.

        The answer may come in pages, all but the last with `whole=False`; the next page is the one after
        `missed[job_id]`. What was reduced again while history was asked stays in `missed`: ask again.
        Throw away answers to questions asked before the last `connected`.
        """
        known = self._known.get(job_id)
        if known is None:
            return []
        answered = {update.seq: update for update in updates}
        filled_to = max([*answered, known.filled_to if whole else 0], default=0)
        answered.update((update.seq, update) for update in known.held)
        waiting = [answered[seq] for seq in sorted(answered) if seq > known.delivered_seq]
        news = _release(known, waiting, filled_to, whole=whole)
        known.held = waiting[len(news) :]
        self._show(job_id, known, at)
        self._answered(job_id, known, whole=whole)
        return news

    def give_up(self, job_id: str, *, gone: bool = False) -> list[ProgressUpdate]:
        """History cannot be had: hand on what was held back for it; `gone`: there is no such job any more (404)."""
        known = self._known.get(job_id)
        if known is None:
            return []
        news, known.held = known.held, []
        for update in news:
            known.deliver(update)
        self._settle(job_id, known)
        if gone:
            self._drop(job_id)
        return news

    def expire(self, now: datetime) -> list[str]:
        """Forget the jobs that ended long ago by the client's own clock; returns their IDs.

        Counted from when the end was heard, so that clocks may differ. With `format=batch` the server says what
        leaves, so there it counts from its last sign of life, and the next connection begins with a snapshot.
        """
        gone = [job_id for job_id, known in self._known.items() if self._is_over(job_id, known, now)]
        if self._in_batches and not self._looked_up.issuperset(gone):
            self.position = None
        for job_id in gone:
            self._drop(job_id)
        return gone

    def monitor(self, job_id: str) -> None:
        """Keep this job; from the first call on only such jobs are kept. One that is not known yet is in `missed`."""
        self.keep({job_id, *(self._monitored or ())})
        self.look_up(job_id)

    def unmonitor(self, job_id: str) -> None:
        """Keep this job no more; without any monitored job left, none is kept."""
        if self._monitored is not None:
            self.keep(self._monitored - {job_id})

    def keep(self, job_ids: Set[str] | None) -> bool:
        """Keep only these jobs, or (None) all that the server shows; True when that takes a new connection."""
        was_choosy, self._monitored = self._monitored is not None, None if job_ids is None else set(job_ids)
        if job_ids is None:
            self.position = None if was_choosy else self.position
            return was_choosy
        for other in self._known.keys() - job_ids:
            self._erase(other)
        return False

    def look_up(self, job_id: str) -> None:
        """Ask history for a job that is not known, such as one that left the dashboard; it is in `looked_up` then."""
        if job_id not in self._known:
            self._left.pop(job_id, None)
            self._looked_up.add(job_id)
            self._suspect_gap(job_id, self._known.setdefault(job_id, KnownJob()))

    def delivered(self, job_id: str) -> ProgressUpdate | None:
        """What was handed on last of a job that is shown."""
        known = self._known.get(job_id)
        return known.delivered if known is not None and known.is_shown else None

    def _take_batch(self, batch: BatchFrame, at: datetime) -> list[ProgressUpdate]:
        if batch.snapshot:
            self._snapshot = set()
        elif batch.prev != self.position:
            raise OutOfStep
        self._in_batches = True
        news = [update for delivered in batch.updates for update in self._take(delivered, at)]
        for job_id in batch.removed:
            self._leave(job_id)
        if self._snapshot is not None:
            self._snapshot.update(update.job_id for update in batch.updates)
        self.position = batch.seq
        if not batch.more:
            self._caught_up()
        return news

    def _caught_up(self) -> None:
        """A snapshot that was cut goes on after resuming: its parts are in the order of `seq`, like a catch-up."""
        last_received, self._snapshot = self._snapshot, None
        if last_received is not None:
            for job_id in self._known.keys() - last_received:
                if self._known[job_id].newest is not None:  # else history is being asked whether there is such a job
                    self._leave(job_id)
        self._is_catching_up = False

    def _take(self, update: ProgressUpdate, at: datetime) -> list[ProgressUpdate]:
        if not self._keeps(update):
            return []
        job_id = update.job_id
        known = self._known.get(job_id) or self._meet(job_id)
        is_reduced = self._is_catching_up if self._in_batches else known.connection != self._connection
        known.connection = self._connection
        self._looked_up.discard(job_id)
        if update.seq <= known.newest_seq:
            self._repeated(update, known, at)
            return []
        known.is_shown = True
        leaves_no_gap = known.leaves_no_gap(update, is_reduced=is_reduced)
        if leaves_no_gap and (job_id not in self._gaps or known.is_suspected):
            known.deliver(update)
            self._settle(job_id, known)
        else:
            self._hold(update, known, leaves_no_gap)
        self._show(job_id, known, at)
        return [] if known.held else [update]

    def _keeps(self, update: ProgressUpdate) -> bool:
        """What has left is not brought back by a repetition, unless the server also says when it leaves."""
        if self._monitored is not None and update.job_id not in self._monitored:
            return False
        return self._in_batches or update.seq > self._left.get(update.job_id, -1)

    def _meet(self, job_id: str) -> KnownJob:
        known = KnownJob(delivered_seq=self._left.pop(job_id, 0), connection=self._connection)
        self._known[job_id] = known
        return known

    def _repeated(self, update: ProgressUpdate, known: KnownJob, at: datetime) -> None:
        if known.delivered is None:
            known.delivered = update
            self._show(update.job_id, known, at)
        if known.is_suspected and update.seq == known.delivered_seq:
            self._settle(update.job_id, known)

    def _hold(self, update: ProgressUpdate, known: KnownJob, leaves_no_gap: bool) -> None:
        if known.is_suspected or update.job_id not in self._gaps:
            self._ask(update.job_id, known, filled_to=update.seq)
        elif not leaves_no_gap:
            known.gap_from = known.gap_from or update.seq
        known.hold(update)

    def _suspect_gap(self, job_id: str, known: KnownJob) -> None:
        if job_id not in self._gaps:
            self._ask(job_id, known, filled_to=known.delivered_seq)
            known.is_suspected = True

    def _ask(self, job_id: str, known: KnownJob, *, filled_to: int) -> None:
        known.filled_to, known.gap_from, known.is_suspected = filled_to, 0, False
        self._gaps[job_id] = known.delivered_seq

    def _answered(self, job_id: str, known: KnownJob, *, whole: bool) -> None:
        if whole and not known.held:
            self._settle(job_id, known)
        elif whole:
            self._ask(job_id, known, filled_to=known.newest_seq)
        elif job_id in self._gaps:
            self._gaps[job_id], known.is_suspected = known.delivered_seq, False

    def _settle(self, job_id: str, known: KnownJob) -> None:
        """Nothing of it is missed any more."""
        self._gaps.pop(job_id, None)
        known.is_suspected = False
        if not known.is_shown or known.delivered is None:
            self._drop(job_id)

    def _show(self, job_id: str, known: KnownJob, at: datetime) -> None:
        before, newest = self._jobs.get(job_id), known.newest
        if newest is None or not known.is_shown:
            return
        if not known.has_ended:
            known.ended_at = None
        elif known.ended_at is None or before is None or before.attempt != newest.attempt:
            known.ended_at = at
        self._jobs[job_id] = newest

    def _leave(self, job_id: str) -> None:
        """The server shows it no more; its history is asked first where its end was not heard for certain."""
        known = self._known.get(job_id)
        if known is None:
            return
        self._jobs.pop(job_id, None)
        known.is_shown = False
        if job_id in self._gaps:
            return
        if known.has_ended and not self._is_catching_up:
            self._drop(job_id)
        else:
            self._ask(job_id, known, filled_to=known.delivered_seq)

    def _is_over(self, job_id: str, known: KnownJob, now: datetime) -> bool:
        if known.newest is None or known.ended_at is None or job_id in self._gaps:
            return False
        since = known.ended_at
        if self._in_batches and self._last_received_at is not None and job_id not in self._looked_up:
            since = max(since, self._last_received_at)
        return now - since >= (self._failed_ttl if known.newest.status in WITH_FAILURES else self._completed_ttl)

    def _drop(self, job_id: str) -> None:
        known = self._known.get(job_id)
        self._erase(job_id)
        if known is not None and known.delivered_seq:
            self._left[job_id] = known.delivered_seq
            if len(self._left) > MAX_REMEMBERED_JOBS:
                del self._left[next(iter(self._left))]

    def _erase(self, job_id: str) -> None:
        self._looked_up.discard(job_id)
        for kept in (self._known, self._jobs, self._gaps):
            kept.pop(job_id, None)


def _release(known: KnownJob, waiting: list[ProgressUpdate], filled_to: int, *, whole: bool) -> list[ProgressUpdate]:
    """Hand on what may be: up to where history has answered, and on as long as nothing can be missing."""
    released: list[ProgressUpdate] = []
    for update in waiting:
        if update.seq > filled_to and not (whole and known.is_certain_step(update)):
            break
        known.deliver(update)
        released.append(update)
    return released


def _has_seen_no_error(update: ProgressUpdate) -> bool:
    return update.failed == 0 and update.attempt == 1 and update.error is msgspec.UNSET


def only_progressed(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    """Whether both are the same but for what percents change."""
    return (before.attempt, before.status, before.requested, before.failed, before.error) == (
        after.attempt,
        after.status,
        after.requested,
        after.failed,
        after.error,
    )


def _one_step(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    """Whether one status change or one failed video, with percents around it, leads from one to the other.

    A failed video and a status change in one are the end of a job by its last video. A retry is always more than a
    step: it takes errors away, so that new ones cannot be counted. Where this holds, the one error that may have come
    in between is the one that the later state carries.
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
        return None  # pong, or a word that this version does not know
