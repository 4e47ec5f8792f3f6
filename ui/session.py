"""Whose page it is, what a user does on it, and the watch over NiceGUI's sockets.

NiceGUI takes whoever knows a page's id for its user, once, at the handshake. Here every message has to come from a
socket whose own session is valid now and belongs to the user that the page was built for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote

from fastapi import Depends, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response
from nicegui import Client, context, core, ui
from starlette.types import Receive, Scope, Send

from backend.accounts import Accounts
from backend.auth import Authority, User
from backend.clock import Clock, repeat
from backend.errors import DashboardError, NotSignedIn

log = logging.getLogger(__name__)
T = TypeVar("T")
NAMESPACE = "/"
NOBODY = ""
CLOSING_SECONDS = 1.0
WATCH_SECONDS = 1.0
KEPT_SECONDS = 300


def require_user(request: Request) -> User:
    """The user a page is built for; who is not signed in is sent to the sign-in."""
    authority: Authority | None = getattr(request.state, "authority", None)
    if authority is None:
        wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
        raise HTTPException(303, headers={"Location": f"/login?next={quote(wanted, safe='/')}"})
    return authority.user


page = partial(ui.page, dependencies=[Depends(require_user)], reconnect_timeout=KEPT_SECONDS)
"""As `nicegui.ui.page`, for pages of ours: only who is signed in gets one, and a tab that lost it finds it again."""


def current_user() -> User:
    """The user of the page that is being built or acted on, with the role that the store gave last.

    Raises `NotSignedIn` on a page that was built for nobody.
    """
    user = _user_of(context.client)
    if user is None:
        raise NotSignedIn
    return user


def page_owner(client_id: str) -> str | None:
    """The user id of an open page; None when there is no such page (any more)."""
    client = Client.instances.get(client_id)
    if client is None:
        return None
    user = _user_of(client)
    return user.id if user else NOBODY


async def act(doing: Awaitable[T], said: str | Callable[[T], str] | None = None) -> T | None:
    """Do what the user asked for and say so, or say why not; returns what came of it, None when it was refused.

    `said` may be made of what came of it.
    """
    page = context.client  # what was clicked may be gone when it is done
    try:
        done = await doing
    except DashboardError as error:
        with page:
            ui.notify(error.sentence, type="negative", multi_line=True)
        return None
    if said:
        with page:
            ui.notify(said(done) if callable(said) else said)
    return done


def guard_sockets(accounts: Accounts) -> None:
    """Put a guard before NiceGUI's socket handlers, and leave its errors to the app around it; call before serving."""
    present = core.sio.handle_request
    guard = SocketGuard(
        accounts,
        serve=getattr(present, "serve", present),  # a guard that is there already is replaced
        handlers=getattr(present, "handlers", None) or dict(core.sio.handlers[NAMESPACE]),
    )
    core.sio.handle_request = guard
    core.sio.handlers[NAMESPACE].update(guard.guarded())
    core.sio.eio.cors_allowed_origins = _is_own_origin
    core.app.exception_handlers.update({404: _leave_to_the_app, Exception: _leave_to_the_app})


def set_page_heartbeat(silence_seconds: float) -> None:
    """Let a page and the server notice within this time that the other one is silent; call before serving."""

    def beat() -> None:
        core.sio.eio.ping_interval, core.sio.eio.ping_timeout = silence_seconds * 2 / 3, silence_seconds / 3

    core.app.on_startup(beat)  # NiceGUI sets its own values first


async def kick(who: str) -> None:
    """Close the pages of a user (by id) or of a session (by key); they come back only after signing in."""
    await _close(engine_id for engine_id, held in _authorities().items() if who in (held.user.id, held.key))


