"""The routes that steer a job: one for each action of `manager.act`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, TheBackend
from backend.api.jobs import JOB_ERRORS
from backend.api.openapi import answers, body, nothing
from backend.api.types import JobOut, PriorityBody, RetryBody
from backend.app import Backend
from backend.domain.auth import User
from backend.domain.causes import FINGERPRINT_LENGTH
from backend.domain.job import Action, Job, Selection
from backend.domain.video_ids import VIDEO_ID
from backend.errors import Invalid

router = APIRouter(prefix="/api/jobs/{job_id}", tags=["control"])
FINGERPRINT = re.compile(rf"[0-9a-f]{{{FINGERPRINT_LENGTH}}}\Z")
FAILED, ALL = "failed", "all"
RETRY = msgspec.json.Decoder(RetryBody)
PRIORITY = msgspec.json.Decoder(PriorityBody)
ERRORS = JOB_ERRORS | {
    503: "the data cannot be written right now; ask again, which is harmless also where it has happened"
}
BODY_ERRORS = ERRORS | {400: "the body is not valid JSON", 413: "the body is over 1 MiB"}


@dataclass(frozen=True, slots=True)
class ActionRoute:
    """A route without a body; `conflict` says when it answers 409."""

    action: Action
    summary: str
    description: str
    conflict: str = ""

    @property
    def errors(self) -> Mapping[int, str]:
        return ERRORS | ({409: self.conflict} if self.conflict else {})


ROUTES = (
    ActionRoute(
        Action.CANCEL,
        "Stop a job for good",
        "The job becomes `cancelled` after its processes have exited; until then `requested` says so. Finished videos "
        "keep their results.",
    ),
    ActionRoute(
        Action.PAUSE,
        "Pause a job after its running videos",
        "The job becomes `paused` after its running videos have ended; until then `requested` says so.",
        "the job is an external one",
    ),
    ActionRoute(
        Action.RESUME,
        "Continue a paused job",
        "Withdraws a pending request to pause as well.",
        "the job is an external one, or is being cancelled",
    ),
    ActionRoute(
        Action.KEEP, "Keep a job on the dashboard until it is dismissed", "Does nothing to a job that has left already."
    ),
    ActionRoute(
        Action.DISMISS,
        "Remove an ended job from the dashboard",
        "The job stays in History.",
        "the job has not ended",
    ),
)


def _handler(action: Action) -> Callable[..., Awaitable[Response]]:
    async def act(backend: TheBackend, caller: Caller, job_id: str) -> Response:
        return _answer(backend, await backend.manager.act(job_id, action, by=caller), caller)

    return act


for _route in ROUTES:
    router.add_api_route(
        f"/{_route.action}",
        _handler(_route.action),
        methods=["POST"],
        name=_route.action,
        summary=_route.summary,
        description=_route.description,
        responses=answers(JobOut, _route.errors),
    )


@router.post(
    "/retry",
    responses=answers(JobOut, BODY_ERRORS | {409: "the job has not ended, is external, or has nothing to retry"}),
    openapi_extra=body(RetryBody, required=False),
    summary="Retry videos of an ended job",
)
async def retry(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """Start the next attempt at the named videos (without a body: the failed ones) and those without a result."""
    selection = _selection(await request.body())
    return _answer(backend, await backend.manager.act(job_id, Action.RETRY, by=caller, selection=selection), caller)


@router.post(
    "/priority",
    responses=answers(JobOut, BODY_ERRORS | {409: "the job is an external one"}),
    openapi_extra=body(PriorityBody),
    summary="Change the place of a waiting job among those of its owner",
)
async def prioritise(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    priority = decoded(PRIORITY, await request.body()).priority
    return _answer(backend, await backend.manager.act(job_id, Action.PRIORITISE, by=caller, priority=priority), caller)


@router.delete(
    "",
    status_code=204,
    responses=nothing(ERRORS | {409: "the job has not ended"}),
    summary="Delete an ended job with its results and files, from History too",
)
async def delete(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    await backend.manager.act(job_id, Action.DELETE, by=caller)
    return Response(status_code=204)


def _answer(backend: Backend, job: Job | None, by: User) -> Response:
    return Response(status_code=204) if job is None else json_response(JobOut.of(job, backend, by))


def _selection(content: bytes) -> Selection:
    request = decoded(RETRY, content) if content.strip() else RetryBody()
    if sum(part is not None for part in (request.only, request.video_ids, request.group)) > 1:
        raise Invalid("A retry takes one of only, video_ids and group; leave the others out.")
    if request.only not in (None, FAILED, ALL):
        raise Invalid(f"only must be {FAILED} or {ALL}.")
    groups: Any = (request.group,) if isinstance(request.group, str) else request.group
    if groups is not None and not (groups and all(map(FINGERPRINT.match, groups))):
        raise Invalid("group must be the fingerprint of one of this job's causes, or a list of them.")
    if request.video_ids is not None and not (request.video_ids and all(map(VIDEO_ID.match, request.video_ids))):
        raise Invalid("video_ids must be IDs of videos of this job, one or more.")
    return Selection(everything=request.only == ALL, video_ids=_fixed(request.video_ids), groups=_fixed(groups))


def _fixed(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
