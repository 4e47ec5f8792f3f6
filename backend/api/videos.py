"""The routes of a job's videos: their results, posters and causes, and the job's own rows as CSV."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from backend.api.bodies import json_response
from backend.api.deps import Caller, TheBackend
from backend.api.exports import csv_response
from backend.api.jobs import JOB_ERRORS
from backend.api.openapi import answers, files
from backend.api.types import AttemptOut, CauseOut, VideoOut, VideoPage
from backend.domain.video import ExportedVideo, VideoStatus
from backend.errors import NotFound
from backend.lists.exports import csv_rows, export_columns, unnamed_columns
from backend.store.pages import Page

LOOKED_AT = 500  # rows, for the columns of an export
router = APIRouter(prefix="/api/jobs/{job_id}", tags=["videos"])


@router.get("/videos", responses=answers(VideoPage, JOB_ERRORS), summary="List a job's videos")
async def list_videos(
    backend: TheBackend,
    caller: Caller,
    job_id: str,
    *,
    status: VideoStatus | None = None,
    q: Annotated[str, Query(description="A video ID (whole or its beginning), or part of the error.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    page = await backend.queries.videos(job_id, by=caller, status=status, q=q, limit=limit, cursor=cursor)
    return json_response(VideoPage([VideoOut.of(video) for video in page.items], page.next_cursor))


@router.get(
    "/videos/{position}/poster",
    responses=files("image/jpeg", JOB_ERRORS),
    response_class=FileResponse,
    summary="Get a picture out of a video",
)
async def poster(backend: TheBackend, caller: Caller, job_id: str, position: int) -> Response:
    video = await backend.queries.video(job_id, _bounded(position), by=caller)
    path = backend.outputs.poster(video)
    if path is None or not await asyncio.to_thread(path.is_file):
        raise NotFound("This video has no poster.")
    return FileResponse(path, media_type="image/jpeg")


@router.get(
    "/videos/{position}/attempts",
    responses=answers(list[AttemptOut], JOB_ERRORS),
    summary="List the results of a video, oldest first",
)
async def list_attempts(backend: TheBackend, caller: Caller, job_id: str, position: int) -> Response:
    video = await backend.queries.video(job_id, _bounded(position), by=caller)
    outcomes = await backend.queries.outcomes(job_id, video.position, by=caller)
    return json_response([AttemptOut.of(outcome) for outcome in outcomes])


@router.get(
    "/causes",
    responses=answers(list[CauseOut], JOB_ERRORS),
    summary="List why the job's failed videos failed, the cause of most videos first",
)
async def list_causes(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    return json_response([CauseOut.of(cause) for cause in await backend.queries.causes(job_id, by=caller)])


@router.get(
    "/export.csv",
    responses=files("text/csv", JOB_ERRORS),
    response_class=StreamingResponse,
    summary="Export a job's own rows with their results as CSV",
)
async def export_job(backend: TheBackend, caller: Caller, job_id: str) -> Response:
    job = await backend.queries.find(job_id, by=caller)
    columns = await backend.queries.columns(job_id, by=caller)

    first = await backend.queries.videos(job_id, by=caller, limit=LOOKED_AT)
    export = export_columns(columns or unnamed_columns(first.items), first.items)

    async def read(cursor: str | None) -> Page[ExportedVideo]:
        return await backend.queries.export_videos(job_id, by=caller, cursor=cursor)

    return await csv_response(job.name, export.columns, read, lambda videos: csv_rows(map(export.row, videos)))


def _bounded(position: int) -> int:
    if not 0 <= position < 2**31:
        raise NotFound("There is no such video in this job.")
    return position
