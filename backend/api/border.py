"""The outermost ASGI class: who may knock at which door, how much they may bring, which headers the answer gets.

In this order: the Host header, the proxies that may speak for a client, the Origin of whatever changes something, the
session, the size of the body. Decisions rest on `scope["path"]`, never on an assembled URL. A request without a session
reaches only what `door_of` names, so that strangers never make the page server build anything.

Why a request without an Origin may change something under `/api`: no browser sends a foreign page's POST without one.
With neither Origin nor session cookie a request has no authority but the token or password it carries itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.accounts import Accounts
from backend.api.addresses import Hosts, Origins, Proxies, Sender, public_host
from backend.auth import Authority
from backend.csv_files import MAX_BYTES
from backend.errors import DashboardError, TooLarge
from backend.settings import Settings

MIB = 1024 * 1024
UPLOAD_BYTES = MAX_BYTES + MIB  # the file and what multipart puts around it
BODY_BYTES = MIB
FORM_BYTES = 64 * 1024
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDED = (b"x-forwarded-", b"forwarded")


class Door(Enum):
    """What a path leads to, as far as the border cares."""

    OPEN = auto()  # for everybody: sign-in, health
    ASSET = auto()  # code and style of the pages, the same for everybody
    DOCS = auto()
    API = auto()  # each route asks for its own authority
    FEED = auto()  # the progress socket: a token, any Origin, no cookie
    SOCKET = auto()  # NiceGUI's socket, and the long polling that stands in for it
    CLIENT = auto()  # what belongs to one open page, such as its uploads
    PAGE = auto()  # everything else


PLAIN = (
    "default-src 'none'; style-src 'self' 'nonce-{nonce}'; font-src 'self'; img-src 'self'; "
    "form-action 'self'; {closed}"
)
DOCS = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; {closed}"
)
PAGES = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; media-src 'self'; connect-src 'self'; form-action 'self'; "
    "object-src 'none'; {closed}"
)  # without 'unsafe-eval' no input of NiceGUI renders
DATA = "default-src 'none'; {closed}"
CLOSED = "base-uri 'none'; frame-ancestors 'none'"
CONTENT_POLICY = {
    Door.OPEN: PLAIN,
    Door.DOCS: DOCS,
    Door.PAGE: PAGES,
    Door.CLIENT: DATA,
    Door.API: DATA,
    Door.SOCKET: DATA,
}

OPEN_PATHS = frozenset(
    {("GET", "/login"), ("POST", "/login"), ("POST", "/logout"), ("GET", "/link"), ("GET", "/healthz")}
)
DOCS_PATHS = frozenset({"/docs", "/openapi.json"})
DOCS_ASSETS = re.compile(r"/static-offline-docs/[a-z.-]+")
# Only addresses that NiceGUI has a route for: anything else would make it build its "not found" page.
PAGE_ASSETS = re.compile(
    rf"/favicon\.ico|/_nicegui/{re.escape(version('nicegui'))}"
    r"/((static|libraries|components)/.+|(resources|esm)/[^/]+/.+|dynamic_resources/[^/]+)"
)


def door_of(method: str, path: str, *, is_socket: bool) -> Door:
    """Where a request goes. What is not named here needs a session."""
    if is_socket and path == "/api/ws/progress":
        return Door.FEED
    if path.startswith("/_nicegui_ws/"):
        return Door.SOCKET
    if path.startswith("/_nicegui/client/"):
        return Door.CLIENT
    if is_socket:
        return Door.PAGE
    if path == "/api" or path.startswith("/api/"):
        return Door.API
    if (method, path) in OPEN_PATHS:
        return Door.OPEN
    if method == "GET" and (path in DOCS_PATHS):
        return Door.DOCS
    if method == "GET" and (PAGE_ASSETS.fullmatch(path) or DOCS_ASSETS.fullmatch(path)):
        return Door.ASSET
    return Door.PAGE


def session_cookie(settings: Settings, scheme: str) -> str:
    """The cookie's name: with the port, since browsers share cookies between the ports of a host."""
    return f"{'__Host-' if scheme == 'https' else ''}dash_{settings.port}"


