"""Two servers to compare with: `python -m tests.bench.references PORT broadcast|loop SOCKET_PORT`.

Both accept `POST /progress` with the product's reports, and turn each report into one update of the same shape and
size. `loop` is the plain way: a FastAPI WebSocket route, and `send_json` to one client after the other. `broadcast` is
the websockets library's own server on SOCKET_PORT and its `broadcast()`; each update is encoded once. Neither of them
stores anything, checks a token, or sends a snapshot. Both run on asyncio's own loop, without compression, like the
product.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from progress_dashboard.protocol import ProgressUpdate
from tests.support.servers import ServerProcess, free_port, serving

FIRST_SEQ = 1_767_182_400_001_234
MOMENT = "2026-01-31T12:00:00.123Z"
JOB_ID = "0b0c1a52-6d0f-4f6e-9a5e-2f8d1c3b7a90"
Deliver = Callable[[list[ProgressUpdate]], Awaitable[None]]


class Report(msgspec.Struct):
    """One report of a sender."""

    n: int
    message: str = ""
    video_id: str | None = None
    error: str | msgspec.UnsetType = msgspec.UNSET


def update_of(report: Report) -> ProgressUpdate:
    """Return an update of the size and shape that the product would send for it."""
    return ProgressUpdate(
        job_id=JOB_ID,
        status="processing",
        progress=45,
        current_video=9,
        total_videos=20,
        message=report.message,
        video_id=report.video_id,
        error=report.error,
        failed=1,
        attempt=1,
        requested=None,
        name="bench",
        seq=FIRST_SEQ + report.n,
        timestamp=MOMENT,
    )


def triggered(deliver: Deliver, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return an app with one route, which delivers the updates of the posted reports before it answers."""
    app = FastAPI(lifespan=lifespan)
    decoder = msgspec.json.Decoder(Report | list[Report])

    @app.post("/progress")
    async def post_progress(request: Request) -> Response:
        reports = decoder.decode(await request.body())
        await deliver([update_of(report) for report in (reports if isinstance(reports, list) else [reports])])
        return Response(b"{}", media_type="application/json")

    return app


def plain_loop() -> FastAPI:
    """Return the app that calls `send_json` for each client in turn."""
    sockets: list[WebSocket] = []

    async def deliver(updates: list[ProgressUpdate]) -> None:
        for update in updates:
            fields: dict[str, Any] = msgspec.to_builtins(update)
            for socket in list(sockets):
                await socket.send_json(fields)

    app = triggered(deliver, lambda _: nullcontext())

    @app.websocket("/ws")
    async def join(socket: WebSocket) -> None:
        await socket.accept()
        sockets.append(socket)
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            sockets.remove(socket)

    return app


def library_broadcast(port: int) -> FastAPI:
    """Return the app that calls `websockets.broadcast()` for the clients of the library's server on `port`."""
    sockets: set[ServerConnection] = set()

    async def deliver(updates: list[ProgressUpdate]) -> None:
        for update in updates:
            broadcast(sockets, msgspec.json.encode(update), text=True)

    async def join(socket: ServerConnection) -> None:
        sockets.add(socket)
        await socket.wait_closed()
        sockets.discard(socket)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with serve(join, "127.0.0.1", port, compression=None):
            yield

    return triggered(deliver, lifespan)


@contextmanager
def reference(kind: str) -> Iterator[tuple[ServerProcess, int]]:
    """Run the server as a child process; yield it with the port of its sockets."""
    port, socket_port = free_port(), free_port()
    with serving("tests.bench.references", kind, str(socket_port), port=port) as server:
        yield server, (socket_port if kind == "broadcast" else port)


def main(port: int, kind: str, socket_port: int) -> None:
    """Serve until the process is killed."""
    app = library_broadcast(socket_port) if kind == "broadcast" else plain_loop()
    config = uvicorn.Config(
        app, port=port, ws="websockets-sansio", ws_per_message_deflate=False, access_log=False, loop="asyncio"
    )
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
