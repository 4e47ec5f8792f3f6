"""The route on which the sender of an external job reports."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, TheBackend
from backend.api.jobs import JOB_ERRORS
from backend.api.openapi import answers, body
from backend.api.types import JobOut, ReportsBody
from progress_dashboard.protocol import SenderReport

router = APIRouter(prefix="/api/jobs/{job_id}", tags=["external jobs"])
REPORTS: msgspec.json.Decoder[SenderReport | list[SenderReport]] = msgspec.json.Decoder(ReportsBody)
ERRORS = JOB_ERRORS | {
    400: "the body is not valid JSON",
    409: "the job has ended, or is not an external one",
    413: "the body is over 1 MiB",
    503: "the data cannot be written right now; send it again",
}


@router.post(
    "/progress",
    responses=answers(JobOut, ERRORS),
    openapi_extra=body(ReportsBody),
    summary="Report on an external job",
)
async def report_progress(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """Apply all reports of the request, or none. The answer comes after they are stored."""
    given = decoded(REPORTS, await request.body())
    reports = [given] if isinstance(given, SenderReport) else given
    return json_response(JobOut.of(await backend.external.apply_reports(job_id, reports, by=caller), backend, caller))
