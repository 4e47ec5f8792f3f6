"""The job routes: they translate between HTTP and the manager, and decide nothing.

Those that steer a job are in `control`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.datastructures import UploadFile

from backend.api.bodies import decoded, media_type, upload_form
from backend.api.deps import Caller, TheBackend
from backend.api.schemas import (
    OF_A_JOB,
    AttemptOut,
    CauseOut,
    JobOut,
    JobPage,
    SubmittedOut,
    UpdateOut,
    VideoPage,
    attempt_out,
    cause_out,
    job_out,
    refusals,
    submitted_out,
    video_out,
)
from backend.csv_files import (
    HISTORY_COLUMNS,
    MAX_BYTES,
    MAX_ROWS,
    VideoList,
    csv_rows,
    csv_start,
    export_file_name,
    history_row,
    list_of_ids,
    read_video_list,
    result_columns,
    result_row,
    unnamed_columns,
)
from backend.elsewhere import MAX_REPORTS
from backend.errors import Invalid, NotFound, WrongType
from backend.jobs import ELSEWHERE, LONGEST_ERROR, LONGEST_TEXT, SAYABLE, Job, SenderReport, Status, Video, VideoStatus
from backend.store import Page

T = TypeVar("T")
router = APIRouter(prefix="/api/jobs", tags=["jobs"])
EXPORTED_AT_ONCE = 500
SEQ = Query(ge=0, le=2**53)
REFUSALS = refusals(OF_A_JOB)
LIST_REFUSALS = REFUSALS | refusals(
    {
        400: "the request cannot be read",
        409: "the Idempotency-Key made another job",
        413: f"over {MAX_BYTES // 2**20} MiB or {MAX_ROWS:,} rows",
        415: "not a CSV file",
        503: "the data cannot be written right now; the job appears as soon as it can",
    }
)
REPORT_REFUSALS = REFUSALS | refusals(
    {
        400: "the body is not valid JSON",
        409: "the job has already ended, or runs here",
        413: "the body is over 1 MiB",
        503: "the data cannot be written right now; send it again",
    }
)


class NewList(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form of a new job."""

    video_ids: list[str]
    name: str = "Video IDs"
    processor: str = "probe"
    options: dict[str, Any] = {}


NEW_LIST = msgspec.json.Decoder(NewList)
REPORTS: msgspec.json.Decoder[SenderReport | list[SenderReport]] = msgspec.json.Decoder(
    SenderReport | list[SenderReport]
)
PROCESSOR_SCHEMA = {"type": "string", "default": "probe", "description": f"{ELSEWHERE}: the job runs elsewhere"}
NEW_LIST_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "a CSV with one video ID a row"},
                        "name": {"type": "string", "description": "default: the file's name"},
                        "processor": PROCESSOR_SCHEMA,
                        "options": {"type": "string", "description": "the processor's options as a JSON object"},
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["video_ids"],
                    "additionalProperties": False,
                    "properties": {
                        "video_ids": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ROWS},
                        "name": {"type": "string"},
                        "processor": PROCESSOR_SCHEMA,
                        "options": {"type": "object"},
                    },
                }
            },
        },
    }
}

REPORT = {
    "type": "object",
    "required": ["n"],
    "additionalProperties": False,
    "properties": {
        "n": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**53,
            "description": "the sender's own growing counter; repeated and older ones are ignored",
        },
        "status": {"type": "string", "enum": list(SAYABLE), "description": "all but processing end the job"},
        "progress": {
            "type": "integer",
            "minimum": 0,
            "maximum": 100,
            "description": "percent; default: of the finished videos",
        },
        "current_video": {"type": "integer", "minimum": 0, "description": "finished videos, good or bad"},
        "video_id": {"type": "string", "description": "one of the job's videos"},
        "message": {"type": "string", "maxLength": LONGEST_TEXT},
        "error": {
            "type": "string",
            "maxLength": LONGEST_ERROR,
            "description": "with video_id: why that video failed; without: what is wrong with the job",
        },
    },
}
REPORT_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [REPORT, {"type": "array", "items": REPORT, "maxItems": MAX_REPORTS}]}
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=SubmittedOut,
    responses=LIST_REFUSALS,
    openapi_extra=NEW_LIST_SCHEMA,
    summary="Make a job from a CSV of video IDs, or from a list of IDs",
)
async def submit(
    request: Request,
    backend: TheBackend,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(max_length=500)] = None,
) -> Response:
    kind = media_type(request)
    if kind == "multipart/form-data":
        order, videos = await _from_form(request)
    elif kind == "application/json":
        order, videos = await _from_json(await request.body())
    else:
        raise WrongType("Send the list as multipart/form-data with a file, or as application/json with video_ids.")
    submission = await backend.manager.submit(
        videos,
        by=caller,
        name=order.name,
        processor=order.processor,
        options=order.options,
        idempotency_key=idempotency_key,
    )
    return JSONResponse(submitted_out(submission, backend), status_code=201)


