"""The route of the statistics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from backend.api.bodies import json_response
from backend.api.deps import Caller, TheBackend
from backend.api.openapi import answers
from backend.api.statistics_types import StatsOut
from backend.domain.moments import parse_moment
from backend.domain.periods import Period
from backend.jobs.statistics import Question

router = APIRouter(tags=["statistics"])
ERRORS = {
    401: "not signed in",
    403: "only administrators see other users' statistics",
    404: "no such user",
    422: "a value is not valid",
}
PERIOD = Query(description=f"One of {', '.join(Period)}; default: {Period.WEEK}.")
MOMENT = "ISO 8601, or seconds or milliseconds since 1970"


@router.get("/api/stats", responses=answers(StatsOut, ERRORS), summary="Get the statistics of a period")
async def stats(
    backend: TheBackend,
    caller: Caller,
    period: Annotated[str | None, PERIOD] = None,
    begin: Annotated[str | None, Query(alias="from", description=f"Instead of a period; {MOMENT}.")] = None,
    end: Annotated[str | None, Query(alias="to", description=f"With from; default: now; {MOMENT}.")] = None,
    processor: Annotated[str | None, Query(description="Only videos of this processor.")] = None,
    name: Annotated[str | None, Query(description="Only jobs of this name, from the results that still exist.")] = None,
    owner: Annotated[str | None, Query(description="Only jobs of this user; for administrators.")] = None,
) -> Response:
    question = Question(
        period=period or None,
        begin=parse_moment(begin, "from") if begin else None,
        end=parse_moment(end, "to") if end else None,
        processor=processor,
        name=name,
        owner=owner,
    )
    return json_response(StatsOut.of(await backend.statistics.of(question, by=caller)))
