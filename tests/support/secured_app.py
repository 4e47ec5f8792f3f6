"""A small app inside the security middleware, with real accounts, for tests of access."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, cast

import httpx
from fastapi import FastAPI, Query, Request, WebSocket
from pydantic import BaseModel

from backend.accounts.accounts import Accounts
from backend.api import SecuredApp, session
from backend.api.bodies import upload_form
from backend.api.deps import Caller, MaybeCaller
from backend.api.docs import add_docs
from backend.api.errors import add_catch_all, add_error_handlers
from backend.app import Backend
from backend.clock import Clock
from backend.domain.auth import User
from backend.errors import JobNotFound
from backend.settings import Settings
from tests.support.accounts import SECRET, open_account_store

OWN_ORIGIN = "http://127.0.0.1:8000"
SECRET_OF_A_FAULT = "the secret in the exception"


class NoteBody(BaseModel):
    """A body with a text and a number."""

    text: str = ""
    number: int = 0


@dataclass
class SecuredSite:
    """The app with its settings and accounts. `page_owners` has the user ID of each open page."""

    settings: Settings
    accounts: Accounts
    clock: Clock
    page_owners: dict[str, str] = field(default_factory=dict)
    built_pages: list[str] = field(default_factory=list)  # paths
    body_sizes: list[int] = field(default_factory=list)  # of the bodies that the app has read to their end

    def __post_init__(self) -> None:
        self.app = self._app()

    @asynccontextmanager
    async def client(
        self, cookie: str | None = None, *, address: str = "192.0.2.1", **headers: str
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Open a client at `address`, with the session of this cookie if there is one."""
        transport = httpx.ASGITransport(self.app, client=(address, 50000))
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie is not None:
            sent["cookie"] = f"dash_8000={cookie}"
        async with httpx.AsyncClient(transport=transport, base_url=OWN_ORIGIN, headers=sent) as client:
            yield client

    async def session(self, user: User) -> str:
        """Open a session and return its cookie."""
        return await self.accounts.open_session(user)

    def _app(self) -> FastAPI:
        backend = SimpleNamespace(settings=self.settings, accounts=self.accounts, clock=self.clock)
        app = SecuredApp(cast(Backend, backend), self.page_owners.get, docs_url=None, redoc_url=None)
        add_error_handlers(app)
        app.include_router(session.router)
        add_docs(app)
        _add_routes(app, self.body_sizes)
        add_catch_all(app)

        @app.get("/{path:path}")
        async def page(request: Request, path: str) -> dict[str, Any]:
            self.built_pages.append(path)
            return {"client": request.client.host if request.client else "", "headers": dict(request.headers)}

        @app.websocket("/{path:path}")
        async def socket(socket: WebSocket, path: str) -> None:
            self.built_pages.append(path)
            await socket.accept()
            await socket.close()

        return app


def _add_routes(app: FastAPI, body_sizes: list[int]) -> None:
    @app.get("/healthz")
    async def health(caller: MaybeCaller) -> str:
        return caller.name if caller else "ok"

    @app.post("/api/jobs")
    @app.post("/api/notes")
    @app.post("/_nicegui/client/{page_id}/upload/1")
    async def receive(request: Request) -> None:
        body_sizes.append(len(await request.body()))

    @app.get("/api/mine")
    @app.post("/api/mine")
    async def mine(caller: Caller) -> str:
        return caller.name

    @app.post("/api/note")
    async def note(caller: Caller, note: NoteBody) -> str:
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
def open_site(data_dir: Path, clock: Clock, **given: object) -> Iterator[SecuredSite]:
    """Open the app with these settings, over a database in `data_dir`."""
    with open_account_store(data_dir, clock, jwt_secret=SECRET, **given) as account_store:
        yield SecuredSite(account_store.settings, account_store.accounts, clock)


def scope_of(kind: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return an ASGI scope like that of a server."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": kind, "path": path.partition("?")[0], "headers": pairs, "client": ("192.0.2.1", 1)}
    scope |= {"query_string": path.partition("?")[2].encode(), "scheme": "ws" if kind == "websocket" else "http"}
    return scope | {"method": "GET"} if kind == "http" else scope | {"subprotocols": []}
