"""The parts of Problems over the steering half of the backend, with jobs that a test lets fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.domain.auth import User
from backend.domain.causes import fingerprint
from backend.domain.job import Job, Selection
from backend.domain.problem import Problem, ProblemPeriod
from backend.jobs.many import ManyJobs
from backend.jobs.problem_news import ProblemNews
from backend.jobs.problems import ProblemManager
from backend.settings import Settings
from tests.support.databases import settings_of
from tests.support.job_states import CUT, SLOW
from tests.support.managed_backend import ANA, Managed

CUT_CAUSE, SLOW_CAUSE = fingerprint(CUT, "x"), fingerprint(SLOW, "x")


@dataclass(frozen=True)
class Desk:
    """Problems and actions on many jobs, over jobs whose videos end as a test says."""

    managed: Managed
    problems: ProblemManager
    many: ManyJobs
    became_known: list[str]

    @classmethod
    def over(cls, managed: Managed, directory: Path) -> Desk:
        """Return the parts over these jobs."""
        count, settings = managed.store.statistics.count, _settings(directory)
        news = ProblemNews(count, managed.clock)
        became_known = list[str]()

        async def on_known(fingerprint: str) -> None:
            became_known.append(fingerprint)

        problems = ProblemManager(
            managed.store.cause_memory, news, managed.manager, settings, managed.clock, count=count, on_known=on_known
        )
        return cls(managed, problems, ManyJobs(managed.manager, managed.queries, problems), became_known)

    async def ended(self, results: dict[str, str | None], *, by: User = ANA, name: str = "list.csv") -> Job:
        """Return a job that has ended: its videos with their errors, None for a good one."""
        job = await self.managed.submit(*results, by=by, name=name)
        return await self.managed.run(job, results.values())

    async def retried(self, job: Job, *errors: str | None, by: User = ANA) -> Job:
        """Return the job after a retry of its failed videos that ended with these errors."""
        again = await self.managed.manager.retry(job.id, Selection(), by=by)
        return await self.managed.run(again, errors)

    async def causes(self, by: User = ANA, period: ProblemPeriod = ProblemPeriod.ALL) -> dict[str, Problem]:
        """Return the problems that a user sees, by fingerprint."""
        return {problem.fingerprint: problem for problem in (await self.problems.causes(period, by=by)).items}

    async def numbers(self, by: User = ANA) -> dict[str, tuple[int, int]]:
        """Return (videos, jobs) of each cause that a user sees."""
        return {name: (problem.videos, problem.jobs) for name, problem in (await self.causes(by)).items()}


def _settings(directory: Path) -> Settings:
    return settings_of(directory, time_zone="UTC")
