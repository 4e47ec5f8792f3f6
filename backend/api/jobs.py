"""The routes of jobs: they translate between HTTP and the backend, and decide nothing.

Requests that steer a job are in `control`, its videos in `videos`, the reports of external jobs in `reports`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from backend.api.bodies import decoded, json_response, media_type, upload_form
from backend.api.deps import Caller, TheBackend
from backend.api.exports import csv_response
from backend.api.openapi import answers, body, files
from backend.api.types import JobOut, JobPage, NewList, SubmittedOut
from backend.domain.job import ExportedJob
from backend.domain.job_filter import JobFilter, job_filter
from backend.domain.moments import parse_moment
from backend.domain.texts import uploaded_name
from backend.errors import Invalid, WrongType
from backend.jobs.submission import Order
from backend.lists.csv_files import MAX_BYTES, MAX_ROWS, VideoList, list_of_ids, read_video_list
from backend.lists.exports import HISTORY_COLUMNS, csv_of_jobs
from backend.store.pages import Page
from progress_dashboard.protocol import ProgressUpdate, Status

router = APIRouter(prefix="/api/jobs", tags=["jobs"])
SEQ = Query(ge=0, le=2**53)
JOB_ERRORS = {401: "not signed in", 404: "no such job among yours", 422: "a value is not valid"}
LIST_ERRORS = JOB_ERRORS | {
    400: "the request cannot be read",
    409: "the Idempotency-Key created another job",
    413: f"over {MAX_BYTES // 2**20} MiB or {MAX_ROWS:,} rows",
    415: "not a CSV file",
    503: "the data cannot be written right now; the sentence says whether the job still appears or must be sent again",
}
NEW_LIST = msgspec.json.Decoder(NewList)
UPLOAD_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A CSV with one video ID a row."},
        "column": {"type": "string", "description": "Name of the column with the IDs. Default: it is found."},
        "name": {"type": "string", "description": "Default: the file's name."},
        "processor": {"type": "string", "default": "probe", "description": "What is done with each video."},
        "options": {"type": "string", "description": "The processor's options as a JSON object."},
    },
}


@router.post(
    "",
    status_code=201,
    responses=answers(SubmittedOut, LIST_ERRORS, status=201),
    openapi_extra=body(NewList, multipart_form_data=UPLOAD_FORM),
    summary="Create a job from a CSV of video IDs, or from a list of IDs",
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
    submission = await backend.manager.submit(videos, order, by=caller, idempotency_key=idempotency_key)
    return json_response(SubmittedOut.of_submission(submission, videos, backend, caller), 201)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which jobs are asked for, the same for the list and its export."""

    dashboard: bool | None
    status: Status | None
    q: str
    only: JobFilter


def list_query(
    *,
    dashboard: bool | None = None,
    status: Status | None = None,
    q: Annotated[
        str,
        Query(
            description="Job or video ID (whole or its beginning), part of the name or error. A page of a search or a "
            "filter may have fewer jobs than `limit`, or none, and still lead on by `next_cursor`."
        ),
    ] = "",
    begin: Annotated[
        str, Query(alias="from", description="Jobs that ended (or, while they have not, were created) from then on.")
    ] = "",
    end: Annotated[str, Query(alias="to", description="Jobs that ended, or were created, before that time.")] = "",
    min_seconds: Annotated[str, Query(description="Ended jobs that took as long or longer.")] = "",
    max_seconds: Annotated[str, Query(description="Ended jobs that took less.")] = "",
    owner: Annotated[str, Query(description="Name of the user who owns the job.")] = "",
    processor: str = "",
) -> ListQuery:
    """Return what a query asks for. Raises `Invalid`."""
    only = job_filter(
        begin=begin, end=end, min_seconds=min_seconds, max_seconds=max_seconds, owner=owner, processor=processor
    )
    return ListQuery(dashboard, status, q, only)


WantedJobs = Annotated[ListQuery, Depends(list_query)]
Sort = Annotated[str, Query(description="newest, oldest, name or updated")]


@router.get("", responses=answers(JobPage, JOB_ERRORS), summary="List jobs, newest first")
async def list_jobs(
    backend: TheBackend,
    caller: Caller,
    *,
    wanted: WantedJobs,
    sort: Sort = "newest",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
    count: Annotated[bool, Query(description="Count all jobs of the list, too.")] = False,
) -> Response:
    asked = {name: getattr(wanted, name) for name in ListQuery.__slots__}
    page = await backend.queries.jobs(by=caller, sort=sort, limit=limit, cursor=cursor, **asked)
    number = await backend.queries.count_found(by=caller, **asked) if count else None
    return json_response(JobPage([JobOut.of(job, backend, caller) for job in page.items], page.next_cursor, number))


@router.get(
    "/export.csv",
    responses=files("text/csv", JOB_ERRORS),
    response_class=StreamingResponse,
    summary="Export the history as CSV",
)
async def export_history(backend: TheBackend, caller: Caller, wanted: WantedJobs, sort: Sort = "newest") -> Response:
    asked = {name: getattr(wanted, name) for name in ListQuery.__slots__}

    async def read(cursor: str | None) -> Page[ExportedJob]:
        return await backend.queries.export_jobs(by=caller, sort=sort, cursor=cursor, **asked)

    return await csv_response("history", HISTORY_COLUMNS, read, csv_of_jobs)


@router.get("/{job_id}", responses=answers(JobOut, JOB_ERRORS), summary="Get one job")
async def find_job(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return json_response(JobOut.of(await backend.queries.find(job_id, by=caller), backend, caller))


@router.get(
    "/{job_id}/progress-history",
    responses=answers(list[ProgressUpdate], JOB_ERRORS),
    summary="List a job's updates, oldest first",
)
async def progress_history(
    backend: TheBackend,
    caller: Caller,
    job_id: str,
    *,
    since: Annotated[
        str | None, Query(description="Inclusive; ISO 8601, or seconds or milliseconds since 1970.")
    ] = None,
    after: Annotated[int | None, SEQ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Response:
    moment = parse_moment(since, "since") if since is not None else None
    updates = await backend.queries.history(job_id, by=caller, since=moment, after=after, limit=limit)
    return json_response([msgspec.Raw(update) for update in updates])


async def _from_form(request: Request) -> tuple[Order, VideoList]:
    form = await upload_form(request)
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid("The form has no file; send the CSV as the field file.")
        text = {name: value for name, value in form.items() if isinstance(value, str)}
        videos = await asyncio.to_thread(read_video_list, upload.file, column=text.get("column") or None)
        name = text.get("name") or uploaded_name(upload.filename or "") or "Video IDs"
        processor, options = text.get("processor") or "probe", _options(text.get("options", ""))
        return Order(name=name, processor=processor, options=options), videos
    finally:
        await form.close()


async def _from_json(content: bytes) -> tuple[Order, VideoList]:
    given = await asyncio.to_thread(decoded, NEW_LIST, content)
    videos = await asyncio.to_thread(list_of_ids, given.video_ids)
    return Order(name=given.name, processor=given.processor, options=given.options), videos


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
