"""Health."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from backend.api.deps import MaybeCaller, TheBackend

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="One word for strangers, the health of each part for the signed-in")
async def health(backend: TheBackend, caller: MaybeCaller) -> Response:
    healthy = backend.hub.is_storing
    status = 200 if healthy else 503
    if caller is None:
        return PlainTextResponse("ok" if healthy else "failing", status)
    media = await asyncio.to_thread(backend.media.root.is_dir)  # it may be a network disk
    parts = {"database": "ok" if healthy else "failing", "media_directory": "ok" if media else "missing"}
    return JSONResponse({"status": "ok" if healthy else "failing", "parts": parts}, status)
