"""The route of actions on many jobs."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, TheBackend
from backend.api.openapi import answers, body
from backend.api.problem_types import FilterBody, ManyBody, ManyOut
from backend.api.problems import period_of
from backend.domain.job import Action
from backend.domain.job_filter import job_filter
from backend.domain.many import MANY_ACTIONS, JobChoice
from backend.domain.problem import ProblemPeriod
from backend.domain.texts import checked_text
from backend.errors import Invalid
from progress_dashboard.protocol import Status

router = APIRouter(prefix="/api/jobs", tags=["control"])
MANY = msgspec.json.Decoder(ManyBody)
ERRORS = {
    400: "the body is not valid JSON",
    401: "not signed in",
    409: "the jobs are not as many as expected",
    413: "the body is over 1 MiB",
    422: "a value is not valid, the filter is empty, or no job is named",
    503: "the data cannot be read right now",
}


@router.post(
    "/actions",
    responses=answers(ManyOut, ERRORS),
    openapi_extra=body(ManyBody),
    summary="Do the same to many jobs",
)
async def act(request: Request, backend: TheBackend, caller: Caller) -> Response:
    """Act on each of the jobs; what is refused for one of them, with the reason, does not stop the others."""
    asked = decoded(MANY, await request.body())
    done = await backend.many.act(
        _action(asked.action),
        by=caller,
        job_ids=asked.job_ids,
        choice=None if asked.filter is None else choice_of(asked.filter),
        expected=asked.expected,
    )
    return json_response(ManyOut.of(done))


def choice_of(given: FilterBody) -> JobChoice:
    """Return what a filter asks for. Raises `Invalid`."""
    statuses = [given.status] if isinstance(given.status, str) else given.status or []
    return JobChoice(
        dashboard=given.dashboard,
        statuses=frozenset(_status(status) for status in statuses if status),
        q=checked_text(given.q, "q"),
        only=job_filter(
            begin=given.begin,
            end=given.end,
            min_seconds=str(given.min_seconds),
            max_seconds=str(given.max_seconds),
            owner=given.owner,
            processor=given.processor,
        ),
        cause=given.cause or None,
        period=period_of(given.period, ProblemPeriod.ALL),
    )


def _action(name: str) -> Action:
    if name not in MANY_ACTIONS:
        raise Invalid(f"action must be one of {', '.join(MANY_ACTIONS)}.")
    return Action(name)


def _status(name: str) -> Status:
    try:
        return Status(name)
    except ValueError:
        raise Invalid(f"status must be one of {', '.join(Status)}.") from None
