"""What the routes of problems and of many jobs take and give; the comment above a field is its description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from backend.api.types import Timestamp
from backend.clock import iso
from backend.domain.many import MAX_JOBS_AT_ONCE, ManyDone
from backend.domain.problem import MAX_NOTE_LENGTH, CauseNote, Problem, ProblemPeriod, Problems
from backend.errors import Fault


class CauseNoteOut(msgspec.Struct):
    """What users say about a cause. Everybody who has met it sees this."""

    fingerprint: str
    note: str | None
    noted_by: str | None
    noted_at: Timestamp | None
    # Until then nobody is told of it.
    known_until: Timestamp | None
    known_by: str | None
    # Name of the user who deals with it.
    claimed_by: str | None
    claimed_at: Timestamp | None

    @classmethod
    def of(cls, said: CauseNote) -> CauseNoteOut:
        """Return the answer."""
        times: dict[str, Any] = {name: _time(getattr(said, name)) for name in ("noted_at", "known_until", "claimed_at")}
        names = {name: getattr(said, name) for name in ("fingerprint", "note", "noted_by", "known_by", "claimed_by")}
        return cls(**names, **times)


class FailingCauseOut(msgspec.Struct):
    """A cause for which videos fail by their newest results."""

    fingerprint: str
    # Number of failing videos.
    videos: int
    # Number of their jobs.
    jobs: int
    # When the first of these failures came.
    first_seen: Timestamp
    last_seen: Timestamp
    # The error of the example, the video that failed last.
    error: str
    # Where failures of this kind lie: permanent with the file, transient in passing, or with the machine.
    fault: Fault
    job_id: str
    job_name: str
    video_id: str
    # In how many jobs it was ever met, deleted ones too.
    seen_in_jobs: int
    seen_since: Timestamp | None
    # Failed videos that were retried, and those among them that then succeeded.
    retried: int
    retries_helped: int
    said: CauseNoteOut

    @classmethod
    def of(cls, problem: Problem) -> FailingCauseOut:
        """Return the answer."""
        example, history = problem.example, problem.history
        return cls(
            fingerprint=problem.fingerprint,
            videos=problem.videos,
            jobs=problem.jobs,
            first_seen=iso(problem.first_seen),
            last_seen=iso(problem.last_seen),
            error=example.error,
            fault=example.fault,
            job_id=example.job_id,
            job_name=example.job_name,
            video_id=example.video_id,
            seen_in_jobs=history.jobs,
            seen_since=_time(history.since),
            retried=history.retried,
            retries_helped=history.helped,
            said=CauseNoteOut.of(problem.said),
        )


class ProblemsOut(msgspec.Struct):
    """The causes of a period, those of most videos first."""

    period: ProblemPeriod
    items: list[FailingCauseOut]
    # True if there are further causes, of fewer videos.
    has_more: bool

    @classmethod
    def of(cls, period: ProblemPeriod, problems: Problems) -> ProblemsOut:
        """Return the answer."""
        return cls(period, [FailingCauseOut.of(problem) for problem in problems.items], problems.has_more)


class SayingBody(msgspec.Struct, forbid_unknown_fields=True):
    """What changes of what is said about a cause; fields that are left out stay as they are."""

    # null takes it back.
    note: Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": MAX_NOTE_LENGTH})] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    # A time in the future, at most a year ahead; null takes it back.
    known_until: str | msgspec.UnsetType | None = msgspec.UNSET
    # true: the caller deals with it from now on, instead of whoever did; false: no longer.
    claimed: bool | msgspec.UnsetType = msgspec.UNSET


class FilterBody(msgspec.Struct, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}):
    """What jobs have in common, as in the list of jobs; at least one field."""

    dashboard: bool | None = None
    # One, or several.
    status: str | list[str] | None = None
    q: str = ""
    begin: str = ""
    end: str = ""
    min_seconds: float | str = ""
    max_seconds: float | str = ""
    owner: str = ""
    processor: str = ""
    # Fingerprint of a cause for which videos of the job fail; with it only dashboard, status and period count.
    cause: str | None = None
    # night, 7d or all (the default): when the newest result of the video came.
    period: str = ProblemPeriod.ALL.value


class ManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """An action on many jobs, named one by one or by a filter."""

    # retry (the failed videos), cancel, pause, resume, keep, dismiss or delete.
    action: str
    job_ids: Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_JOBS_AT_ONCE})] | None = None
    filter: FilterBody | None = None
    # How many jobs they should be; a filter needs it. 409 if they are others.
    expected: int | None = None


class RefusedOut(msgspec.Struct):
    """A job for which the action was refused."""

    job_id: str
    # Why, in one sentence.
    detail: str


class ManyOut(msgspec.Struct):
    """What became of an action on many jobs."""

    # The jobs for which it was done, or is on its way.
    done: list[str]
    refused: list[RefusedOut]

    @classmethod
    def of(cls, many: ManyDone) -> ManyOut:
        """Return the answer."""
        return cls(list(many.done), [RefusedOut(one.job_id, one.detail) for one in many.refused])


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
