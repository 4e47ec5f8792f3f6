"""A bare FastAPI app: `python -m tests.bench.bare_server PORT h11|httptools|program`, by its HTTP protocol."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from backend.api.uvicorn_internals import Server, http_protocol
from backend.settings import load_settings
from ui.cli.serve import open_listener

PATH = "/word"
OURS = "program"


def app() -> FastAPI:
    """Return an app with one route, which answers with a word."""
    application = FastAPI(openapi_url=None)

    @application.get(PATH)
    async def word() -> PlainTextResponse:
        return PlainTextResponse("ok")

    return application


async def serve(port: int, protocol: str) -> None:
    """Serve the app until the process is ended; `program` is the program's own protocol."""
    http = http_protocol() if protocol == OURS else protocol
    config = uvicorn.Config(app(), http=http, log_level="info", access_log=False)
    with open_listener(load_settings(port=port)) as listener:
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        print("Uvicorn running", flush=True)
        await serving


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
