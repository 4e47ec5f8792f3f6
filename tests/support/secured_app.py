"""The border around a small app with real accounts, for tests that knock at its doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Query, Request, WebSocket
from pydantic import BaseModel

from backend.accounts.accounts import Accounts
from backend.api import session
from backend.api.bodies import upload_form
from backend.api.deps import Caller, MaybeCaller
from backend.api.docs import add_docs
from backend.api.errors import add_catch_all, add_error_handlers
from backend.api.security import SecurityMiddleware
from backend.clock import Clock
from backend.domain.auth import User
from backend.errors import JobNotFound
from backend.settings import Settings
from tests.support.accounts import SECRET, open_office

HERE = "http://127.0.0.1:8000"
SECRET_OF_A_FAULT = "the secret in the exception"


class Footer(BaseModel):
    """A body with one bounded field of each kind."""

    text: str = ""
    number: int = 0


@dataclass
class World:
    """Settings, accounts and the app behind the border; `owners` says whose page each page id is."""

    settings: Settings
    accounts: Accounts
    clock: Clock
    owners: dict[str, str] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)  # the paths of the pages that were built
    read: list[int] = field(default_factory=list)  # the sizes of the bodies that the app has read to their end

    def __post_init__(self) -> None:
        self.app = self._app()
        self.border = SecurityMiddleware(
            self.app, settings=self.settings, accounts=self.accounts, page_owner=self.owners.get
        )

    @asynccontextmanager
    async def visitor(
        self, cookie: str | None = None, *, address: str = "192.0.2.1", **headers: str
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody at `address` who uses no browser, or one with this session."""
        transport = httpx.ASGITransport(self.border, client=(address, 50000))
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie is not None:
            sent["cookie"] = f"dash_8000={cookie}"
        async with httpx.AsyncClient(transport=transport, base_url=HERE, headers=sent) as client:
            yield client

    async def session(self, user: User) -> str:
        """The cookie of a new session."""
        return await self.accounts.open_session(user)

    def _app(self) -> FastAPI:
        app = FastAPI(title="Doors", docs_url=None, redoc_url=None)
        app.state.backend = SimpleNamespace(settings=self.settings, accounts=self.accounts, clock=self.clock)
        add_error_handlers(app)
        app.include_router(session.router)
        add_docs(app)
        _add_routes(app, self.read)
        add_catch_all(app)

        @app.get("/{path:path}")
        async def page(request: Request, path: str) -> dict[str, Any]:
            self.built.append(path)
            return {"client": request.client.host if request.client else "", "headers": dict(request.headers)}

        @app.websocket("/{path:path}")
        async def socket(socket: WebSocket, path: str) -> None:
            self.built.append(path)
            await socket.accept()
            await socket.close()

        return app


def _add_routes(app: FastAPI, read: list[int]) -> None:
    @app.get("/healthz")
    async def health(caller: MaybeCaller) -> str:
        return caller.name if caller else "ok"

    @app.post("/api/jobs")
    @app.post("/api/notes")
    @app.post("/_nicegui/client/{page_id}/upload/1")
    async def take(request: Request) -> None:
        read.append(len(await request.body()))

    @app.get("/api/mine")
    @app.post("/api/mine")
    async def mine(caller: Caller) -> str:
        return caller.name

    @app.post("/api/note")
    async def note(caller: Caller, note: Footer) -> str:
        return "noted"

    @app.post("/api/form")
    async def form(request: Request) -> int:
        return len(await upload_form(request))

    @app.get("/api/fault")
    async def fault() -> None:
        raise RuntimeError(SECRET_OF_A_FAULT)

    @app.get("/api/jobs/{job_id}")
    async def job(job_id: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> None:
        raise JobNotFound


@contextmanager
def open_world(data_dir: Path, clock: Clock, **given: object) -> Iterator[World]:
    """The border with these settings, over a database in `data_dir`."""
    with open_office(data_dir, clock, jwt_secret=SECRET, **given) as office:
        yield World(office.settings, office.accounts, clock)


def scope_of(kind: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """An ASGI scope as a server makes it."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": kind, "path": path.partition("?")[0], "headers": pairs, "client": ("192.0.2.1", 1)}
    scope |= {"query_string": path.partition("?")[2].encode(), "scheme": "ws" if kind == "websocket" else "http"}
    return scope | {"method": "GET"} if kind == "http" else scope | {"subprotocols": []}
