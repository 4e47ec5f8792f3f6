"""The routes of operations: health, and the slots that running videos share."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, KnownCaller, TheBackend
from backend.api.openapi import answers, body
from backend.api.security import HEALTH_PATH
from backend.api.types import SlotsBody
from backend.settings import MAX_SLOTS

router = APIRouter(tags=["operations"])
SLOTS = msgspec.json.Decoder(SlotsBody)
ERRORS = {401: "not signed in"}
CHANGE_ERRORS = ERRORS | {
    400: "the body is not valid JSON",
    403: "only administrators change the slots",
    413: "the body is over 1 MiB",
    422: f"not a number from 1 to {MAX_SLOTS:,}",
}


@router.get(HEALTH_PATH, summary="Get one word for strangers, the health of each part for the signed-in")
async def health(backend: TheBackend, caller: KnownCaller) -> Response:
    healthy = backend.journal.is_storing
    status = 200 if healthy else 503
    if caller is None:
        return PlainTextResponse("ok" if healthy else "failing", status)
    media = await asyncio.to_thread(backend.sources.media.root.is_dir)  # it may be a network disk
    parts = {"database": "ok" if healthy else "failing", "media_directory": "ok" if media else "missing"}
    return JSONResponse({"status": "ok" if healthy else "failing", "parts": parts}, status)


@router.api_route(HEALTH_PATH, methods=["HEAD", "OPTIONS"], include_in_schema=False)
async def check_health(backend: TheBackend) -> Response:
    """Answer monitors that do not GET with the same status; the server sends no body for HEAD."""
    healthy = backend.journal.is_storing
    return PlainTextResponse("ok" if healthy else "failing", 200 if healthy else 503, {"Allow": "GET, HEAD, OPTIONS"})


@router.get("/api/slots", responses=answers(SlotsBody, ERRORS), summary="Get how many videos may run at once")
async def find_slots(backend: TheBackend, caller: Caller) -> Response:
    return json_response(SlotsBody(backend.slots.number))


@router.put(
    "/api/slots",
    responses=answers(SlotsBody, CHANGE_ERRORS),
    openapi_extra=body(SlotsBody),
    summary="Change how many videos may run at once, until the next start",
)
async def change_slots(request: Request, backend: TheBackend, caller: Caller) -> Response:
    """Change the number. Running videos above the new number are not stopped."""
    backend.slots.change(decoded(SLOTS, await request.body()).slots, by=caller)
    return json_response(SlotsBody(backend.slots.number))
