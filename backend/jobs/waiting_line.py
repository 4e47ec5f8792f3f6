"""The place of each waiting job, why it waits and about when it begins; and when all will be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backend.clock import Clock, repeat
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.line import Queue, SecondsRange, Turn, last, ordinal, turns
from backend.domain.pace import Estimate
from backend.domain.texts import counted
from backend.jobs.courses import Courses
from backend.jobs.forecasts import Forecasts
from progress_dashboard.protocol import Status

CHECK_SECONDS = 2.0
LOOKED_AHEAD = 40  # waiting jobs whose files are looked up: behind them no time is said
LOOKED_AT_A_SECOND = 500
NAMED_WITHIN = 50  # jobs before it, the nearest of which that the user may see is named
ROUNDING, LONG_STEP = ((1_800, 60), (3 * 3_600, 300)), 600  # times nearer than so many seconds, to so many
STARTING = "It starts in a moment"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job waits, in words for one user; its place (None: it is not in the line), and when it begins if known."""

    place: int | None
    reason: str
    starts_at: datetime | None = None

    @property
    def words(self) -> str:
        """Place and reason."""
        return self.reason if self.place is None else f"{ordinal(self.place)} in line: {self.reason}"


@dataclass(frozen=True, slots=True)
class DoneAt:
    """When all of some jobs will be done, about and between what."""

    at: datetime
    low: datetime
    high: datetime


class WaitingLine:
    """Looks at the queue every two seconds. `find` returns a job on the dashboard."""

    def __init__(
        self,
        queue: Callable[[], Queue],
        find: Callable[[str], Job | None],
        forecasts: Forecasts,
        courses: Courses,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._find = find
        self._forecasts = forecasts
        self._courses = courses
        self._clock = clock
        self._seen: Queue | None = None
        self._turns: dict[str, Turn] = {}
        self._order: list[str] = []
        self._at = clock.now()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="the line of waiting jobs")

    async def run_once(self) -> None:
        """Work out the turn of each job in the queue."""
        queue = self._queue()
        if self._is_fresh(queue):
            return
        running = {job.job_id: self._alone(job.job_id, len(queue.running)) for job in queue.running}
        waiting = {job_id: self._expected(job_id) for job_id in self._order[:LOOKED_AHEAD]}
        self._at, self._seen = self._clock.now(), queue
        self._turns = await asyncio.to_thread(turns, queue, running | waiting)
        self._order = [job_id for job_id, turn in self._turns.items() if turn.place]

    def _is_fresh(self, queue: Queue) -> bool:
        """Return True if it is too early to look at so many again: thousands cost a tenth of a second."""
        seconds = (self._clock.now() - self._at).total_seconds()
        return self._seen is not None and seconds < len(queue.waiting) // LOOKED_AT_A_SECOND

    def of(self, job: Job, by: User) -> Wait | None:
        """Return why the job waits, without names of jobs that the user may not see; None unless it waits."""
        if job.is_external or job.requested is not None:
            return None
        if job.waiting_reason is not None:
            return Wait(None, job.waiting_reason)
        if job.status is not Status.PENDING or self._seen is None:
            return None
        turn = self._turns.get(job.id)
        if turn is None or not turn.place:
            return Wait(None, STARTING)
        before = self._order[: turn.place - 1]
        reason = "; ".join(filter(None, (self._limit(job, self._seen), self._before(before, by))))
        return Wait(turn.place, reason or STARTING, self._moment(turn.begins))

    def all_done(self, jobs: Iterable[Job]) -> DoneAt | None:
        """Return when all of these jobs that run or wait will be done; None if that is not known, or none does."""
        ends = [self._end(job) for job in jobs if job.status in (Status.PROCESSING, Status.PENDING)]
        span = last(ends)
        if span is None:
            return None
        return DoneAt(*(self._clock_time(seconds) for seconds in (span.seconds, span.low, span.high)))

    def _end(self, job: Job) -> SecondsRange | None:
        if job.is_external:
            return _span(self._forecasts.of(job))
        turn = self._turns.get(job.id)
        return None if turn is None else turn.ends

    def _alone(self, job_id: str, running: int) -> SecondsRange | None:
        """Return how long a running job still takes with all slots, from how long it takes with its share."""
        job = self._find(job_id)
        span = None if job is None else _span(self._forecasts.of(job))
        return None if span is None else span.times(1 / max(1, running))

    def _expected(self, job_id: str) -> SecondsRange | None:
        job = self._find(job_id)
        return None if job is None else _span(self._courses.expected(job))

    def _limit(self, job: Job, queue: Queue) -> str:
        running = len(queue.running)
        if running >= queue.max_running:
            return f"{running} of {queue.max_running} jobs run"
        own = sum(other.user == job.owner_id for other in queue.running)
        if own >= queue.max_running_per_user:
            return f"{job.owner} runs {own} of {queue.max_running_per_user} jobs at once"
        return ""

    def _before(self, before: Sequence[str], by: User) -> str:
        """Return which jobs are before a job: the nearest one by its name, if the user may see it."""
        if not before:
            return ""
        near = (self._find(job_id) for job_id in reversed(before[-NAMED_WITHIN:]))
        seen = next((job for job in near if job is not None and by.may_see(job.owner_id)), None)
        others = len(before) - (seen is not None)
        if seen is None:
            return f"{counted(others, 'job')} {'is' if others == 1 else 'are'} before it"
        if not others:
            return f"{seen.name} is before it"
        return f"{seen.name} and {counted(others, 'other')} are before it"

    def _moment(self, span: SecondsRange | None) -> datetime | None:
        return None if span is None else self._clock_time(span.seconds)

    def _clock_time(self, seconds: float) -> datetime:
        """Return the time in so many seconds, rounded: the further away, the more."""
        step = next((step for below, step in ROUNDING if seconds < below), LONG_STEP)
        moment = (self._at + timedelta(seconds=seconds)).timestamp()
        return datetime.fromtimestamp(round(moment / step) * step, UTC)


def _span(estimate: Estimate | None) -> SecondsRange | None:
    return None if estimate is None else SecondsRange(estimate.seconds, estimate.low, estimate.high)
