"""The statistics that a user may see, and the marks that explain them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from backend.accounts.accounts import Accounts
from backend.clock import Clock, repeat
from backend.delivery.hub import ProgressHub
from backend.domain.auth import User, user_name
from backend.domain.job import Job
from backend.domain.periods import KEPT_FINE, Night, Period, Span, span_between, span_of
from backend.domain.statistics import SLOTS, START, Now, SlotTime, Statistics, bins_of, figures_of
from backend.domain.texts import checked_text
from backend.errors import Invalid, NotAllowed, StoreRefused
from backend.settings import Settings
from backend.store.statistics import StatisticsStore, TallyScope
from progress_dashboard.protocol import Status

MARKING_SECONDS = 5.0
COUNTING_SECONDS = 5.0
FOLDING_SECONDS = 3600.0
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the statistics: a named period, or the time between two moments, and of which jobs.

    `name` is that of a list, `owner` that of a user. None: all.
    """

    period: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    processor: str | None = None
    name: str | None = None
    owner: str | None = None


class StatisticsQueries:
    """Every question takes the user who asks; `slots` gives the number of slots now."""

    def __init__(
        self,
        store: StatisticsStore,
        hub: ProgressHub,
        accounts: Accounts,
        settings: Settings,
        clock: Clock,
        *,
        slots: Callable[[], int],
    ) -> None:
        self._store = store
        self._hub = hub
        self._accounts = accounts
        self._settings = settings
        self._clock = clock
        self._slots = slots
        self._marked: int | None = None

    async def of(self, question: Question, *, by: User) -> Statistics:
        """Return the statistics. Raises `Invalid`, `NotAllowed`, and `UserNotFound` for an owner who does not exist."""
        now = self._clock.now()
        span = self._span(question, now)
        scope = TallyScope(
            owner_id=await self._owner_id(question.owner, by),
            processor=_text(question.processor, "processor"),
            name=_text(question.name, "name"),
        )
        with suppress(StoreRefused):  # then without the newest
            await self._store.count()
        tallies, causes = await self._store.tallies(scope, span)
        marks = await self._store.marks()
        return Statistics(
            span=span,
            figures=figures_of(
                tallies,
                now=waiting(_of_scope(self._hub.jobs(), scope), now),
                slots=SlotTime(marks, since=await self._store.first()),
            ),
            bins=bins_of(tallies),
            causes=causes,
            marks=[mark for mark in marks if span.begin <= mark.at < span.end],
        )

    async def mark(self) -> None:
        """Store the start of the server, and later each change of the number of slots."""
        slots = self._slots()
        if slots != self._marked:
            await self._store.add_mark(self._clock.now(), START if self._marked is None else SLOTS, slots)
            self._marked = slots

    async def run(self) -> None:
        """Store marks until cancelled."""
        await repeat(self.mark, every=MARKING_SECONDS, clock=self._clock, what="marking")

    def _span(self, question: Question, now: datetime) -> Span:
        zone = self._settings.zone
        if question.begin is not None or question.end is not None:
            if question.period is not None:
                raise Invalid("Give either period, or from and to.")
            if question.begin is None:
                raise Invalid("to needs from.")
            return span_between(question.begin, question.end or now, now=now, zone=zone)
        try:
            period = Period(question.period or Period.WEEK)
        except ValueError:
            raise Invalid(f"period must be one of {', '.join(Period)}.") from None
        return span_of(period, now=now, zone=zone, night=Night(*self._settings.night))

    async def _owner_id(self, owner: str | None, by: User) -> str | None:
        if not owner:
            return by.sees_jobs_of
        if user_name(owner) == by.name:
            return by.id
        if not by.is_admin:
            raise NotAllowed("Only an administrator can see the statistics of other users.")
        return (await self._accounts.user(owner)).id


class Counting:
    """Counts what ticks noted, every few seconds. Once old, the quarters of each hour become one row.

    It works in small steps with pauses, so that ticks never wait for long.
    """

    def __init__(self, store: StatisticsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._folded_at: float | None = None

    async def run_once(self) -> None:
        await self._store.count()
        now = self._clock.monotonic()
        if self._folded_at is None or now - self._folded_at >= FOLDING_SECONDS:
            self._folded_at = now
            await self._fold()

    async def run(self) -> None:
        """Count until cancelled."""
        await repeat(self.run_once, every=COUNTING_SECONDS, clock=self._clock, what="counting")

    async def _fold(self) -> None:
        before = self._clock.now() - KEPT_FINE - timedelta(hours=1)
        while await self._store.fold(before=before):
            await self._clock.sleep(PAUSE_SECONDS)


def waiting(jobs: Iterable[Job], now: datetime) -> Now:
    """Return how many of these jobs wait for a slot, and how long the oldest one has."""
    since = [_waits_since(job) for job in jobs if job.status is Status.PENDING and not job.is_external]
    oldest = max(0.0, (now - min(since)).total_seconds()) if since else None
    return Now(len(since), oldest)


def _waits_since(job: Job) -> datetime:
    is_new = job.attempt == 1 and job.started_at is None
    return job.created_at if is_new else job.updated_at


def _of_scope(jobs: Iterable[Job], scope: TallyScope) -> Iterable[Job]:
    return (
        job
        for job in jobs
        if scope.owner_id in (None, job.owner_id)
        and scope.processor in (None, job.processor)
        and scope.name in (None, job.name)
    )


def _text(value: str | None, name: str) -> str | None:
    return checked_text(value, name) if value else None
