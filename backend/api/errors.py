"""The answers to errors: a status and one plain sentence, as JSON for programs and as a plain page for browsers."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from itertools import takewhile
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from backend.api.plain_pages import chosen_theme, problem_page
from backend.errors import DashboardError, StoreRefused, TooManyAttempts, Unreadable, reason

log = logging.getLogger(__name__)
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
SENTENCES = {
    400: Unreadable().sentence,
    404: "There is nothing at this address.",
    405: "This address does not support that method.",
}
MAX_NAME_LENGTH = 64
RETRY_SECONDS = 2  # after which a client may ask again what the server could not answer for now


def add_error_handlers(app: FastAPI) -> None:
    """Let `app` answer each error with its sentence. The answer to an unexpected error shows only a number."""
    app.exception_handlers |= {
        DashboardError: _expected,
        RequestValidationError: _invalid,
        HTTPException: _http_error,
        ClientDisconnect: _client_gone,
        Exception: _unexpected,
    }


async def _client_gone(request: Request, error: Exception) -> Response:
    log.debug("the client disconnected while it sent its request", extra={"action": "client_gone"})
    return Response(status_code=400)


def add_catch_all(app: FastAPI) -> None:
    """Answer requests under `/api` that no route matches with JSON.

    Call it after the last route is added, and before anything is mounted at `/`.
    """

    async def not_found(request: Request) -> Response:
        allowed = [method for method in METHODS if _matches(app, {**request.scope, "method": method}, not_found)]
        if allowed:
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        raise HTTPException(404)

    for path in ("/api", "/api/{path:path}"):
        app.add_route(path, not_found, methods=list(METHODS), include_in_schema=False)


def error_response(
    request: Request, status: int, sentence: str, *, headers: Mapping[str, str] | None = None, title: str | None = None
) -> Response:
    """Return the answer for one error: a page for a browser outside `/api`, otherwise JSON.

    A page that the server cannot show for now loads itself again.
    """
    is_temporary = status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {**(headers or {}), **({"Retry-After": str(RETRY_SECONDS)} if is_temporary else {})}
    if request.scope["path"].startswith("/api") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": sentence}, status, headers)
    nonce, theme = getattr(request.state, "csp_nonce", ""), chosen_theme(request.cookies)
    title = title or HTTPStatus(status).phrase.capitalize()
    if is_temporary and request.method == "GET":
        address = f"{request.scope['path']}?{request.url.query}".removesuffix("?")
        page = problem_page(nonce=nonce, theme=theme, title=title, sentence=sentence, to=address, act="Try again")
        return HTMLResponse(page, status, headers | {"Refresh": str(RETRY_SECONDS)})
    page = problem_page(nonce=nonce, theme=theme, title=title, sentence=sentence)
    return HTMLResponse(page, status, headers)


def headers_of(error: DashboardError) -> dict[str, str]:
    """Return the headers for an error: `Retry-After` if the client must wait."""
    return {"Retry-After": str(round(error.retry_after))} if isinstance(error, TooManyAttempts) else {}


async def _expected(request: Request, error: DashboardError) -> Response:
    if isinstance(error, StoreRefused):  # of a database that is away, which may be long
        log.warning("%s", error.sentence, extra={"action": "request_refused", "path": request.scope["path"]})
    elif error.status >= 500:
        log.error("request failed", extra={"action": "request_failed", "path": request.scope["path"]}, exc_info=error)
    bearer = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return error_response(request, error.status, error.sentence, headers=headers_of(error) | bearer)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return error_response(request, 422, " ".join(_sentence(fault) for fault in error.errors()[:3]))


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code in (204, 303, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    phrase = HTTPStatus(error.status_code).phrase
    detail = error.detail if isinstance(error.detail, str) and error.detail != phrase else f"{phrase}."
    sentence = SENTENCES.get(error.status_code, detail) if detail == f"{phrase}." else detail
    return error_response(request, error.status_code, sentence, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    number = uuid.uuid4().hex[:8]
    log.error(
        "request failed",
        extra={"action": "request_failed", "number": number, "path": request.scope["path"]},
        exc_info=error,
    )
    request.state.is_reported = True
    sentence = f"Something went wrong here; try again. If it happens again, give an administrator the number {number}."
    return error_response(request, 500, sentence, title="Something went wrong")


def _sentence(fault: Mapping[str, Any]) -> str:
    """Return the sentence for one error that FastAPI found. It never repeats the input.

    >>> _sentence({"loc": ("query", "limit"), "msg": "Input should be less than or equal to 1000"})
    'limit is not valid: input should be less than or equal to 1000.'
    """
    path = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
    name = ".".join(path)[:MAX_NAME_LENGTH] or "The request"
    if fault.get("type") == "json_invalid":
        return "The request is not valid JSON."
    if fault.get("type") == "missing":
        return f"{name} is missing."
    return f"{name} is not valid: {reason(str(fault['msg']))}."


def _matches(app: FastAPI, scope: Scope, catch_all: object) -> bool:
    """Return True if a route before the catch-all matches the request."""
    before = takewhile(lambda route: getattr(route, "endpoint", None) is not catch_all, app.router.routes)
    return any(route.matches(dict(scope))[0] is Match.FULL for route in before)
