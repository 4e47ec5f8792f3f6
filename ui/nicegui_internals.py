"""All code that depends on internals of NiceGUI: its page template, its sockets, and the broadcast over its rooms.

NiceGUI is pinned to one minor version. At the start the members used here are checked. Without those of the broadcast
the plain way serves, with one warning. Without those that keep the pages of users apart the program does not start.

NiceGUI trusts any socket that knows a page's ID, once, at the handshake. Here every message has to come from a
socket whose own session is valid now and belongs to the user that the page was built for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol
from urllib.parse import parse_qs

import nicegui
from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from jinja2 import BaseLoader, Environment
from nicegui import Client, core, ui
from nicegui.client import templates
from nicegui.dependencies import libraries
from nicegui.element import Element
from starlette.types import Receive, Scope, Send

from backend.accounts.accounts import Accounts
from backend.clock import Clock, repeat
from backend.domain.auth import Authority, User
from backend.errors import CannotStart, StoreRefused

log = logging.getLogger(__name__)
NAMESPACE = "/"
EVENT = "jobs"
MESSAGE_EVENT = "42"  # how Engine.IO and Socket.IO begin a message with an event
MAX_WAITING = 8  # frames for a page that does not keep up
LOST: Mapping[str, Any] = {"prev": -1, "snapshot": False}  # follows on no frame: the page has to ask what it missed
NOBODY = ""
CLOSE_SECONDS = 1.0
CHECK_SECONDS = 1.0
SAY_SECONDS = 5.0  # between two sentences on one page about what the store refuses
SIGNED = 'nonce="{{ request.state.csp_nonce }}"'
PRELOADED = """{% for key in library_keys() %}
    <link rel="modulepreload" href="{{ prefix | safe }}/_nicegui/{{ version }}/libraries/{{ key }}" />
    {% endfor %}
  </head>"""
HANDLERS = ("connect", "handshake", "event", "javascript_response", "ack", "log")
SECURITY_MEMBERS = (
    *("client.templates.env.loader", "Client.instances", "core.app.exception_handlers"),
    *("core.sio.handle_request", "core.sio.handlers", "core.sio.environ", "core.sio.get_environ"),
    *("core.sio.disconnect", "core.sio.manager.sid_from_eio_sid", "core.sio.eio.disconnect"),
    *("core.sio.eio.ping_interval", "core.sio.eio.ping_timeout"),
)
BROADCAST_MEMBERS = (
    *("core.sio.enter_room", "core.sio.leave_room", "core.sio.packet_class.json", "core.sio.environ"),
    *("core.sio.manager.get_participants", "core.sio.manager.eio_sid_from_sid"),
    *("core.sio.eio.sockets", "core.sio.eio.send"),
)


def missing_members(names: Iterable[str], root: object = nicegui) -> list[str]:
    """Return the dotted names that `root` does not have."""
    return [name for name in names if not _has(root, name)]


def require_security_members(root: Any = nicegui) -> None:
    """Raise `CannotStart` if `root` lacks what keeps the pages of users apart."""
    missing = missing_members(SECURITY_MEMBERS, root) or [
        f"the handler {name}" for name in HANDLERS if name not in root.core.sio.handlers.get(NAMESPACE, {})
    ]
    if missing:
        raise CannotStart(
            f"The installed NiceGUI {nicegui.__version__} lacks {', '.join(missing)}, without which pages are not "
            "safe; install the version that pyproject.toml names."
        )


# The page template, and the nonce of its scripts


class SigningLoader(BaseLoader):
    """A template loader that gives the template's own scripts the response's nonce, and loads all of them at once.

    It does so in the template, not in the response: a script that came in with data must not get the nonce. Without
    `PRELOADED` the browser finds the scripts that scripts import one after the other.
    """

    def __init__(self, loader: BaseLoader) -> None:
        self._loader = loader

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, name, is_fresh = self._loader.get_source(environment, template)
        signed = source.replace("</head>", PRELOADED).replace("<script", f"<script {SIGNED}")
        return signed.replace('<link rel="modulepreload"', f'<link rel="modulepreload" {SIGNED}'), name, is_fresh


def sign_scripts() -> None:
    """Let NiceGUI's page template carry `request.state.csp_nonce`. Doing it twice changes nothing."""
    loader = templates.env.loader
    templates.env.globals["library_keys"] = lambda: tuple(libraries)
    if isinstance(loader, BaseLoader) and not isinstance(loader, SigningLoader):
        templates.env.loader = SigningLoader(loader)
        if templates.env.cache is not None:
            templates.env.cache.clear()


