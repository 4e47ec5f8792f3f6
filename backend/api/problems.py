"""The routes of the page Problems: causes over all jobs, what users say about them, and retries over jobs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, TheBackend
from backend.api.openapi import answers, body
from backend.api.problem_types import CauseNoteOut, ManyOut, ProblemsOut, SayingBody
from backend.domain.moments import parse_moment
from backend.domain.problem import ProblemPeriod
from backend.errors import Invalid
from backend.jobs.problems import Saying

router = APIRouter(prefix="/api/problems", tags=["problems"])
SAYING = msgspec.json.Decoder(SayingBody)
ERRORS = {401: "not signed in", 404: "no job that the caller sees ever met this cause", 422: "a value is not valid"}
WRITING_ERRORS = ERRORS | {
    400: "the body is not valid JSON",
    413: "the body is over 1 MiB",
    503: "the data cannot be written right now; ask again",
}
PERIOD = Query(
    description=f"When the newest result of a video came: {', '.join(ProblemPeriod)}; default: {ProblemPeriod.WEEK}."
)
Period = Annotated[str, PERIOD]


@router.get("", responses=answers(ProblemsOut, ERRORS), summary="List why videos fail, over all jobs")
async def problems(backend: TheBackend, caller: Caller, period: Period = "") -> Response:
    """Count each video once for an owner, by its newest result of all jobs: what a retry mended is not listed."""
    wanted = period_of(period)
    return json_response(ProblemsOut.of(wanted, await backend.problems.causes(wanted, by=caller)))


@router.post(
    "/{fingerprint}",
    responses=answers(CauseNoteOut, WRITING_ERRORS),
    openapi_extra=body(SayingBody),
    summary="Say something about a cause: a note, until when it is known, who deals with it",
)
async def say(request: Request, backend: TheBackend, caller: Caller, fingerprint: str) -> Response:
    saying = _saying(decoded(SAYING, await request.body()))
    return json_response(CauseNoteOut.of(await backend.problems.say(fingerprint, saying, by=caller)))


@router.post(
    "/{fingerprint}/retry",
    responses=answers(ManyOut, WRITING_ERRORS | {409: "no video fails for this cause now"}),
    summary="Retry the videos of a cause in all its jobs",
)
async def retry(backend: TheBackend, caller: Caller, fingerprint: str, period: Period = "") -> Response:
    """Start the next attempt of each job that has ended; the others are among `refused`, each with the reason."""
    wanted = period_of(period)
    return json_response(ManyOut.of(await backend.problems.retry(fingerprint, wanted, by=caller)))


def period_of(text: str, default: ProblemPeriod = ProblemPeriod.WEEK) -> ProblemPeriod:
    """Return the period of a query. Raises `Invalid`."""
    try:
        return ProblemPeriod(text) if text else default
    except ValueError:
        raise Invalid(f"period must be one of {', '.join(ProblemPeriod)}.") from None


def _saying(given: SayingBody) -> Saying:
    values: dict[str, Any] = {}
    if given.note is not msgspec.UNSET:
        values["note"] = given.note or ""
    if given.known_until is not msgspec.UNSET:
        values["known_until"] = parse_moment(given.known_until, "known_until") if given.known_until else ""
    if given.claimed is not msgspec.UNSET:
        values["claimed"] = given.claimed
    return Saying(**values)
