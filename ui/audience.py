"""The tabs that see the same jobs: what their cards show, and what of it is to be sent next.

A change that a user would miss at once goes into the next frame: a new job, another status, an error, and everything
of a job that a tab shows. Of the others, of which there may be thousands, only the numbers grow: they are sent oldest
first, a limited number a second, and at once when a tab scrolls to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from backend.clock import to_millis
from backend.delivery.batches import View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.notification import EventKind
from backend.domain.pace import Estimate, per_time
from backend.domain.usual import Usual
from backend.jobs.rates import per_minute
from backend.jobs.waiting_line import DoneAt, Wait
from progress_dashboard.protocol import Status
from ui.components.dashboard.job_grid import JobGrid, card
from ui.nicegui_internals import Broadcast
from ui.text import Totals, pace

UNSEEN_PER_SECOND = 200  # cards that no tab shows
TIME_DEPENDENT: Mapping[Status, tuple[str, ...]] = {  # the facts of a card that change without a new state of its job
    Status.PROCESSING: ("id", "pace", "stalled", "rank"),
    Status.PENDING: ("id", "wait"),
}
Card = Mapping[str, Any]
Says = tuple[str, str, tuple[int, int, int] | None, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What cards show beyond their jobs: when they leave, their pace, since when they are stalled, why they wait.

    `done_at` returns when all of some jobs will be done, `rates_of` how many videos of a user (None: of everybody) were
    finished in each of the last minutes, `unusual_of` whether a job is slower or faster than `usual_of` its list.
    """

    leaves_at: Callable[[Job], datetime | None]
    estimate: Callable[[Job], Estimate | None]
    stalled_since: Callable[[Job], datetime | None]
    wait_of: Callable[[Job, User], Wait | None] = lambda job, user: None
    done_at: Callable[[Iterable[Job]], DoneAt | None] = lambda jobs: None
    rates_of: Callable[[str | None], Sequence[int]] = lambda owner_id: ()
    unusual_of: Callable[[Job], EventKind | None] = lambda job: None
    usual_of: Callable[[Job], Usual | None] = lambda job: None

    def card(self, job: Job, user: User) -> Card:
        """Return the job's card as it is now, for this user."""
        since, unusual = self.stalled_since(job), self.unusual(job)
        return card(job, self.leaves_at(job), self.pace(job), since, self.wait(job, user), unusual)

    def wait(self, job: Job, user: User) -> Mapping[str, Any] | None:
        """Return why the job waits, in words, and when it begins in milliseconds; None unless it waits."""
        wait = self.wait_of(job, user) if job.status is Status.PENDING else None
        if wait is None:
            return None
        return {"text": wait.words, "starts": wait.starts_at and to_millis(wait.starts_at)}

    def unusual(self, job: Job) -> Mapping[str, str] | None:
        """Return that the job is slower or faster than usual, in brief and in whole; None if it is neither."""
        kind = self.unusual_of(job)
        if kind is None:
            return None
        usual = self.usual_of(job)
        return {"brief": kind.words, "words": f"{kind.words} ({usual.words})" if usual else kind.words}

    def pulse(self, user: User) -> Mapping[str, Any] | None:
        """Return the rates of the last minutes, and their mean in words; None if nothing was finished."""
        rates = self.rates_of(user.sees_jobs_of)
        return {"rates": list(rates), "mean": per_time(per_minute(rates))} if any(rates) else None

    def all_done(self, jobs: Iterable[Job]) -> tuple[int, int, int] | None:
        """Return when all of these jobs will be done (about, from, to) in milliseconds; None if that is not known."""
        done = self.done_at(jobs)
        return None if done is None else (to_millis(done.at), to_millis(done.low), to_millis(done.high))

    def pace(self, job: Job) -> str:
        """Return in words how fast the job progresses and when it will be done; "" while that is unknown."""
        estimate = self.estimate(job)
        return pace(estimate) if estimate else ""