# Whose page it is


def user_of(client: Client) -> User | None:
    """Return the user of a page, with the role that the store gave last; None for a page built for nobody."""
    newest: User | None = client.storage.get("user")
    if newest is not None:
        return newest
    authority: Authority | None = getattr(client.request.state, "authority", None)
    return authority.user if authority else None


def page_owner(client_id: str) -> str | None:
    """Return the user ID of an open page; None if there is no such page."""
    client = Client.instances.get(client_id)
    if client is None:
        return None
    user = user_of(client)
    return user.id if user else NOBODY


# The guard before NiceGUI's sockets


def guard_sockets(accounts: Accounts) -> None:
    """Put a guard before NiceGUI's socket handlers, and leave its errors to the app around it. Call before serving."""
    present = core.sio.handle_request
    guard = SocketGuard(
        accounts,
        serve=getattr(present, "serve", present),  # an earlier guard is replaced
        handlers=getattr(present, "handlers", None) or dict(core.sio.handlers[NAMESPACE]),
    )
    core.sio.handle_request = guard
    core.sio.handlers[NAMESPACE].update(guard.guarded())
    core.sio.eio.cors_allowed_origins = _is_own_origin
    core.app.exception_handlers.update({404: _leave_to_the_app, Exception: _leave_to_the_app})


def set_page_heartbeat(silence_seconds: float) -> None:
    """Let a page and the server notice within this time that the other one is silent. Call before serving."""

    def set_intervals() -> None:
        core.sio.eio.ping_interval, core.sio.eio.ping_timeout = silence_seconds * 2 / 3, silence_seconds / 3

    core.app.on_startup(set_intervals)  # NiceGUI sets its own values first


async def close_pages(who: str) -> None:
    """Close the pages of a user (by ID) or of a session (by key). They come back only after signing in."""
    await _close(
        engine_id for engine_id, authority in _authorities().items() if who in (authority.user.id, authority.key)
    )


