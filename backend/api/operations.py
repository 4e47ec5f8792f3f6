"""The routes of operations: health, the slots that running videos share, and the machines."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from backend.api.bodies import decoded, json_response
from backend.api.deps import Caller, KnownCaller, TheBackend
from backend.api.openapi import answers, body
from backend.api.security import HEALTH_PATH
from backend.api.types import SlotsBody, SlotsOut, WorkerBody, WorkerOut
from backend.settings import MAX_SLOTS

router = APIRouter(tags=["operations"])
SLOTS, WORKER = msgspec.json.Decoder(SlotsBody), msgspec.json.Decoder(WorkerBody)
ERRORS = {401: "not signed in"}
CHANGE_ERRORS = ERRORS | {
    400: "the body is not valid JSON",
    403: "only administrators change the slots",
    413: "the body is over 1 MiB",
    422: f"not a number from 1 to {MAX_SLOTS:,}",
}
WORKER_ERRORS = CHANGE_ERRORS | {
    403: "only administrators change the machines",
    404: "there is no machine of this name",
    422: f"slots is not a number from 1 to {MAX_SLOTS:,}",
}


@router.get(HEALTH_PATH, summary="Get one word for strangers, the health of each part for the signed-in")
async def health(backend: TheBackend, caller: KnownCaller) -> Response:
    healthy = backend.journal.is_storing
    status = 200 if healthy else 503
    if caller is None:
        return PlainTextResponse("ok" if healthy else "failing", status)
    media = await asyncio.to_thread(backend.sources.media.root.is_dir)  # it may be a network disk
    parts = {"database": "ok" if healthy else "failing", "media_directory": "ok" if media else "missing"}
    workers = {name: state.value for name, state in backend.machines.states().items()}
    return JSONResponse({"status": "ok" if healthy else "failing", "parts": parts, "workers": workers}, status)


@router.api_route(HEALTH_PATH, methods=["HEAD", "OPTIONS"], include_in_schema=False)
async def check_health(backend: TheBackend) -> Response:
    """Answer monitors that do not GET with the same status; the server sends no body for HEAD."""
    healthy = backend.journal.is_storing
    return PlainTextResponse("ok" if healthy else "failing", 200 if healthy else 503, {"Allow": "GET, HEAD, OPTIONS"})


@router.get("/api/slots", responses=answers(SlotsOut, ERRORS), summary="Get how many videos may run at once")
async def find_slots(backend: TheBackend, caller: Caller) -> Response:
    return json_response(SlotsOut(backend.slots.number))


@router.put(
    "/api/slots",
    responses=answers(SlotsOut, CHANGE_ERRORS),
    openapi_extra=body(SlotsBody),
    summary="Change how many videos may run at once, until the next start",
)
async def change_slots(request: Request, backend: TheBackend, caller: Caller) -> Response:
    """Change the number. Running videos above the new number are not stopped."""
    backend.slots.change(decoded(SLOTS, await request.body()).slots, by=caller)
    return json_response(SlotsOut(backend.slots.number))


@router.get(
    "/api/workers",
    responses=answers(list[WorkerOut], ERRORS | {403: "only administrators see the machines"}),
    summary="List the machines that work through videos",
)
async def list_workers(backend: TheBackend, caller: Caller) -> Response:
    return json_response([WorkerOut.of(machine) for machine in backend.machines.list(by=caller)])


@router.put(
    "/api/workers/{name}",
    responses=answers(WorkerOut, WORKER_ERRORS),
    openapi_extra=body(WorkerBody),
    summary="Change how many videos a machine works on, or let it take no further ones",
)
async def change_worker(request: Request, backend: TheBackend, caller: Caller, name: str) -> Response:
    """Change the machine. Its running videos are not stopped."""
    wanted = decoded(WORKER, await request.body())
    changed = await backend.machines.change(name, slots=wanted.slots, drain=wanted.drain, by=caller)
    return json_response(WorkerOut.of(changed))