class SessionWatch:
    """Closes the pages whose session has ended or was ended, or whose user was disabled or has another role."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def run_once(self) -> None:
        """Look at all open sockets, with one read."""
        held = _authorities()
        if held:
            valid = await self._accounts.still_valid(list({a.key: a for a in held.values()}.values()))
            await _close(engine_id for engine_id, authority in held.items() if authority.key not in valid)

    async def run(self) -> None:
        """Look every second, until cancelled."""
        await repeat(self.run_once, every=WATCH_SECONDS, clock=self._clock, what="session watch")


@dataclass(frozen=True)
class SocketGuard:
    """Stands before NiceGUI's transport (`serve`) and its `handlers`. What it knows of a socket is in its environment.

    Connecting, and every event, asks the store anew; the messages that start nothing go by what it said last.
    """

    accounts: Accounts
    serve: Callable[[Scope, Receive, Send], Awaitable[Any]]
    handlers: Mapping[str, Callable[..., Any]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """A request of a transport; nobody writes into another user's socket."""
        engine_id = parse_qs(scope["query_string"].decode("latin-1")).get("sid", [""])[0]
        environ = core.sio.environ.get(engine_id)
        if environ is None or _user_id(environ["asgi.scope"]) == _user_id(scope):
            return await self.serve(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return await PlainTextResponse("This connection belongs to somebody else.", 403)(scope, receive, send)

    def guarded(self) -> dict[str, Callable[..., Any]]:
        """The handlers to put in the place of NiceGUI's."""
        quiet = {name: self._checked(self.handlers[name]) for name in ("javascript_response", "ack", "log")}
        return {"connect": self._connect, "handshake": self._handshake, "event": self._event, **quiet}

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> Any:
        environ["guard.turn"] = asyncio.Lock()
        user = await self._ask_store(environ)
        client_id = parse_qs(environ["QUERY_STRING"]).get("client_id", [""])[0]
        if user is None or page_owner(client_id) not in (None, user.id):
            raise ConnectionRefusedError("You are not signed in, or this page is somebody else's; open it again.")
        return await self.handlers["connect"](sid, environ, auth)

    async def _handshake(self, sid: str, message: object) -> bool:
        environ = core.sio.get_environ(sid)
        user = await self._ask_store(environ) if environ else None
        if user is None or _page_of(message, user) is None:
            return False
        return bool(await self.handlers["handshake"](sid, message))

    async def _event(self, sid: str, message: object) -> None:
        environ = core.sio.get_environ(sid)
        if environ is None:
            return
        async with environ["guard.turn"]:  # the store may answer out of order, a page's events must not
            user = await self._ask_store(environ)
            if user is None:
                await kick(environ["asgi.scope"]["state"]["authority"].key)
            elif client := _page_of(message, user):
                client.storage["user"] = user
                self.handlers["event"](sid, message)

    def _checked(self, handler: Callable[..., Any]) -> Callable[[str, object], None]:
        def check(sid: str, message: object) -> None:
            environ = core.sio.get_environ(sid)
            held = environ["asgi.scope"]["state"].get("authority") if environ else None
            if held is not None and _page_of(message, held.user) is not None:
                handler(sid, message)

        return check

    async def _ask_store(self, environ: Mapping[str, Any]) -> User | None:
        """The user of the socket's session as of now."""
        state = environ["asgi.scope"].get("state", {})
        cookie = state.get("session")
        authority = await self.accounts.session(cookie) if cookie else None
        if authority is None:
            return None
        state["authority"] = authority
        return authority.user


def _page_of(message: object, user: User) -> Client | None:
    """The open page that a message is about, if it is the user's."""
    client_id = message.get("client_id") if isinstance(message, dict) else None
    client = Client.instances.get(client_id) if isinstance(client_id, str) else None
    return client if client is not None and page_owner(client.id) == user.id else None


def _user_of(client: Client) -> User | None:
    newest: User | None = client.storage.get("user")
    if newest is not None:
        return newest
    held: Authority | None = getattr(client.request.state, "authority", None)
    return held.user if held else None


def _user_id(scope: Scope) -> str:
    held: Authority | None = scope.get("state", {}).get("authority")
    return held.user.id if held else NOBODY


def _authorities() -> dict[str, Authority]:
    """What each open connection of the transport was last known to stand for, by its id."""
    states = {engine_id: environ["asgi.scope"].get("state", {}) for engine_id, environ in core.sio.environ.items()}
    return {engine_id: state["authority"] for engine_id, state in states.items() if state.get("authority")}


async def _close(engine_ids: Iterable[str]) -> None:
    await asyncio.gather(*(_close_one(engine_id) for engine_id in engine_ids))


async def _close_one(engine_id: str) -> None:
    sid = core.sio.manager.sid_from_eio_sid(engine_id, NAMESPACE)
    if sid is not None:
        await core.sio.disconnect(sid)
    try:
        await asyncio.wait_for(core.sio.eio.disconnect(engine_id), CLOSING_SECONDS)
    except TimeoutError:
        log.info("a page that was closed does not read", extra={"action": "page_closed"})


def _is_own_origin(origin: str | None, environ: Mapping[str, Any]) -> bool:
    return origin in environ["asgi.scope"].get("state", {}).get("own_origins", ())


async def _leave_to_the_app(_: Request, error: Exception) -> Response:
    raise error