class SessionWatch:
    """Closes the pages whose session has ended, or whose user was disabled or has another role."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def run_once(self) -> None:
        """Check all open sockets with one read."""
        authorities = _authorities()
        if authorities:
            valid = await self._accounts.still_valid(list({a.key: a for a in authorities.values()}.values()))
            await _close(engine_id for engine_id, authority in authorities.items() if authority.key not in valid)

    async def run(self) -> None:
        """Check every second, until cancelled."""
        await repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="session check")


@dataclass(frozen=True)
class SocketGuard:
    """Stands before NiceGUI's transport (`serve`) and its `handlers`. What it knows of a socket is in its environment.

    Connecting, and every event, asks the store; the messages that start nothing rely on its last answer.
    """

    accounts: Accounts
    serve: Callable[[Scope, Receive, Send], Awaitable[Any]]
    handlers: Mapping[str, Callable[..., Any]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve a request of a transport; nobody writes into another user's socket."""
        engine_id = parse_qs(scope["query_string"].decode("latin-1")).get("sid", [""])[0]
        environ = core.sio.environ.get(engine_id)
        if environ is None or _user_id(environ["asgi.scope"]) == _user_id(scope):
            return await self.serve(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return await PlainTextResponse("This connection belongs to another user.", 403)(scope, receive, send)

    def guarded(self) -> dict[str, Callable[..., Any]]:
        """Return the handlers to put in the place of NiceGUI's."""
        passive = {name: self._checked(self.handlers[name]) for name in ("javascript_response", "ack", "log")}
        return {"connect": self._connect, "handshake": self._handshake, "event": self._event, **passive}

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> Any:
        environ["guard.lock"] = asyncio.Lock()
        try:
            user = await self._ask_store(environ)
        except StoreRefused as error:  # the browser tries again
            raise ConnectionRefusedError(error.sentence) from None
        client_id = parse_qs(environ["QUERY_STRING"]).get("client_id", [""])[0]
        if user is None or page_owner(client_id) not in (None, user.id):
            raise ConnectionRefusedError("You are not signed in, or this page belongs to another user; open it again.")
        _take_user({"client_id": client_id}, user)
        return await self.handlers["connect"](sid, environ, auth)

    async def _handshake(self, sid: str, message: object) -> bool:
        environ = core.sio.get_environ(sid)
        try:
            user = await self._ask_store(environ) if environ else None
        except StoreRefused:  # the page is loaded again, and says why nothing is there
            return False
        if user is None or not _take_user(message, user):
            return False
        return bool(await self.handlers["handshake"](sid, message))

    async def _event(self, sid: str, message: object) -> None:
        environ = core.sio.get_environ(sid)
        if environ is None:
            return
        async with environ["guard.lock"]:  # the store may answer out of order, a page's events must not
            try:
                user = await self._ask_store(environ)
            except StoreRefused as error:
                _say(environ, message, error.sentence)
                return
            if user is None:
                await close_pages(environ["asgi.scope"]["state"]["authority"].key)
            elif _take_user(message, user):
                self.handlers["event"](sid, message)

    def _checked(self, handler: Callable[..., Any]) -> Callable[[str, object], None]:
        def check(sid: str, message: object) -> None:
            environ = core.sio.get_environ(sid)
            authority = environ["asgi.scope"]["state"].get("authority") if environ else None
            if authority is not None and _page_of(message, authority.user) is not None:
                handler(sid, message)

        return check

    async def _ask_store(self, environ: Mapping[str, Any]) -> User | None:
        """Return the user of the socket's session as of now."""
        state = environ["asgi.scope"].get("state", {})
        cookie = state.get("session")
        authority = await self.accounts.session(cookie, from_memory=False) if cookie else None
        if authority is None:
            return None
        state["authority"] = authority
        return authority.user


# The broadcast


class Broadcast(Protocol):
    """Sends frames to the elements of several pages, which take them by their method `receive`.

    An element also leaves when its page disconnects. A page that is back has to join again.
    """

    async def join(self, element: Element) -> None:
        """Let the element get all further frames."""

    async def leave(self, element: Element) -> None:
        """Send the element no further frames."""

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Send a frame to all elements."""

    async def send_to(self, element: Element, frame: Mapping[str, Any]) -> None:
        """Send a frame to one element."""


@dataclass(frozen=True)
class DirectWay:
    """How bytes get past the framework.

    `offer` writes frames to the socket of a scope; False, with nothing written, if it does not take them or has no such
    way. `text_frame` makes a frame of a text.
    """

    offer: Callable[[Scope, bytes], bool]
    text_frame: Callable[[bytes], bytes]


class RoomBroadcast:
    """A `Broadcast` over a Socket.IO room: a frame is encoded once for all pages.

    It is written to the transports of the pages at once, without a task and a queue for each, where nothing waits for
    them. Of a page that does not keep up, a few frames wait; then it leaves, with a frame that it has to answer by
    joining again. So a page that does not read costs nothing.
    """

    def __init__(self, room: str, way: DirectWay | None = None) -> None:
        self._room = room
        self._way = way
        self._encoded: tuple[object, str] = None, ""

    async def join(self, element: Element) -> None:
        for sid in _sids(element.client):
            await core.sio.enter_room(sid, self._room)

    async def leave(self, element: Element) -> None:
        for sid in _sids(element.client):
            await core.sio.leave_room(sid, self._room)

    async def send(self, frame: Mapping[str, Any]) -> None:
        members = list(core.sio.manager.get_participants(NAMESPACE, self._room))
        if not members:
            return
        text = self._text(frame)
        whole = self._way.text_frame(text.encode()) if self._way else b""
        for sid, engine_id in members:
            if not self._is_written(engine_id, whole):
                await self._enqueue(sid, engine_id, text)

    async def send_to(self, element: Element, frame: Mapping[str, Any]) -> None:
        text = self._text(frame)
        for sid in _sids(element.client):
            engine_id = core.sio.manager.eio_sid_from_sid(sid, NAMESPACE)
            await core.sio.eio.send(engine_id, text[1:])

    def _text(self, frame: Mapping[str, Any]) -> str:
        """Return the Engine.IO message of a frame. Several pages in a row get the same frame."""
        if self._encoded[0] is not frame:
            self._encoded = frame, MESSAGE_EVENT + core.sio.packet_class.json.dumps([EVENT, frame])
        return self._encoded[1]

    def _is_written(self, engine_id: str, whole: bytes) -> bool:
        """Write a frame past the queue of a page; return False if something waits there, or there is no such way."""
        socket, environ = core.sio.eio.sockets.get(engine_id), core.sio.environ.get(engine_id)
        if self._way is None or socket is None or environ is None or socket.closed or not socket.queue.empty():
            return False
        return self._way.offer(environ["asgi.scope"], whole)

    async def _enqueue(self, sid: str, engine_id: str, text: str) -> None:
        socket = core.sio.eio.sockets.get(engine_id)
        if socket is not None and socket.queue.qsize() >= MAX_WAITING:
            await core.sio.leave_room(sid, self._room)
            text = MESSAGE_EVENT + core.sio.packet_class.json.dumps([EVENT, LOST])
        await core.sio.eio.send(engine_id, text[1:])


class MethodBroadcast:
    """A `Broadcast` by NiceGUI's public means, which encodes a frame once for each page."""

    def __init__(self) -> None:
        self._elements: dict[Element, None] = {}

    async def join(self, element: Element) -> None:
        self._elements[element] = None

    async def leave(self, element: Element) -> None:
        self._elements.pop(element, None)

    async def send(self, frame: Mapping[str, Any]) -> None:
        self._elements = {element: None for element in self._elements if _is_connected(element)}
        for element in self._elements:
            element.run_method("receive", frame)

    async def send_to(self, element: Element, frame: Mapping[str, Any]) -> None:
        element.run_method("receive", frame)


def broadcasts(root: object = nicegui, way: DirectWay | None = None) -> Callable[[str], Broadcast]:
    """Return what makes a broadcast of a name.

    It takes rooms, and the direct way of the sockets that have one, or the plain way if `root` lacks a member that
    rooms need.
    """
    missing = missing_members(BROADCAST_MEMBERS, root)
    if not missing:
        return lambda room: RoomBroadcast(room, way)
    sentence = "this NiceGUI lacks %s; live pages take the plain way, which is slower"
    log.warning(sentence, ", ".join(missing), extra={"action": "broadcast_off"})
    return lambda _: MethodBroadcast()


def _has(root: object, name: str) -> bool:
    try:
        attrgetter(name)(root)
    except AttributeError:
        return False
    return True


def _is_connected(element: Element) -> bool:
    return not element.is_deleted and element.client.has_socket_connection


def _sids(client: Client) -> list[str]:
    """Return the sockets of a page; NiceGUI keeps them in a room named after it."""
    return [sid for sid, _ in core.sio.manager.get_participants(NAMESPACE, client.id)]


def _page_of(message: object, user: User) -> Client | None:
    """Return the open page that a message is about, if it is the user's."""
    client_id = message.get("client_id") if isinstance(message, dict) else None
    client = Client.instances.get(client_id) if isinstance(client_id, str) else None
    return client if client is not None and page_owner(client.id) == user.id else None


def _take_user(message: object, user: User) -> bool:
    """Let the page that a message is about have its user's newest role; False if there is no such page of theirs.

    What a page does by itself goes by that role, too.
    """
    page = _page_of(message, user)
    if page is not None:
        page.storage["user"] = user
    return page is not None


def _say(environ: dict[str, Any], message: object, sentence: str) -> None:
    """Show a sentence on the page that a message came from, but not for each of many messages."""
    authority: Authority | None = environ["asgi.scope"]["state"].get("authority")
    client = _page_of(message, authority.user) if authority else None
    now = asyncio.get_running_loop().time()
    if client is not None and now - environ.get("guard.said_at", -SAY_SECONDS) >= SAY_SECONDS:
        environ["guard.said_at"] = now
        with client:
            ui.notify(sentence, type="negative", multi_line=True)


def _user_id(scope: Scope) -> str:
    authority: Authority | None = scope.get("state", {}).get("authority")
    return authority.user.id if authority else NOBODY


def _authorities() -> dict[str, Authority]:
    """Return the last known authority of each open connection of the transport, by its ID."""
    states = {engine_id: environ["asgi.scope"].get("state", {}) for engine_id, environ in core.sio.environ.items()}
    return {engine_id: state["authority"] for engine_id, state in states.items() if state.get("authority")}


async def _close(engine_ids: Iterable[str]) -> None:
    await asyncio.gather(*(_close_one(engine_id) for engine_id in engine_ids))


async def _close_one(engine_id: str) -> None:
    sid = core.sio.manager.sid_from_eio_sid(engine_id, NAMESPACE)
    if sid is not None:
        await core.sio.disconnect(sid)
    try:
        await asyncio.wait_for(core.sio.eio.disconnect(engine_id), CLOSE_SECONDS)
    except TimeoutError:
        log.info("a closed page does not read", extra={"action": "page_closed"})


def _is_own_origin(origin: str | None, environ: Mapping[str, Any]) -> bool:
    return origin in environ["asgi.scope"].get("state", {}).get("own_origins", ())


async def _leave_to_the_app(_: Request, error: Exception) -> Response:
    raise error
