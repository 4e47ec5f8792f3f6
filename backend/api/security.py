"""The outermost ASGI middleware: access to every path, sizes of bodies, and headers of responses.

It resolves the headers of trusted proxies, then checks in this order: the Host header (except at `/healthz`), the
Origin of every request that may change something, the session, and the size of the body. Decisions use
`scope["path"]`, never an assembled URL. A request without a session reaches only the paths that `route_class_of`
names, so it never makes NiceGUI build a page.

A request without an Origin may change something under `/api`, because a browser never sends a foreign page's POST
without one. Without Origin and session cookie a request has only the authority of its own token or password.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.accounts.accounts import Accounts
from backend.api.addresses import Hosts, OriginKind, Origins, Proxies, public_host
from backend.api.errors import error_response
from backend.domain.auth import Authority
from backend.errors import DashboardError, StoreRefused, TooLarge
from backend.lists.csv_files import MAX_BYTES
from backend.settings import Settings

MIB = 1024 * 1024
MAX_UPLOAD_BYTES = MAX_BYTES + MIB  # the file and its multipart framing
MAX_BODY_BYTES = MIB
MAX_FORM_BYTES = 64 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDED_PREFIXES = (b"x-forwarded-", b"forwarded")


class RouteClass(Enum):
    """The class of a path, which decides about access, headers and limits."""

    OPEN = auto()  # for everyone: sign-in, health
    ASSET = auto()  # code and style of the pages, the same for everyone
    DOCS = auto()
    API = auto()  # each route checks the authority itself
    FEED = auto()  # the progress socket: a token, any Origin, no cookie
    SOCKET = auto()  # NiceGUI's socket, and its fallback, long polling
    CLIENT = auto()  # parts of one open page, such as its uploads
    PAGE = auto()  # all other paths


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
    RouteClass.OPEN: PLAIN,
    RouteClass.DOCS: DOCS,
    RouteClass.PAGE: PAGES,
    RouteClass.CLIENT: DATA,
    RouteClass.API: DATA,
    RouteClass.SOCKET: DATA,
}

HEALTH_PATH, METRICS_PATH = "/healthz", "/metrics"
OPEN_METHODS = {
    "/login": frozenset({"GET", "POST"}),
    "/logout": frozenset({"POST"}),
    "/link": frozenset({"GET", "HEAD", "POST"}),
    HEALTH_PATH: frozenset({"GET", "HEAD", "OPTIONS"}),
}
DOCS_PATHS = frozenset({"/docs", "/openapi.json"})
DOCS_ASSETS = re.compile(r"/static-offline-docs/[a-z.-]+")
# Only paths that NiceGUI has a route for: any other would make it build its "not found" page.
_OF_NICEGUI = rf"/_nicegui/{re.escape(version('nicegui'))}"
_FIXED = r"((static|libraries|components)/.+|esm/[^/]+/.+)"
FIXED_ASSETS = re.compile(rf"{_OF_NICEGUI}/{_FIXED}")
PAGE_ASSETS = re.compile(rf"/favicon\.ico|{_OF_NICEGUI}/({_FIXED}|resources/[^/]+/.+|dynamic_resources/[^/]+)")


def is_fixed_asset(path: str) -> bool:
    """Return True for a file of the pages that is the same for everyone, as long as the server runs."""
    return FIXED_ASSETS.fullmatch(path) is not None


def route_class_of(method: str, path: str, *, is_socket: bool) -> RouteClass:
    """Return the class of a request. A path that is not named here needs a session."""
    if is_socket and path == "/api/ws/progress":
        return RouteClass.FEED
    if path.startswith("/_nicegui_ws/"):
        return RouteClass.SOCKET
    if path.startswith("/_nicegui/client/"):
        return RouteClass.CLIENT
    if is_socket:
        return RouteClass.PAGE
    if path in ("/api", METRICS_PATH) or path.startswith("/api/"):
        return RouteClass.API
    if method in OPEN_METHODS.get(path, ()):
        return RouteClass.OPEN
    if method == "GET" and (path in DOCS_PATHS):
        return RouteClass.DOCS
    if method == "GET" and (PAGE_ASSETS.fullmatch(path) or DOCS_ASSETS.fullmatch(path)):
        return RouteClass.ASSET
    return RouteClass.PAGE


def session_cookie(settings: Settings, scheme: str) -> str:
    """Return the name of the session cookie. It has the port, because browsers share cookies between a host's ports."""
    return f"{'__Host-' if scheme == 'https' else ''}dash_{settings.port}"


