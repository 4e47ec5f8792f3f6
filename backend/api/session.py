"""Sign-in and sign-out: the plain form, the link that works once, and the token for programs."""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from backend.accounts.accounts import MAX_SESSION_AGE, signs_in_at_once
from backend.api.bodies import json_response, media_type
from backend.api.deps import TOKEN_ADDRESS, Caller, TheBackend
from backend.api.errors import headers_of
from backend.api.openapi import answers
from backend.api.plain_pages import chosen_theme, link_page, login_page, problem_page
from backend.api.security import session_cookie
from backend.api.types import CallerOut, TokenOut
from backend.app import Backend
from backend.domain.auth import User
from backend.errors import DashboardError, Invalid, NotSignedIn, WrongType

log = logging.getLogger(__name__)
router = APIRouter()
TOKEN_SECONDS = 3600
MAX_ADDRESS_LENGTH = 2000
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 20
UNKNOWN_NAME = "(unknown)"  # what was typed there may be a password
TOKEN_ERRORS = {
    401: "the user name or the password is wrong",
    415: "not a form",
    422: "a field is missing or not valid",
    429: "too many attempts",
}


TOKEN_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "const": "password"},
                        "username": {"type": "string"},
                        "password": {"type": "string", "format": "password"},
                    },
                }
            }
        },
    }
}


def local_address(wanted: str) -> str:
    """Return `wanted` if no browser can read it as an address of another site, otherwise the dashboard's.

    >>> local_address("/jobs/1?tab=errors"), local_address("//evil.example"), local_address("/\\\\evil.example")
    ('/jobs/1?tab=errors', '/', '/')
    """
    if len(wanted) > MAX_ADDRESS_LENGTH or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    if "\\" in wanted or any(character < " " or character == "\x7f" for character in wanted):
        return "/"
    return quote(wanted, safe="/?&=%#:@!$'()*+,;~[]", errors="replace")


@router.get("/login", include_in_schema=False)
async def show_login(request: Request) -> Response:
    """Show the form, or redirect a user who is already signed in."""
    wanted = local_address(request.query_params.get("next", "/"))
    if request.state.authority is not None:
        return RedirectResponse(wanted, 303)
    theme = chosen_theme(request.cookies)
    return HTMLResponse(login_page(nonce=request.state.csp_nonce, theme=theme, next_address=wanted))


@router.post("/login", include_in_schema=False)
async def sign_in(request: Request, backend: TheBackend) -> Response:
    """Start a session and redirect to `next`, or show the form again with an error."""
    form = await _form(request)
    name, wanted = form.get("username", ""), local_address(form.get("next", "/"))
    try:
        user = await _check_password(request, backend, form)
    except DashboardError as error:
        page = login_page(
            nonce=request.state.csp_nonce,
            theme=chosen_theme(request.cookies),
            next_address=wanted,
            name=name,
            problem=error.sentence,
        )
        return HTMLResponse(page, error.status, headers_of(error))
    return await _start_session(request, backend, user, wanted)


@router.post("/logout", include_in_schema=False)
async def sign_out(request: Request, backend: TheBackend) -> Response:
    """End the session, also in its open pages."""
    if request.state.session is not None:
        await backend.accounts.end_session(request.state.session)
        log.info("signed out", extra={"action": "signed_out", "user": request.state.authority.user.name})
    response = RedirectResponse("/login", 303)
    name = session_cookie(backend.settings, request.scope["scheme"])
    response.delete_cookie(name, secure=request.scope["scheme"] == "https", httponly=True, samesite="lax")
    return response


@router.api_route("/link", methods=["GET", "HEAD"], include_in_schema=False)
async def show_link(request: Request, backend: TheBackend) -> Response:
    """Show a button for the link: programs that preview or check an address would use it up otherwise.

    Only a link that this machine's browser opens by itself signs in at once.
    """
    link = request.query_params.get("token", "")
    try:
        if signs_in_at_once(link) and _is_opened(request):
            return await _start_session(request, backend, await backend.accounts.use_link(link), "/")
        user = await backend.accounts.find_link(link)
    except NotSignedIn as error:
        return _ended_link(request, error)
    theme = chosen_theme(request.cookies)
    return HTMLResponse(link_page(nonce=request.state.csp_nonce, theme=theme, name=user.name, link=link))


@router.post("/link", include_in_schema=False)
async def use_link(request: Request, backend: TheBackend) -> Response:
    """Start a session for the user of the link. The middleware has checked that a page of this server sends it."""
    form = await _form(request)
    try:
        user = await backend.accounts.use_link(form.get("token", ""))
    except NotSignedIn as error:
        return _ended_link(request, error)
    return await _start_session(request, backend, user, "/")


@router.post(
    TOKEN_ADDRESS,
    tags=["sign-in"],
    summary="Get a token, valid for an hour (OAuth2 password flow)",
    responses=answers(TokenOut, TOKEN_ERRORS),
    openapi_extra=TOKEN_FORM,
)
async def make_token(request: Request, backend: TheBackend) -> Response:
    form = await _form(request)
    if form.get("grant_type", "password") != "password":
        raise Invalid("The grant_type must be password.")
    user = await _check_password(request, backend, form)
    token = await backend.accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS)
    return json_response(TokenOut(token, "bearer", TOKEN_SECONDS))


@router.get(
    "/api/auth/me", tags=["sign-in"], summary="Get the caller", responses=answers(CallerOut, {401: "not signed in"})
)
async def who_am_i(caller: Caller) -> Response:
    return json_response(CallerOut(caller.id, caller.name, caller.is_admin))


def _is_opened(request: Request) -> bool:
    purpose = request.headers.get("sec-purpose") or request.headers.get("purpose") or ""
    return request.method == "GET" and "prefetch" not in purpose


def _ended_link(request: Request, error: NotSignedIn) -> Response:
    page = problem_page(
        nonce=request.state.csp_nonce,
        theme=chosen_theme(request.cookies),
        title="This link is not valid",
        sentence=error.sentence,
        to="/login",
        act="Sign in with a password",
    )
    return HTMLResponse(page, 410)


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a plain form. Raises `WrongType` for another type, `Invalid` for too many fields."""
    if media_type(request) != FORM:
        raise WrongType(f"Send username and password as a form ({FORM}).")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Invalid("The form has too many fields.") from None


async def _check_password(request: Request, backend: Backend, form: dict[str, str]) -> User:
    name, address = form.get("username", ""), request.client.host if request.client else ""
    try:
        user = await backend.accounts.sign_in(name, form.get("password", ""), address=address)
    except DashboardError:
        known = name if await backend.accounts.exists(name) else UNKNOWN_NAME
        log.warning("sign-in refused", extra={"action": "sign_in_refused", "user": known, "address": address})
        raise
    log.info("signed in", extra={"action": "signed_in", "user": user.name, "address": address})
    return user


async def _start_session(request: Request, backend: Backend, user: User, next_address: str) -> Response:
    if request.state.session is not None:
        await backend.accounts.end_session(request.state.session)
    secure = request.scope["scheme"] == "https"
    response = RedirectResponse(next_address, 303)
    response.set_cookie(
        session_cookie(backend.settings, request.scope["scheme"]),
        await backend.accounts.open_session(user),
        max_age=int(MAX_SESSION_AGE.total_seconds()),
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return response
