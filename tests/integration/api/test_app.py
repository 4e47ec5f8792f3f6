"""The security middleware around the whole app of `build_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from backend import open_backend
from backend.api import build_app
from tests.support.databases import settings_of

OWN_HOST, UNKNOWN_HOST = "http://127.0.0.1:8000", "http://evil.example:8000"
SECRET = "the secret in the exception"


class FailingMiddleware:
    """Fails outside of all routes, where only Starlette's outermost middleware handles the error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(SECRET)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with open_backend(settings_of(tmp_path / "data")) as backend:
        yield build_app(backend)


def client_of(app: FastAPI, base_url: str = OWN_HOST) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


async def test_the_middleware_protects_a_mounted_app(app: FastAPI) -> None:
    app.mount("/mounted", PlainTextResponse("content of the mounted app"))
    async with client_of(app, UNKNOWN_HOST) as client:
        unknown_host = await client.get("/mounted/page")
    async with client_of(app) as client:
        no_session = await client.get("/mounted/page")
    assert (unknown_host.status_code, no_session.status_code) == (421, 401)
    assert unknown_host.headers["x-content-type-options"] == "nosniff"


async def test_the_middleware_precedes_an_added_middleware(app: FastAPI) -> None:
    app.add_middleware(FailingMiddleware)
    async with client_of(app, UNKNOWN_HOST) as client:
        assert (await client.get("/api/jobs")).status_code == 421


@pytest.mark.parametrize(("path", "accept"), [("/api/jobs", "*/*"), ("/login", "text/html")])
async def test_an_error_outside_the_routes_has_the_security_headers(app: FastAPI, path: str, accept: str) -> None:
    app.add_middleware(FailingMiddleware)
    async with client_of(app) as client:
        answer = await client.get(path, headers={"accept": accept})
    assert (answer.status_code, SECRET in answer.text) == (500, False)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