class Rejected(Exception):
    """Rejects the request: the middleware answers it, and the app never sees it."""

    def __init__(self, status: int, sentence: str = "", *, location: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.location = location


@dataclass(frozen=True)
class RequestContext:
    """A request or WebSocket handshake, after the headers of proxies are resolved and removed."""

    scope: Scope
    headers: Headers
    route_class: RouteClass
    origin_kind: OriginKind

    @property
    def is_socket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    @property
    def is_unsafe(self) -> bool:
        """True if the request may change something, so that its origin must be known."""
        return self.is_socket or self.scope["method"] not in SAFE_METHODS

    @property
    def has_token(self) -> bool:
        """True if the request carries a token. Its cookies are then ignored."""
        return self.route_class is RouteClass.API and self.headers.get("authorization", "").lower().startswith(
            "bearer "
        )

    @property
    def is_preflight(self) -> bool:
        has_header = "access-control-request-method" in self.headers
        return has_header and not self.is_socket and self.scope["method"] == "OPTIONS"

    @property
    def is_health_check(self) -> bool:
        """True if a monitor may ask this: it knows the server by the name of a pod, by an address, or by none."""
        return self.route_class is RouteClass.OPEN and self.scope["path"] == HEALTH_PATH

    @property
    def is_navigation(self) -> bool:
        """True if the browser says that the user opens the path as a page."""
        return self.headers.get("sec-fetch-dest") == "document"

    @property
    def page_id(self) -> str | None:
        """ID of the open page that the request claims to belong to."""
        if self.route_class is RouteClass.CLIENT:
            return str(self.scope["path"]).split("/")[3]
        ids = parse_qs(self.scope["query_string"].decode("latin-1")).get("client_id", [])
        return ids[0] if len(ids) == 1 else None

    @property
    def body_limit(self) -> int:
        path = self.scope["path"]
        if path == "/api/jobs" or self.route_class is RouteClass.CLIENT:
            return MAX_UPLOAD_BYTES
        return MAX_FORM_BYTES if self.route_class is RouteClass.OPEN or path == "/api/auth/token" else MAX_BODY_BYTES

    def cookie(self, name: str) -> str | None:
        """Return a cookie of the request."""
        return cookie_parser(self.headers.get("cookie", "")).get(name)


class SecurityMiddleware:
    """Admits or rejects each request before the app, and adds headers to each response.

    It sets in `scope["state"]`: `authority` (of the session, or None), `session` (the value of its cookie),
    `own_origins`, `csp_nonce`, and `is_stranger` (under a foreign name, where no authority counts). `page_owner`
    returns the user ID of an open page, None for an unknown page.
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
        context = self._context(scope)
        response = ResponseWriter(context, send)
        try:
            await self._admit(context)
        except Rejected as rejected:
            await response.reject(rejected, receive)
        except DashboardError as error:
            await response.reject(Rejected(error.status, error.sentence), receive)
        else:
            await self._forward(context, receive, response)

    def _context(self, scope: Scope) -> RequestContext:
        scope = self._cleaned(scope)
        headers = Headers(scope=scope)
        own = self._origins.own(scope["scheme"].replace("ws", "http"), headers.get("host", "").lower())
        origin_kind = self._origins.kind_of(headers, own)
        scope["state"] = {
            **scope.get("state", {}),
            "authority": None,
            "session": None,
            "is_stranger": False,
            "own_origins": own | ({headers["origin"]} if origin_kind is OriginKind.OWN else set()),
            "csp_nonce": secrets.token_urlsafe(16),
        }
        is_socket = scope["type"] == "websocket"
        route_class = route_class_of(scope.get("method", ""), scope["path"], is_socket=is_socket)
        return RequestContext(scope, headers, route_class, origin_kind)

    def _cleaned(self, scope: Scope) -> Scope:
        headers, cleaned = Headers(scope=scope), dict(scope)
        peer = scope["client"][0] if scope.get("client") else ""
        if self._proxies.is_trusted(peer):
            client = self._proxies.client(",".join(headers.getlist("x-forwarded-for")))
            secure = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip() == "https"
            cleaned |= {"client": (client, 0) if client else scope["client"]} | (_secure(scope) if secure else {})
        if headers.get("host", "").lower() == self._public_host:
            cleaned |= _secure(scope)
        cleaned["headers"] = [pair for pair in scope["headers"] if not pair[0].lower().startswith(FORWARDED_PREFIXES)]
        return cleaned

    async def _admit(self, context: RequestContext) -> None:
        """Raise `Rejected` for a request that the app must not see. Sets the authority of the session."""
        if len(context.headers.getlist("host")) != 1 or not self._hosts.is_known(context.headers["host"]):
            if context.is_health_check:
                context.scope["state"]["is_stranger"] = True  # whoever asks
                return
            raise Rejected(
                421, "This server does not have that host name; an administrator can add it to ALLOWED_HOSTS."
            )
        if context.route_class is RouteClass.FEED:
            return
        if context.is_preflight and context.route_class is RouteClass.API and context.origin_kind is OriginKind.ALLOWED:
            raise Rejected(204)
        cookie = context.cookie(session_cookie(self._settings, context.scope["scheme"].replace("ws", "http")))
        if context.is_unsafe and not _may_change(context, has_cookie=cookie is not None):
            raise Rejected(
                403, "This request came from another web site, or your browser hid its origin; open the page here."
            )
        if cookie and _cookie_counts(context):
            await self._authenticate(context, cookie)
        self._check_access(context, context.scope["state"]["authority"])
        self._check_length(context)

    async def _authenticate(self, context: RequestContext, cookie: str) -> None:
        try:
            authority = await self._accounts.session(cookie)
        except StoreRefused:
            if context.is_health_check:  # which says so itself
                return
            raise
        if authority is not None:
            context.scope["state"] |= {"authority": authority, "session": cookie}

    def _check_access(self, context: RequestContext, authority: Authority | None) -> None:
        if context.route_class in (RouteClass.OPEN, RouteClass.ASSET, RouteClass.DOCS, RouteClass.API):
            return
        if authority is None:
            raise _sign_in_first(context)
        if context.route_class is RouteClass.PAGE:
            return
        owner = self._page_owner(context.page_id) if context.page_id else ""
        if owner not in (None, authority.user.id):  # None: the page is closed, and NiceGUI reports that to the browser
            raise Rejected(403, "This page belongs to another user; open it again.")

    def _check_length(self, context: RequestContext) -> None:
        length = context.headers.get("content-length", "0")
        if not context.is_socket and length.isdecimal() and int(length[:20]) > context.body_limit:
            raise Rejected(413, _too_large(context))

    async def _forward(self, context: RequestContext, receive: Receive, response: ResponseWriter) -> None:
        body = LimitedBody(receive, context.body_limit)
        response.body = body
        try:
            await self._app(context.scope, receive if context.is_socket else body.receive, response.send)
        except asyncio.CancelledError:  # the server stops, and no caller needs the cancellation any more
            if not context.is_socket and not response.is_started:
                await response.reject(Rejected(503, "The server is stopping; try again in a moment."), receive)
        except Exception:
            if not body.is_exceeded and not context.scope["state"].get("is_reported"):
                raise
        if body.is_exceeded and not response.is_started:
            await response.reject(Rejected(413, _too_large(context)), receive)


class LimitedBody:
    """The body of a request, whose size is limited while it is received."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0

    @property
    def is_exceeded(self) -> bool:
        return self._size > self._limit

    async def receive(self) -> Message:
        """Return the next message. Raises `TooLarge` above the limit."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self.is_exceeded:
            raise TooLarge
        return message


class ResponseWriter:
    """Sends the response with the headers of its route class."""

    def __init__(self, context: RequestContext, send: Send) -> None:
        self._context = context
        self._send = send
        self.is_started = False
        self.body: LimitedBody | None = None

    async def send(self, message: Message) -> None:
        """Forward the app's response, unless the body of the request was too large."""
        if self.body and self.body.is_exceeded and not self.is_started:
            return
        await self._send_with_headers(message)

    async def reject(self, rejected: Rejected, receive: Receive) -> None:
        """Send the response of a rejection. A WebSocket handshake fails with 403."""
        if self._context.is_socket:
            await self._send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        await _rejection(self._context, rejected)(self._context.scope, receive, self._send_with_headers)

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            _add_headers(self._context, MutableHeaders(raw=message.setdefault("headers", [])))
        await self._send(message)


def _secure(scope: Scope) -> dict[str, str]:
    return {"scheme": "wss" if scope["type"] == "websocket" else "https"}


def _may_change(context: RequestContext, *, has_cookie: bool) -> bool:
    if context.origin_kind is OriginKind.OWN or context.has_token:
        return True
    if context.route_class is not RouteClass.API:
        return False
    return context.origin_kind is OriginKind.ALLOWED or (context.origin_kind is OriginKind.ABSENT and not has_cookie)


def _cookie_counts(context: RequestContext) -> bool:
    if context.route_class is RouteClass.ASSET or context.has_token:
        return False
    return context.origin_kind in (OriginKind.OWN, OriginKind.ABSENT) or (
        context.origin_kind is OriginKind.FOREIGN and context.is_navigation
    )


def _sign_in_first(context: RequestContext) -> Rejected:
    wants_page = "text/html" in context.headers.get("accept", "")
    if (
        context.is_socket
        or context.route_class is not RouteClass.PAGE
        or context.scope["method"] != "GET"
        or not wants_page
    ):
        return Rejected(401, "You are not signed in, or your session has ended; sign in again.")
    query = context.scope["query_string"].decode("latin-1")
    address = context.scope["path"] + (f"?{query}" if query else "")
    return Rejected(303, location="/login" if address == "/" else f"/login?next={quote(address, safe='/')}")


def _too_large(context: RequestContext) -> str:
    limit = MAX_BYTES if context.body_limit == MAX_UPLOAD_BYTES else context.body_limit
    shown = f"{limit // MIB} MiB" if limit >= MIB else f"{limit // 1024} KiB"
    return f"The request is too large; the limit here is {shown}."


def _rejection(context: RequestContext, rejected: Rejected) -> Response:
    if rejected.location is not None:
        return RedirectResponse(rejected.location, 303)
    if rejected.status == 204:
        return Response(status_code=204)
    if rejected.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return error_response(Request(context.scope), rejected.status, rejected.sentence)
    headers = {"WWW-Authenticate": "Bearer"} if rejected.status == 401 else None
    if context.route_class is RouteClass.API:
        return JSONResponse({"detail": rejected.sentence}, rejected.status, headers)
    return PlainTextResponse(rejected.sentence, rejected.status)


def _add_headers(context: RequestContext, headers: MutableHeaders) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Referrer-Policy"] = "same-origin"
    if policy := CONTENT_POLICY.get(context.route_class):
        nonce = context.scope["state"]["csp_nonce"]
        headers["Content-Security-Policy"] = policy.format(nonce=nonce, closed=CLOSED)
    if context.route_class is not RouteClass.ASSET:
        headers["Cache-Control"] = "no-store"  # whatever the route says: nothing private stays in a browser's cache
    if context.scope["scheme"] == "https":
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if context.route_class is RouteClass.API:
        _add_cors_headers(context, headers)


def _add_cors_headers(context: RequestContext, headers: MutableHeaders) -> None:
    headers.add_vary_header("Origin")
    if context.origin_kind is not OriginKind.ALLOWED:
        return
    headers["Access-Control-Allow-Origin"] = context.headers["origin"]
    headers["Access-Control-Expose-Headers"] = "Retry-After, Content-Disposition"
    if context.is_preflight:
        headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Idempotency-Key"
        headers["Access-Control-Max-Age"] = "600"
