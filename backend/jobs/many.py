"""Many jobs at once: finds the jobs that a filter names, and lets the manager act on them."""

from __future__ import annotations

from collections.abc import Sequence

from backend.domain.auth import User
from backend.domain.job import Action, Job
from backend.domain.many import MANY_ACTIONS, MAX_JOBS_AT_ONCE, JobChoice, ManyDone
from backend.domain.texts import counted
from backend.errors import Conflict, Invalid
from backend.jobs.manager import JobManager
from backend.jobs.problems import ProblemManager
from backend.jobs.queries import MAX_PAGE, JobQueries

MAX_PAGES = 100  # of a search that looks through jobs on its way, one may be short
EMPTY_FILTER = "The filter is empty and would take every job; say what the jobs have in common."


class ManyJobs:
    """Actions on jobs that are named one by one, or by what they have in common."""

    def __init__(self, manager: JobManager, queries: JobQueries, problems: ProblemManager) -> None:
        self._manager = manager
        self._queries = queries
        self._problems = problems

    async def act(
        self,
        action: Action,
        *,
        by: User,
        job_ids: Sequence[str] | None = None,
        choice: JobChoice | None = None,
        expected: int | None = None,
    ) -> ManyDone:
        """Do what a user asks of these jobs, or of all that the choice names now.

        `expected` is how many the user believes they are; a choice needs it. Raises `Conflict` if they are others, and
        `Invalid` for an empty selection or choice. What is refused for one job does not stop the others.
        """
        if action not in MANY_ACTIONS:
            raise Invalid(f"action must be one of {', '.join(MANY_ACTIONS)}.")
        if (job_ids is None) == (choice is None):
            raise Invalid("Name the jobs by job_ids, or by a filter; one of both.")
        if choice is not None:
            if expected is None:
                raise Invalid("Say in expected how many jobs the filter should name, so that no others are touched.")
            job_ids = [job.id for job in await self.choose(choice, by=by)]
        wanted = list(dict.fromkeys(job_ids or ()))
        if expected is not None and expected != len(wanted):
            raise Conflict(f"These are {counted(len(wanted), 'job')} now, not {expected:,}; look at them again.")
        return await self._manager.act_on_many(wanted, action, by=by)

    async def choose(self, choice: JobChoice, *, by: User, has_video_errors: bool = False) -> list[Job]:
        """Return the jobs that have this in common, at most `MAX_JOBS_AT_ONCE`. Raises `Invalid` if they are more.

        With `has_video_errors` a search on the dashboard also finds jobs by errors of their videos, as its page does.
        """
        if not choice:
            raise Invalid(EMPTY_FILTER)
        if choice.cause is not None:
            found = await self._of_cause(choice, choice.cause, by)
        else:
            found = await self._listed(choice, by)
        if has_video_errors and choice.dashboard and choice.q:
            ids = await self._queries.ids_with_video(choice.q, by=by)
            found += await self._queries.find_many(set(ids) - {job.id for job in found}, by=by)
        return [job for job in found if not choice.statuses or job.status in choice.statuses]

    async def _listed(self, choice: JobChoice, by: User) -> list[Job]:
        found: list[Job] = []
        for status in sorted(choice.statuses) or (None,):
            cursor = None
            for _ in range(MAX_PAGES):
                page = await self._queries.jobs(
                    by=by,
                    dashboard=choice.dashboard,
                    status=status,
                    q=choice.q,
                    only=choice.only,
                    limit=MAX_PAGE,
                    cursor=cursor,
                )
                found += page.items
                cursor = page.next_cursor
                if cursor is None:
                    break
            if cursor is not None or len(found) > MAX_JOBS_AT_ONCE:
                raise Invalid(f"These are more than {MAX_JOBS_AT_ONCE:,} jobs; narrow the filter.")
        return found

    async def _of_cause(self, choice: JobChoice, cause: str, by: User) -> list[Job]:
        if choice.q or choice.only:
            raise Invalid("A filter by cause takes dashboard, status and period besides; leave the others out.")
        ids = await self._problems.job_ids(cause, choice.period, by=by)
        if len(ids) > MAX_JOBS_AT_ONCE:
            raise Invalid(f"These are more than {MAX_JOBS_AT_ONCE:,} jobs; narrow the filter.")
        found = await self._queries.find_many(ids, by=by)
        return [job for job in found if choice.dashboard in (None, job.on_dashboard)]
