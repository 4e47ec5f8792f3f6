"""Signing in and out: the plain form, the link that works once, and the token for programs."""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel

from backend.accounts import SESSION_LONGEST
from backend.api.bodies import media_type
from backend.api.border import session_cookie
from backend.api.deps import TOKEN_ADDRESS, Caller, TheBackend
from backend.api.plain_pages import chosen_theme, login_page, problem_page
from backend.api.problems import headers_of
from backend.api.schemas import ProblemOut
from backend.app import Backend
from backend.auth import User
from backend.errors import DashboardError, Invalid, NotSignedIn, WrongType

log = logging.getLogger(__name__)
router = APIRouter()
TOKEN_SECONDS = 3600
LONGEST_ADDRESS = 2000
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 20


class TokenOut(BaseModel):
    """A token for `Authorization: Bearer`; `expires_in` is in seconds."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105  a word of OAuth2
    expires_in: int


class CallerOut(BaseModel):
    """Who is asking."""

    id: str
    name: str
    is_admin: bool


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
    """`wanted` if a browser cannot take it for another site's address, else the dashboard.

    >>> local_address("/jobs/1?tab=errors"), local_address("//evil.example"), local_address("/\\\\evil.example")
    ('/jobs/1?tab=errors', '/', '/')
    """
    if len(wanted) > LONGEST_ADDRESS or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    if "\\" in wanted or any(character < " " or character == "\x7f" for character in wanted):
        return "/"
    return quote(wanted, safe="/?&=%#:@!$'()*+,;~[]", errors="replace")


@router.get("/login", include_in_schema=False)
async def show_login(request: Request) -> Response:
    """The form; who is signed in already goes on."""
    wanted = local_address(request.query_params.get("next", "/"))
    if request.state.authority is not None:
        return RedirectResponse(wanted, 303)
    theme = chosen_theme(request.cookies)
    return HTMLResponse(login_page(nonce=request.state.csp_nonce, theme=theme, next_address=wanted))


@router.post("/login", include_in_schema=False)
async def sign_in(request: Request, backend: TheBackend) -> Response:
    """A new session, and on to `next`; or the form again with a sentence."""
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
    return await _signed_in(request, backend, user, wanted)


@router.post("/logout", include_in_schema=False)
async def sign_out(request: Request, backend: TheBackend) -> Response:
    """The session ends, here and in its open pages."""
    if request.state.session is not None:
        await backend.accounts.end_session(request.state.session)
        log.info("signed out", extra={"action": "signed_out", "user": request.state.authority.user.name})
    response = RedirectResponse("/login", 303)
    name = session_cookie(backend.settings, request.scope["scheme"])
    response.delete_cookie(name, secure=request.scope["scheme"] == "https", httponly=True, samesite="lax")
    return response


@router.get("/link", include_in_schema=False)
async def use_link(request: Request, backend: TheBackend) -> Response:
    """A new session for the link's user. A browser that only fetches ahead does not use the link up."""
    if "prefetch" in (request.headers.get("sec-purpose") or request.headers.get("purpose") or ""):
        return Response(status_code=503)
    try:
        user = await backend.accounts.use_link(request.query_params.get("token", ""))
    except NotSignedIn as error:
        page = problem_page(
            nonce=request.state.csp_nonce,
            theme=chosen_theme(request.cookies),
            title="This link has ended",
            sentence=error.sentence,
            to="/login",
            act="Sign in with a password",
        )
        return HTMLResponse(page, 410)
    return await _signed_in(request, backend, user, "/")


@router.post(
    TOKEN_ADDRESS,
    tags=["sign-in"],
    summary="A token, valid for an hour (OAuth2 password flow)",
    response_model=TokenOut,
    responses={code: {"model": ProblemOut} for code in (401, 415, 422, 429)},
    openapi_extra=TOKEN_FORM,
)
async def make_token(request: Request, backend: TheBackend) -> TokenOut:
    form = await _form(request)
    if form.get("grant_type", "password") != "password":
        raise Invalid("The grant_type must be password.")
    user = await _check_password(request, backend, form)
    token = await backend.accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS)
    return TokenOut(access_token=token, expires_in=TOKEN_SECONDS)


@router.get("/api/auth/me", tags=["sign-in"], summary="Who is asking", responses={401: {"model": ProblemOut}})
async def who_am_i(caller: Caller) -> CallerOut:
    return CallerOut(id=caller.id, name=caller.name, is_admin=caller.is_admin)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a plain form; raises `WrongType`, `Invalid`."""
    if media_type(request) != FORM:
        raise WrongType(f"Send username and password as a form ({FORM}).")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Invalid("The form has too many fields.") from None


async def _check_password(request: Request, backend: Backend, form: dict[str, str]) -> User:
    name, address = form.get("username", ""), request.client.host if request.client else ""
    known = {"user": name[:64], "address": address}
    try:
        user = await backend.accounts.sign_in(name, form.get("password", ""), address=address)
    except DashboardError:
        log.warning("sign-in refused", extra={"action": "sign_in_refused", **known})
        raise
    log.info("signed in", extra={"action": "signed_in", **known})
    return user


async def _signed_in(request: Request, backend: Backend, user: User, wanted: str) -> Response:
    if request.state.session is not None:
        await backend.accounts.end_session(request.state.session)
    secure = request.scope["scheme"] == "https"
    response = RedirectResponse(wanted, 303)
    response.set_cookie(
        session_cookie(backend.settings, request.scope["scheme"]),
        await backend.accounts.open_session(user),
        max_age=int(SESSION_LONGEST.total_seconds()),
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return response
