"""The causes of Problems as a list: one element whose rows are replaced in place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.causes import FINGERPRINT_LENGTH
from backend.domain.problem import FailedJob, Problem, Problems
from backend.domain.texts import counted
from backend.errors import Fault
from ui.components.shared import STACK_TRACE_JS
from ui.components.shared.bulk import PARTS, bulk_looks, offered
from ui.reasons import short_reason
from ui.text import count
from ui.theme import looks

LIES = {
    Fault.PERMANENT: "Caused by the file: fix it, then retry.",
    Fault.TRANSIENT: "May succeed on a retry.",
    Fault.MACHINE: "Caused by the machine: fix it, then retry.",
}


class ProblemList(Element, component="problem_list.vue", dependencies=[*PARTS, STACK_TRACE_JS]):
    """The list of causes.

    `on_retry` gets a fingerprint, `on_say` what a user changes of what is said, `on_open` a fingerprint and True if its
    jobs are to be shown.
    """

    def __init__(
        self,
        *,
        show_owner: bool,
        on_retry: Callable[[str], Awaitable[None]],
        on_say: Callable[[str, Mapping[str, object]], Awaitable[None]],
        on_open: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._props["looks"] = looks()
        self._props["bulk-actions"] = bulk_looks()
        self._props["show-owner"] = show_owner
        self._props["problems"] = []
        self._props["news"] = ""

        async def retry(event: GenericEventArguments) -> None:
            if is_fingerprint(event.args):
                await on_retry(event.args)

        async def say(event: GenericEventArguments) -> None:
            sent = event.args if isinstance(event.args, dict) else {}
            if is_fingerprint(name := sent.get("fingerprint")):
                await on_say(str(name), {key: value for key, value in sent.items() if key != "fingerprint"})

        async def toggle(event: GenericEventArguments) -> None:
            sent = event.args if isinstance(event.args, dict) else {}
            if is_fingerprint(name := sent.get("fingerprint")):
                await on_open(str(name), sent.get("isOpen") is True)

        self.on("retry", retry)
        self.on("say", say)
        self.on("open", toggle)

    def tell(self, sentence: str) -> None:
        """Announce a sentence to assistive technology, unless it is the same as the last one."""
        self._props["news"] = sentence

    def show(
        self, problems: Sequence[Problem], where: Mapping[str, Sequence[FailedJob]], *, me: str, now: datetime
    ) -> None:
        """Show these problems in this order, and the jobs of those that are open."""
        rows = [problem_facts(problem, where.get(problem.fingerprint), me, now) for problem in problems]
        if rows != self._props["problems"]:
            self._props["problems"] = rows


def is_fingerprint(sent: object) -> bool:
    """Return True for a text that may name a cause."""
    return isinstance(sent, str) and len(sent) == FINGERPRINT_LENGTH and sent.isalnum()


def in_order(problems: Problems, shown: Sequence[str]) -> list[Problem]:
    """Return the problems; those that are `shown` already keep their places, new ones come after them."""
    by_name = {problem.fingerprint: problem for problem in problems.items}
    kept = [name for name in shown if name in by_name]
    return [by_name[name] for name in (*kept, *(name for name in by_name if name not in set(kept)))]


def problem_facts(problem: Problem, where: Sequence[FailedJob] | None, me: str, now: datetime) -> dict[str, Any]:
    """Return the facts of a problem as the component draws them. Times are ISO 8601; no text is markup."""
    example, history, said = problem.example, problem.history, problem.said
    place = urlencode({"show": "failed", "q": example.video_id})
    jobs = "1 job" if problem.jobs == 1 else f"all {count(problem.jobs)} jobs"
    retried = f"{count(history.helped)} of {counted(history.retried, 'time')}"
    return {
        "fingerprint": problem.fingerprint,
        "count": count(problem.videos),
        "videosInWords": counted(problem.videos, "failing video"),
        "affected": f"{counted(problem.videos, 'video')} in {counted(problem.jobs, 'job')}",
        "error": example.error,
        "short": short_reason(example.error),
        "lies": "" if example.is_external else LIES[example.fault],  # only the sender knows its files and machine
        "first": iso(problem.first_seen),
        "last": iso(problem.last_seen),
        "video": example.video_id,
        "link": f"/jobs/{example.job_id}?{place}",
        "jobId": example.job_id,
        "jobName": example.job_name,
        "seen": f"Seen in {counted(history.jobs, 'job')}",
        "since": None if history.since is None else iso(history.since),
        "helped": f"a retry helped {retried}" if history.retried else "",
        "retry": f"Retry in {jobs}" if problem.can_be_retried else "",
        "all": jobs,
        "jobsInWords": counted(problem.jobs, "job"),
        "trace": example.traceback,
        "note": said.note,
        "notedBy": said.noted_by,
        "knownUntil": iso(said.known_until) if said.known_until and said.is_known(now) else None,
        "claimedBy": said.claimed_by,
        "claimedAt": None if said.claimed_at is None else iso(said.claimed_at),
        "isMine": said.claimed_by == me,
        "where": None if where is None else [_job(one) for one in where],
    }


def _job(one: FailedJob) -> dict[str, Any]:
    job = one.job
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status.value,
        "owner": job.owner,
        "videos": counted(one.videos, "video"),
        "offers": [{"act": name} for name in offered(job)],
    }