class Stopped(Exception):
    """The border answers by itself; the request goes no further."""

    def __init__(self, status: int, sentence: str = "", *, location: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.location = location


@dataclass(frozen=True)
class Visit:
    """A request or handshake, its scope already cleaned of what only a trusted proxy may say."""

    scope: Scope
    headers: Headers
    door: Door
    sender: Sender

    @property
    def is_socket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    @property
    def changes(self) -> bool:
        """Whether it may change something: its sender has to be known."""
        return self.is_socket or self.scope["method"] not in SAFE

    @property
    def has_token(self) -> bool:
        """Whether it speaks for itself with a token; then its cookies mean nothing."""
        return self.door is Door.API and self.headers.get("authorization", "").lower().startswith("bearer ")

    @property
    def is_preflight(self) -> bool:
        asked = "access-control-request-method" in self.headers
        return asked and not self.is_socket and self.scope["method"] == "OPTIONS"

    @property
    def opens_a_page(self) -> bool:
        """Whether the browser says that somebody follows a link to it."""
        return self.headers.get("sec-fetch-dest") == "document"

    @property
    def page_id(self) -> str | None:
        """The open page that it claims to belong to."""
        if self.door is Door.CLIENT:
            return str(self.scope["path"]).split("/")[3]
        named = parse_qs(self.scope["query_string"].decode("latin-1")).get("client_id", [])
        return named[0] if len(named) == 1 else None

    @property
    def body_limit(self) -> int:
        path = self.scope["path"]
        if path == "/api/jobs" or self.door is Door.CLIENT:
            return UPLOAD_BYTES
        return FORM_BYTES if self.door is Door.OPEN or path == "/api/auth/token" else BODY_BYTES

    def cookie(self, name: str) -> str | None:
        """A cookie of the request."""
        return cookie_parser(self.headers.get("cookie", "")).get(name)


class Border:
    """Everything that reaches the app has passed here.

    Leaves in `scope["state"]`: `authority` (of the session, or None), `session` (its cookie's value), `own_origins`,
    `csp_nonce`. `page_owner` tells the user id of an open page.
    """

    def __init__(
        self, app: ASGIApp, *, settings: Settings, accounts: Accounts, page_owner: Callable[[str], str | None]
    ) -> None:
        self._app = app
        self._settings = settings
        self._accounts = accounts
        self._page_owner = page_owner
        self._hosts = Hosts(settings)
        self._origins = Origins(settings)
        self._proxies = Proxies(settings)
        self._public_host = public_host(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = self._visit(scope)
        reply = Reply(visit, send)
        try:
            await self._admit(visit)
        except Stopped as stopped:
            await reply.stop(stopped, receive)
        except DashboardError as error:
            await reply.stop(Stopped(error.status, error.sentence), receive)
        else:
            await self._pass_on(visit, receive, reply)

    def _visit(self, scope: Scope) -> Visit:
        scope = self._cleaned(scope)
        headers = Headers(scope=scope)
        own = self._origins.own(scope["scheme"].replace("ws", "http"), headers.get("host", "").lower())
        sender = self._origins.sender(headers, own)
        scope["state"] = {
            **scope.get("state", {}),
            "authority": None,
            "session": None,
            "own_origins": own | ({headers["origin"]} if sender is Sender.OWN else set()),
            "csp_nonce": secrets.token_urlsafe(16),
        }
        is_socket = scope["type"] == "websocket"
        door = door_of(scope.get("method", ""), scope["path"], is_socket=is_socket)
        return Visit(scope, headers, door, sender)

    def _cleaned(self, scope: Scope) -> Scope:
        headers, given = Headers(scope=scope), dict(scope)
        peer = scope["client"][0] if scope.get("client") else ""
        if self._proxies.trust(peer):
            client = self._proxies.client(",".join(headers.getlist("x-forwarded-for")))
            secure = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip() == "https"
            given |= {"client": (client, 0) if client else scope["client"]} | (_secured(scope) if secure else {})
        if headers.get("host", "").lower() == self._public_host:
            given |= _secured(scope)
        given["headers"] = [pair for pair in scope["headers"] if not pair[0].lower().startswith(FORWARDED)]
        return given

    async def _admit(self, visit: Visit) -> None:
        """Raises `Stopped` for whoever has to stay outside."""
        if len(visit.headers.getlist("host")) != 1 or not self._hosts.know(visit.headers["host"]):
            raise Stopped(421, "This server does not go by that name; an administrator can add it to ALLOWED_HOSTS.")
        if visit.door is Door.FEED:
            return
        if visit.is_preflight and visit.door is Door.API and visit.sender is Sender.FRIEND:
            raise Stopped(204)
        cookie = visit.cookie(session_cookie(self._settings, visit.scope["scheme"].replace("ws", "http")))
        if visit.changes and not _may_change(visit, has_cookie=cookie is not None):
            raise Stopped(
                403, "This came from another web site, or your browser hid where it came from; open the page here."
            )
        if cookie and _cookie_counts(visit):
            await self._recognise(visit, cookie)
        self._check_door(visit, visit.scope["state"]["authority"])
        self._check_length(visit)

    async def _recognise(self, visit: Visit, cookie: str) -> None:
        authority = await self._accounts.session(cookie)
        if authority is not None:
            visit.scope["state"] |= {"authority": authority, "session": cookie}

    def _check_door(self, visit: Visit, authority: Authority | None) -> None:
        if visit.door in (Door.OPEN, Door.ASSET, Door.DOCS, Door.API):
            return
        if authority is None:
            raise _sign_in_first(visit)
        if visit.door is Door.PAGE:
            return
        owner = self._page_owner(visit.page_id) if visit.page_id else ""
        if owner not in (None, authority.user.id):  # None: the page is gone, which NiceGUI tells the browser
            raise Stopped(403, "This page belongs to somebody else; open it again.")

    def _check_length(self, visit: Visit) -> None:
        length = visit.headers.get("content-length", "0")
        if not visit.is_socket and length.isdecimal() and int(length[:20]) > visit.body_limit:
            raise Stopped(413, _too_large(visit))

    async def _pass_on(self, visit: Visit, receive: Receive, reply: Reply) -> None:
        intake = Intake(receive, visit.body_limit)
        reply.intake = intake
        try:
            await self._app(visit.scope, receive if visit.is_socket else intake.receive, reply.send)
        except asyncio.CancelledError:  # the server stops; nothing above this call is left that could care
            if not visit.is_socket and not reply.is_started:
                await reply.stop(Stopped(503, "The server is stopping; try again in a moment."), receive)
        except Exception:
            if not intake.is_exceeded and not visit.scope["state"].get("is_reported"):
                raise
        if intake.is_exceeded and not reply.is_started:
            await reply.stop(Stopped(413, _too_large(visit)), receive)


class Intake:
    """A request's body, counted while it comes in."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0

    @property
    def is_exceeded(self) -> bool:
        return self._size > self._limit

    async def receive(self) -> Message:
        """The next piece; raises `TooLarge` above the limit."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self.is_exceeded:
            raise TooLarge
        return message


class Reply:
    """What goes back, under the headers of its door."""

    def __init__(self, visit: Visit, send: Send) -> None:
        self._visit = visit
        self._send = send
        self.is_started = False
        self.intake: Intake | None = None

    async def send(self, message: Message) -> None:
        """Pass the app's answer on, unless the body it is about was too large."""
        if self.intake and self.intake.is_exceeded and not self.is_started:
            return
        await self._pass(message)

    async def stop(self, stopped: Stopped, receive: Receive) -> None:
        """The border's own answer; a socket's handshake fails with 403."""
        if self._visit.is_socket:
            await self._send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        await _answer(self._visit, stopped)(self._visit.scope, receive, self._pass)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            _put_headers(self._visit, MutableHeaders(raw=message.setdefault("headers", [])))
        await self._send(message)


def _secured(scope: Scope) -> dict[str, str]:
    return {"scheme": "wss" if scope["type"] == "websocket" else "https"}


def _may_change(visit: Visit, *, has_cookie: bool) -> bool:
    if visit.sender is Sender.OWN or visit.has_token:
        return True
    if visit.door is not Door.API:
        return False
    return visit.sender is Sender.FRIEND or (visit.sender is Sender.SILENT and not has_cookie)


def _cookie_counts(visit: Visit) -> bool:
    if visit.door is Door.ASSET or visit.has_token:
        return False
    return visit.sender in (Sender.OWN, Sender.SILENT) or (visit.sender is Sender.FOREIGN and visit.opens_a_page)


def _sign_in_first(visit: Visit) -> Stopped:
    wants_page = "text/html" in visit.headers.get("accept", "")
    if visit.is_socket or visit.door is not Door.PAGE or visit.scope["method"] != "GET" or not wants_page:
        return Stopped(401, "You are not signed in, or your session has ended; sign in again.")
    query = visit.scope["query_string"].decode("latin-1")
    wanted = visit.scope["path"] + (f"?{query}" if query else "")
    return Stopped(303, location="/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}")


def _too_large(visit: Visit) -> str:
    limit = MAX_BYTES if visit.body_limit == UPLOAD_BYTES else visit.body_limit
    shown = f"{limit // MIB} MiB" if limit >= MIB else f"{limit // 1024} KiB"
    return f"That is too large: the limit here is {shown}."


def _answer(visit: Visit, stopped: Stopped) -> Response:
    if stopped.location is not None:
        return RedirectResponse(stopped.location, 303)
    if stopped.status == 204:
        return Response(status_code=204)
    headers = {"WWW-Authenticate": "Bearer"} if stopped.status == 401 else None
    if visit.door is Door.API:
        return JSONResponse({"detail": stopped.sentence}, stopped.status, headers)
    return PlainTextResponse(stopped.sentence, stopped.status)


def _put_headers(visit: Visit, headers: MutableHeaders) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Referrer-Policy"] = "same-origin"
    if policy := CONTENT_POLICY.get(visit.door):
        nonce = visit.scope["state"]["csp_nonce"]
        headers["Content-Security-Policy"] = policy.format(nonce=nonce, closed=CLOSED)
    if visit.door is not Door.ASSET:
        headers.setdefault("Cache-Control", "no-store")
    if visit.scope["scheme"] == "https":
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if visit.door is Door.API:
        _put_sharing_headers(visit, headers)


def _put_sharing_headers(visit: Visit, headers: MutableHeaders) -> None:
    headers.add_vary_header("Origin")
    if visit.sender is not Sender.FRIEND:
        return
    headers["Access-Control-Allow-Origin"] = visit.headers["origin"]
    headers["Access-Control-Expose-Headers"] = "Retry-After, Content-Disposition"
    if visit.is_preflight:
        headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Idempotency-Key"
        headers["Access-Control-Max-Age"] = "600"
