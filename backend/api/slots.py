"""The slots that running videos share, read and changed while the server runs."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from backend.api.bodies import decoded
from backend.api.deps import Caller, TheBackend
from backend.api.schemas import SlotsOut, refusals
from backend.settings import MOST_SLOTS

router = APIRouter(prefix="/api/slots", tags=["operations"])


class Slots(msgspec.Struct, forbid_unknown_fields=True):
    """How many videos may run at once."""

    slots: int


SLOTS = msgspec.json.Decoder(Slots)
SLOTS_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["slots"],
                    "additionalProperties": False,
                    "properties": {"slots": {"type": "integer", "minimum": 1, "maximum": MOST_SLOTS}},
                }
            }
        },
    }
}
REFUSALS = {401: "not signed in"}
CHANGE_REFUSALS = REFUSALS | {
    400: "the body is not valid JSON",
    403: "only administrators change the slots",
    413: "the body is over 1 MiB",
    422: f"not a number from 1 to {MOST_SLOTS:,}",
}


@router.get("", response_model=SlotsOut, responses=refusals(REFUSALS), summary="How many videos may run at once")
async def find_slots(backend: TheBackend, caller: Caller) -> Response:
    return JSONResponse({"slots": backend.work.slots})


@router.put(
    "",
    response_model=SlotsOut,
    responses=refusals(CHANGE_REFUSALS),
    openapi_extra=SLOTS_SCHEMA,
    summary="Change how many videos may run at once, until the next start",
)
async def change_slots(request: Request, backend: TheBackend, caller: Caller) -> Response:
    """What runs above the number still ends."""
    backend.work.change_slots(decoded(SLOTS, await request.body()).slots, by=caller)
    return JSONResponse({"slots": backend.work.slots})