@dataclass(slots=True)
class Allowance:
    """So many a second, and at most those of one second at once."""

    per_second: int
    left: float
    at: float = 0.0

    def take(self, wanted: int, now: float) -> int:
        """Return how many of the wanted ones are allowed at this time, in seconds."""
        self.left = min(self.per_second, self.left + (now - self.at) * self.per_second)
        self.at = now
        taken = min(wanted, int(self.left))
        self.left -= taken
        return taken


@dataclass(eq=False)
class Audience:
    """The tabs that see the same jobs (those `user` may see), and what they have been sent.

    `grids` has the IDs of the jobs that each tab shows. `waiting` are tabs that wait until all jobs are known
    (`is_complete`), with the position that each has. `jobs` are the newest states, `cards` what was sent of them.
    `seq` is the position of `jobs`, `sent_seq` that of the newest frame. `done` is when all jobs will be done, if
    that is known; `pulse` are the rates of the last minutes.
    """

    user: User
    broadcast: Broadcast
    grids: dict[JobGrid, frozenset[str]] = field(default_factory=dict)
    waiting: dict[JobGrid, int | None] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)
    done: tuple[int, int, int] | None = None
    pulse: Mapping[str, Any] | None = None
    seq: int = 0
    sent_seq: int = 0
    is_complete: bool = False
    has_restarted: bool = False  # since the newest frame: the next one is a snapshot
    said: Says = "", "", None, None  # headline, tab state, done and pulse of the newest frame
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None
    _totals: Totals = field(default_factory=Totals)
    _stalled: set[str] = field(default_factory=set)
    _shown: frozenset[str] = frozenset()
    _unsent: dict[str, int] = field(default_factory=dict)  # with the position before the first change that was not sent
    _urgent: dict[str, None] = field(default_factory=dict)  # those of them that do not wait
    _removed: dict[str, None] = field(default_factory=dict)
    _allowance: Allowance = field(default_factory=lambda: Allowance(UNSEEN_PER_SECOND, UNSEEN_PER_SECOND))

    @property
    def owner_id(self) -> str | None:
        return self.user.sees_jobs_of

    @property
    def headline(self) -> str:
        """All of it in a sentence."""
        return self._totals.headline(len(self._stalled))

    @property
    def tab_state(self) -> str:
        """The beginning of the tab's title."""
        return self._totals.tab_state

    @property
    def resumable(self) -> int:
        """The position up to which everything has been sent; a tab that comes back continues from it."""
        return next(iter(self._unsent.values()), self.seq)

    def take(self, view: View) -> None:
        """Apply the view."""
        changed = {job.id: job for job in view.updates}
        if view.snapshot:
            self._forget()
        for job_id in view.removed:
            self._remove(job_id)
            changed.pop(job_id, None)
        for job in changed.values():
            self._change(job)
        self.seq, self.is_complete = view.seq, not view.more

    def due(self, now: float) -> list[Job]:
        """Return the jobs whose cards go into the next frame, which is sent at this time in seconds."""
        ids = list(self._urgent)
        self._urgent.clear()
        for job_id in ids:
            self._unsent.pop(job_id, None)
        unseen = list(islice(self._unsent, self._allowance.take(len(self._unsent), now)))
        for job_id in unseen:
            del self._unsent[job_id]
        return [self.jobs[job_id] for job_id in (*ids, *unseen)]

    def removed(self) -> list[str]:
        """Return the jobs that have left since this was called last."""
        removed = [job_id for job_id in self._removed if job_id not in self.jobs]
        self._removed.clear()
        return removed

    def renew(self, jobs: Iterable[Job], facts: CardFacts) -> list[Card]:
        """Make the cards of these jobs again, and return what differs from before."""
        differing: list[Card] = []
        for job in jobs:
            before, now = self.cards.get(job.id), facts.card(job, self.user)
            self.cards[job.id] = now
            (self._stalled.discard if now["stalled"] is None else self._stalled.add)(job.id)
            differing.append(_differences(before, now) if before else now)
        return differing

    def show(self, grid: JobGrid, ids: frozenset[str], facts: CardFacts) -> bool:
        """Note which jobs a tab shows; return True if it has not been sent their newest facts."""
        appeared = ids - self._shown
        self.grids[grid] = ids
        self._shown = frozenset().union(*self.grids.values())
        for job_id in appeared & self.cards.keys():
            if job_id in self._unsent or self.is_stale(self.jobs[job_id], facts):
                self._urgent[job_id] = None
        return bool(self._urgent)

    def leave(self, grid: JobGrid) -> None:
        """Forget a tab."""
        self.waiting.pop(grid, None)
        if self.grids.pop(grid, None):
            self._shown = frozenset().union(*self.grids.values())

    def age(self, facts: CardFacts) -> None:
        """Let the next frame have the cards that are stale because time passed."""
        for job in self.jobs.values():
            is_waiting = job.status is Status.PENDING and job.id in self._shown
            if (is_waiting or job.status is Status.PROCESSING) and self._has_aged(job, facts):
                self._urgent[job.id] = None

    def is_stale(self, job: Job, facts: CardFacts) -> bool:
        """Return True if the card is stale because time passed: the job stalled or its ETA changed."""
        card = self.cards[job.id]
        if job.status is Status.PENDING:
            return bool(card["wait"] != facts.wait(job, self.user))
        has_changed = card["pace"] != facts.pace(job) or card["unusual"] != facts.unusual(job)
        return has_changed or self._has_stalled(job, facts)

    def since(self, after: int) -> list[Card]:
        """Return the cards that changed after a position; of other processing jobs what time may have changed."""
        changed = [self.cards[job.id] for job in self.jobs.values() if job.seq > after]
        others = (job for job in self.jobs.values() if job.seq <= after and job.status in TIME_DEPENDENT)
        return changed + [_aging(self.cards[job.id], job.status) for job in others]

    def _has_aged(self, job: Job, facts: CardFacts) -> bool:
        return self.is_stale(job, facts) if job.id in self._shown else self._has_stalled(job, facts)

    def _has_stalled(self, job: Job, facts: CardFacts) -> bool:
        return (job.id in self._stalled) != (facts.stalled_since(job) is not None)

    def _forget(self) -> None:
        for known in (self.jobs, self.cards, self._unsent, self._urgent, self._removed):
            known.clear()
        self._stalled.clear()
        self._totals, self.has_restarted = Totals(), True

    def _change(self, job: Job) -> None:
        before = self.jobs.get(job.id)
        if before is not None:
            self._totals.add(before, -1)
        self._totals.add(job, 1)
        self.jobs[job.id] = job
        self._unsent.setdefault(job.id, self.seq)
        if before is None or job.id in self._shown or job.id in self._stalled or not _is_routine(before, job):
            self._urgent[job.id] = None

    def _remove(self, job_id: str) -> None:
        before = self.jobs.pop(job_id, None)
        if before is not None:
            self._totals.add(before, -1)
        for known in (self.cards, self._unsent, self._urgent):
            known.pop(job_id, None)
        self._stalled.discard(job_id)
        self._removed[job_id] = None


def _is_routine(before: Job, now: Job) -> bool:
    """Return True if the job only got on."""
    return (
        before.status is now.status
        and before.failed == now.failed
        and before.error == now.error
        and before.requested == now.requested
        and before.attempt == now.attempt
        and before.pinned is now.pinned
        and before.pause_reason == now.pause_reason
        and before.waiting_reason == now.waiting_reason
    )


def _aging(card: Card, status: Status) -> Card:
    facts = {name: card[name] for name in TIME_DEPENDENT[status]}
    return facts | {"unusual": card["unusual"]} if card["unusual"] else facts  # it stays so until the job changes


def _differences(before: Card, now: Card) -> Card:
    differences = {name: value for name, value in now.items() if before[name] != value}
    return {"id": now["id"], **differences}