@router.get("", response_model=JobPage, responses=REFUSALS, summary="Jobs, newest first")
async def list_jobs(
    backend: TheBackend,
    caller: Caller,
    dashboard: bool | None = None,
    status: Status | None = None,
    q: Annotated[str, Query(description="job or video ID (whole or its beginning), part of the name or error")] = "",
    sort: Annotated[str, Query(description="newest, oldest, name or updated")] = "newest",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    page = await backend.manager.jobs(
        by=caller, dashboard=dashboard, status=status, q=q, sort=sort, limit=limit, cursor=cursor
    )
    return _page(page, lambda job: job_out(job, backend))


@router.get("/export.csv", responses=REFUSALS, response_class=StreamingResponse, summary="History as CSV")
async def export_history(backend: TheBackend, caller: Caller) -> Response:
    async def read(cursor: str | None) -> Page[Job]:
        return await backend.manager.jobs(by=caller, limit=EXPORTED_AT_ONCE, cursor=cursor)

    return _csv_answer("history", _lines(HISTORY_COLUMNS, await read(None), read, history_row))


@router.get("/{job_id}", response_model=JobOut, responses=REFUSALS, summary="One job")
async def find_job(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    job = await backend.manager.find(job_id, by=caller)
    return JSONResponse(job_out(job, backend))


@router.get("/{job_id}/videos", response_model=VideoPage, responses=REFUSALS, summary="A job's videos")
async def list_videos(
    backend: TheBackend,
    caller: Caller,
    job_id: str,
    status: VideoStatus | None = None,
    q: Annotated[str, Query(description="a video ID (whole or its beginning), or part of the error")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    page = await backend.manager.videos(job_id, by=caller, status=status, q=q, limit=limit, cursor=cursor)
    return _page(page, video_out)


@router.get(
    "/{job_id}/videos/{position}/poster",
    responses={**REFUSALS, 200: {"content": {"image/jpeg": {}}}},
    response_class=FileResponse,
    summary="A picture out of the video",
)
async def poster(backend: TheBackend, caller: Caller, job_id: str, position: int) -> Response:
    video = await backend.manager.video(job_id, _bounded(position), by=caller)
    path = backend.work.poster(video)
    if path is None or not await asyncio.to_thread(path.is_file):
        raise NotFound("This video has no poster.")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get(
    "/{job_id}/videos/{position}/attempts",
    response_model=list[AttemptOut],
    responses=REFUSALS,
    summary="What came of each attempt at a video, oldest first",
)
async def list_attempts(backend: TheBackend, caller: Caller, job_id: str, position: int) -> Response:
    video = await backend.manager.video(job_id, _bounded(position), by=caller)
    outcomes = await backend.manager.outcomes(job_id, video.position, by=caller)
    return JSONResponse([attempt_out(outcome) for outcome in outcomes])


@router.get(
    "/{job_id}/causes",
    response_model=list[CauseOut],
    responses=REFUSALS,
    summary="Why the job's failed videos failed, the cause of most videos first",
)
async def list_causes(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return JSONResponse([cause_out(cause) for cause in await backend.manager.causes(job_id, by=caller)])


@router.get(
    "/{job_id}/progress-history",
    response_model=list[UpdateOut],
    responses=REFUSALS,
    summary="A job's updates, oldest first",
)
async def progress_history(
    backend: TheBackend,
    caller: Caller,
    job_id: str,
    since: Annotated[
        str | None, Query(description="inclusive; ISO 8601, or seconds or milliseconds since 1970")
    ] = None,
    after: Annotated[int | None, SEQ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Response:
    updates = await backend.manager.history(
        job_id, by=caller, since=parse_moment(since) if since is not None else None, after=after, limit=limit
    )
    return Response(b"[" + b",".join(updates) + b"]", media_type="application/json")


@router.post(
    "/{job_id}/progress",
    response_model=JobOut,
    responses=REPORT_REFUSALS,
    openapi_extra=REPORT_SCHEMA,
    summary="Report on a job that runs elsewhere",
)
async def report_progress(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    job = await backend.manager.hear(job_id, _reports(await request.body()), by=caller)
    return Response(
        msgspec.json.encode(job_out(job, backend)),
        media_type="application/json",
    )


@router.get(
    "/{job_id}/export.csv", responses=REFUSALS, response_class=StreamingResponse, summary="The list with its results"
)
async def export_job(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    job = await backend.manager.find(job_id, by=caller)
    columns = await backend.manager.columns(job_id, by=caller)

    async def read(cursor: str | None) -> Page[Video]:
        return await backend.manager.videos(job_id, by=caller, limit=EXPORTED_AT_ONCE, cursor=cursor)

    first = await read(None)
    own = columns or unnamed_columns(first.items)
    return _csv_answer(job.name, _lines(result_columns(own), first, read, lambda video: result_row(video, len(own))))


def parse_moment(text: str) -> datetime:
    """A moment from ISO 8601 (UTC where it names no zone) or from seconds or milliseconds since 1970.

    >>> parse_moment("1767182400") == parse_moment("1767182400000") == parse_moment("2025-12-31T12:00:00Z")
    True
    """
    try:
        if text.replace(".", "", 1).lstrip("-").isdecimal():
            number = float(text)
            return datetime.fromtimestamp(number / 1000 if abs(number) >= 1e11 else number, UTC)
        moment = datetime.fromisoformat(_with_plus(text))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid("since must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970.") from None


def _with_plus(text: str) -> str:
    # In a query an unescaped "+" arrives as a blank: "…T12:00:00 01:00" meant "+01:00".
    return text.replace(" ", "+") if "T" in text else text


async def _from_form(request: Request) -> tuple[NewList, VideoList]:
    form = await upload_form(request)
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid("The form has no file; send the CSV as the field file.")
        videos = await asyncio.to_thread(read_video_list, upload.file)
        text = {name: value for name, value in form.items() if isinstance(value, str)}
        name = text.get("name") or upload.filename or "Video IDs"
        return NewList([], name, text.get("processor") or "probe", _options(text.get("options", ""))), videos
    finally:
        await form.close()


async def _from_json(body: bytes) -> tuple[NewList, VideoList]:
    order = await asyncio.to_thread(decoded, NEW_LIST, body)
    return order, await asyncio.to_thread(list_of_ids, order.video_ids)


def _reports(body: bytes) -> list[SenderReport]:
    reports = decoded(REPORTS, body)
    return [reports] if isinstance(reports, SenderReport) else reports


def _options(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("options must be a JSON object.") from None
    if not isinstance(options, dict):
        raise Invalid("options must be a JSON object.")
    return options


def _bounded(position: int) -> int:
    if not 0 <= position < 2**31:
        raise NotFound("There is no such video in this job.")
    return position


def _page(page: Page[T], out: Callable[[T], dict[str, Any]]) -> Response:
    return JSONResponse({"items": [out(item) for item in page.items], "next_cursor": page.next_cursor})


async def _lines(
    header: Sequence[str],
    page: Page[T],
    read: Callable[[str | None], Coroutine[Any, Any, Page[T]]],
    row: Callable[[T], Sequence[object]],
) -> AsyncIterator[bytes]:
    yield csv_start(header)
    yield csv_rows(map(row, page.items))
    while page.next_cursor is not None:
        page = await read(page.next_cursor)
        yield csv_rows(map(row, page.items))


def _csv_answer(name: str, lines: AsyncIterator[bytes]) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{export_file_name(name)}"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)
