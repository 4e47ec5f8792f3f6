"""The routes that steer a job: cancel, pause, resume, retry, priority, keep, dismiss, delete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from backend.api.bodies import decoded
from backend.api.deps import Caller, TheBackend
from backend.api.schemas import OF_A_JOB, JobOut, job_out, refusals
from backend.app import Backend
from backend.causes import LENGTH
from backend.errors import Invalid
from backend.jobs import VIDEO_ID, Job, Selection
from backend.manager import MAX_RETRIED_IDS, MOST_PRIORITY

router = APIRouter(prefix="/api/jobs", tags=["control"])
FINGERPRINT = re.compile(rf"[0-9a-f]{{{LENGTH}}}\Z")
FAILED, ALL = "failed", "all"
NOT_NOW = {503: "the data cannot be written right now; ask again, which is harmless also where it happened"}
NO_JSON = {400: "the body is not valid JSON", 413: "the body is over 1 MiB"}


class Retry(msgspec.Struct, forbid_unknown_fields=True):
    """Which videos a retry takes: one of these, or those that failed."""

    only: str | None = None
    video_ids: list[str] | None = None
    group: str | list[str] | None = None


class Priority(msgspec.Struct, forbid_unknown_fields=True):
    """A job's new place among those of its owner that wait."""

    priority: int


RETRY = msgspec.json.Decoder(Retry)
PRIORITY = msgspec.json.Decoder(Priority)
RETRY_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "only": {"type": "string", "enum": [FAILED, ALL], "default": FAILED},
    "video_ids": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_RETRIED_IDS},
    "group": {
        "description": "the fingerprint of one of the job's causes, or of several",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    },
}
RETRY_SCHEMA = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "maxProperties": 1,
                    "properties": RETRY_FIELDS,
                }
            }
        }
    }
}
PRIORITY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["priority"],
                    "additionalProperties": False,
                    "properties": {
                        "priority": {"type": "integer", "minimum": -MOST_PRIORITY, "maximum": MOST_PRIORITY}
                    },
                }
            }
        },
    }
}


def _refusals(*more: Mapping[int, str], conflict: str | None = None) -> dict[int | str, dict[str, Any]]:
    words = {**OF_A_JOB, **NOT_NOW}
    for some in more:
        words |= some
    return refusals(words if conflict is None else {**words, 409: conflict})


@router.post("/{job_id}/cancel", response_model=JobOut, responses=_refusals(), summary="Stop a job for good")
async def cancel(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """It becomes cancelled once all its processes are dead (`requested` until then); what is done stays."""
    return _answer(backend, await backend.manager.cancel(job_id, by=caller))


@router.post(
    "/{job_id}/pause",
    response_model=JobOut,
    responses=_refusals(conflict="the job runs elsewhere"),
    summary="Begin no more of a job's videos",
)
async def pause(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """It becomes paused once its running videos have ended (`requested` until then)."""
    return _answer(backend, await backend.manager.pause(job_id, by=caller))


@router.post(
    "/{job_id}/resume",
    response_model=JobOut,
    responses=_refusals(conflict="the job runs elsewhere, or is being cancelled"),
    summary="Go on with a paused job",
)
async def resume(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return _answer(backend, await backend.manager.resume(job_id, by=caller))


@router.post(
    "/{job_id}/retry",
    response_model=JobOut,
    responses=_refusals(NO_JSON, conflict="the job has not ended, runs elsewhere, or has nothing to retry"),
    openapi_extra=RETRY_SCHEMA,
    summary="Try videos of an ended job again",
)
async def retry(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """The next attempt, at the videos that are named (without a body: those that failed) and those never done."""
    selection = _selection(await request.body())
    return _answer(backend, await backend.manager.retry(job_id, selection, by=caller))


@router.post(
    "/{job_id}/priority",
    response_model=JobOut,
    responses=_refusals(NO_JSON, conflict="the job runs elsewhere"),
    openapi_extra=PRIORITY_SCHEMA,
    summary="Put a waiting job before or behind its owner's others",
)
async def prioritise(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    priority = decoded(PRIORITY, await request.body()).priority
    return _answer(backend, await backend.manager.prioritise(job_id, priority, by=caller))


@router.post(
    "/{job_id}/keep",
    response_model=JobOut,
    responses=_refusals(),
    summary="Leave a job on the dashboard until it is dismissed",
)
async def keep(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return _answer(backend, await backend.manager.keep(job_id, by=caller))


@router.post(
    "/{job_id}/dismiss",
    response_model=JobOut,
    responses=_refusals(conflict="the job has not ended"),
    summary="Take an ended job off the dashboard",
)
async def dismiss(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return _answer(backend, await backend.manager.dismiss(job_id, by=caller))


@router.delete(
    "/{job_id}",
    status_code=204,
    responses=_refusals(conflict="the job has not ended"),
    summary="Delete an ended job with its results and files, from History too",
)
async def delete(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    await backend.manager.delete(job_id, by=caller)
    return Response(status_code=204)


def _answer(backend: Backend, job: Job) -> Response:
    return JSONResponse(job_out(job, backend))


def _selection(body: bytes) -> Selection:
    wish = decoded(RETRY, body) if body.strip() else Retry()
    if sum(part is not None for part in (wish.only, wish.video_ids, wish.group)) > 1:
        raise Invalid("A retry takes one of only, video_ids and group; leave the others out.")
    if wish.only not in (None, FAILED, ALL):
        raise Invalid(f"only must be {FAILED} or {ALL}.")
    groups = (wish.group,) if isinstance(wish.group, str) else wish.group
    if groups is not None and not (groups and all(map(FINGERPRINT.match, groups))):
        raise Invalid("group must be the fingerprint of one of this job's causes, or a list of them.")
    if wish.video_ids is not None and not (wish.video_ids and all(map(VIDEO_ID.match, wish.video_ids))):
        raise Invalid("video_ids must be IDs of videos of this job, one or more.")
    return Selection(everything=wish.only == ALL, video_ids=_fixed(wish.video_ids), groups=_fixed(groups))


def _fixed(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
