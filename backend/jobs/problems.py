"""Problems: why videos fail over all jobs that a user sees, what users say about a cause, and retries over jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from backend.clock import Clock, from_millis
from backend.domain.auth import User
from backend.domain.job import Action, Selection
from backend.domain.many import ManyDone
from backend.domain.periods import Night, Period, default_period, span_of
from backend.domain.problem import MAX_NOTE_LENGTH, CauseNote, FailedJob, ProblemPeriod, Problems
from backend.domain.texts import trimmed
from backend.errors import Conflict, Invalid, NotFound, StoreRefused
from backend.jobs.manager import JobManager
from backend.jobs.problem_news import ProblemNews
from backend.settings import Settings
from backend.store.cause_memory import CauseMemoryStore, ProblemScope

MAX_KNOWN = timedelta(days=366)
FRESH_SECONDS = 60.0  # what only time changes: a failure grows out of its period
MAX_SHARED = 500
NO_SUCH_CAUSE = "There is no such cause among the jobs that you see."


@dataclass(frozen=True, slots=True)
class Saying:
    """What a user changes of what is said about a cause; None: nothing. A text or a time of "" takes it back."""

    note: str | None = None
    known_until: datetime | str | None = None
    claimed: bool | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """A list that all tabs of the same users share, until something has changed."""

    version: int
    at: float
    problems: Problems


class ProblemManager:
    """Every question takes the user who asks; what users say about a cause is seen by all who have met it.

    `count` counts what ticks noted, so that a list has everything that is stored. `on_known` gets a cause that is known
    from now on.
    """

    def __init__(
        self,
        store: CauseMemoryStore,
        news: ProblemNews,
        manager: JobManager,
        settings: Settings,
        clock: Clock,
        *,
        count: Callable[[], Awaitable[None]],
        on_known: Callable[[str], Awaitable[None]],
    ) -> None:
        self.news = news
        self._store = store
        self._manager = manager
        self._settings = settings
        self._clock = clock
        self._count = count
        self._on_known = on_known
        self._shared: dict[tuple[str | None, ProblemPeriod], Shared] = {}
        self._locks: dict[tuple[str | None, ProblemPeriod], asyncio.Lock] = {}

    async def causes(self, period: ProblemPeriod, *, by: User) -> Problems:
        """Return the causes for which videos fail whose newest result came in the period, most videos first."""
        await self._count_noted()
        return await self._store.problems(self._scope(period, by))

    async def shown(self, period: ProblemPeriod, *, by: User) -> Problems:
        """Return the same for a page: tabs share one reading for each change that `news` tells."""
        key = (by.sees_jobs_of, period)
        async with self._locks.setdefault(key, asyncio.Lock()):
            shared, version, now = self._shared.get(key), self.news.version(by), self._clock.monotonic()
            if shared is None or shared.version != version or now - shared.at > FRESH_SECONDS:
                if len(self._shared) >= MAX_SHARED:
                    self._shared.clear()
                shared = self._shared[key] = Shared(version, now, await self.causes(period, by=by))
            return shared.problems

    @property
    def is_morning(self) -> bool:
        """True before noon, when one asks how the night was."""
        return default_period(self._clock.now(), zone=self._settings.zone) is Period.NIGHT

    async def jobs(self, fingerprint: str, period: ProblemPeriod, *, by: User) -> list[FailedJob]:
        """Return the jobs with videos that fail for the cause, those with the newest failures."""
        return await self._store.jobs(fingerprint, self._scope(period, by))

    async def job_ids(self, fingerprint: str, period: ProblemPeriod, *, by: User) -> list[str]:
        """Return the IDs of all jobs with videos that fail for the cause."""
        await self._count_noted()
        return await self._store.job_ids(fingerprint, self._scope(period, by))

    async def say(self, fingerprint: str, saying: Saying, *, by: User) -> CauseNote:
        """Change what is said about a cause that the user has met, and return all of it. Raises `NotFound`."""
        await self._count_noted()
        if not await self._store.has_met(fingerprint, owner_id=by.sees_jobs_of):
            raise NotFound(NO_SUCH_CAUSE)
        if changes := self._changes(saying, await self._store.note(fingerprint), by):
            await self._store.change_note(fingerprint, changes)
            self.news.tell_all()
            if changes.get("known_until"):
                await self._on_known(fingerprint)
        return await self._store.note(fingerprint)

    async def retry(self, fingerprint: str, period: ProblemPeriod, *, by: User) -> ManyDone:
        """Retry the videos of this cause in all its jobs of the period. Raises `NotFound` for a cause that is gone."""
        job_ids = await self.job_ids(fingerprint, period, by=by)
        if not job_ids:
            if not await self._store.has_met(fingerprint, owner_id=by.sees_jobs_of):
                raise NotFound(NO_SUCH_CAUSE)
            raise Conflict("No video fails for this cause now; there is nothing to retry.")
        return await self._manager.act_on_many(job_ids, Action.RETRY, by=by, selection=Selection(groups=(fingerprint,)))

    async def _count_noted(self) -> None:
        with suppress(StoreRefused):  # then without the newest
            await self._count()

    def _scope(self, period: ProblemPeriod, by: User) -> ProblemScope:
        if period is ProblemPeriod.ALL:
            return ProblemScope(by.sees_jobs_of)
        settings = self._settings
        span = span_of(Period(period.value), now=self._clock.now(), zone=settings.zone, night=Night(*settings.night))
        end = from_millis(span.end) if period is ProblemPeriod.NIGHT else None
        return ProblemScope(by.sees_jobs_of, from_millis(span.begin), end)

    def _changes(self, saying: Saying, said: CauseNote, by: User) -> dict[str, object]:
        now = self._clock.now()
        changes: dict[str, object] = {}
        if saying.note is not None:
            note = checked_note(saying.note)
            changes |= {"note": note, "noted_by": by.id if note else None, "noted_at": now if note else None}
        if saying.known_until is not None:
            until = checked_until(saying.known_until, now)
            changes |= {"known_until": until, "known_by": by.id if until else None}
        if saying.claimed is not None and saying.claimed != (said.claimed_by == by.name):
            mine = saying.claimed
            changes |= {"claimed_by": by.id if mine else None, "claimed_at": now if mine else None}
        return changes


def checked_note(text: str) -> str | None:
    """Return the note, None for an empty one. Raises `Invalid`."""
    note = trimmed(text)
    if len(note) > MAX_NOTE_LENGTH:
        raise Invalid(f"A note has at most {MAX_NOTE_LENGTH:,} characters; shorten it.")
    if "\0" in note or (not note.isascii() and any("\ud800" <= letter <= "\udfff" for letter in note)):
        raise Invalid("note holds characters that are no text; leave them out.")
    return note or None


def checked_until(until: datetime | str, now: datetime) -> datetime | None:
    """Return until when a cause is known, None for "". Raises `Invalid`."""
    if isinstance(until, str):
        return None
    if not now < until <= now + MAX_KNOWN:
        raise Invalid("known_until must be in the future, and at most a year ahead.")
    return until
