"""Actions on many jobs at once: which jobs, which actions, and what became of each: pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.domain.job import Action
from backend.domain.job_filter import ANY_JOB, JobFilter
from backend.domain.problem import ProblemPeriod
from progress_dashboard.protocol import Status

MAX_JOBS_AT_ONCE = 10_000
MANY_ACTIONS = (
    *(Action.RETRY, Action.CANCEL, Action.PAUSE, Action.RESUME, Action.KEEP, Action.DISMISS),
    Action.DELETE,
)
"""What can be asked of many jobs together; `RETRY` takes the failed videos of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChoice:
    """What the wanted jobs have in common; the default is everything.

    `cause` is the fingerprint of a cause for which videos of the job fail, by their newest results of the `period`.
    """

    dashboard: bool | None = None
    statuses: frozenset[Status] = frozenset()
    q: str = ""
    only: JobFilter = ANY_JOB
    cause: str | None = None
    period: ProblemPeriod = ProblemPeriod.ALL

    def __bool__(self) -> bool:
        return self != JobChoice(period=self.period)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A job for which an action was refused, and why in a sentence."""

    job_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class ManyDone:
    """What became of an action on many jobs: for which it was done, and for which it was refused."""

    done: Sequence[str]
    refused: Sequence[Refusal]
