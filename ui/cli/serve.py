"""The server of the whole program: backend and pages as one app, in a browser or a native window."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from backend import Backend, Settings, open_backend
from backend.api import build_app
from backend.api.uvicorn_internals import Server, http_protocol, websocket_protocol
from backend.command import command
from backend.descriptors import Descriptors, raise_limit
from backend.errors import CannotStart, DashboardError
from backend.logs import configure_logs
from backend.settings import ADMIN, load_settings, unknown_settings
from progress_dashboard.tasks import first_completed
from ui.cli.data import ADDRESS_FILE, LINK_SECONDS
from ui.cli.loading import without
from ui.cli.window import require_window, show_window

GRACEFUL_SECONDS = 1
BACKLOG = 2048
OPENED_LINK_SECONDS = 60
MAX_MESSAGE_BYTES = 2**20


class ServerFailed(DashboardError):
    """The server stopped because it could not store its data. Its log says why; correct that and start again."""


def serve(
    *, host: str | None, port: int | None, no_browser: bool, data_dir: Path | None, reload: bool, native: bool
) -> None:
    """Serve until Ctrl-C, SIGTERM or the end of the native window. Raises `CannotStart`."""
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    if reload:
        _reload_on_change(host, port, data_dir)
        return
    if native:
        require_window()
    configure_logs()
    raise_limit()
    asyncio.run(_serve(settings, browser=not no_browser, native=native))


async def _serve(settings: Settings, *, browser: bool, native: bool) -> None:
    stop = _stop_signal()
    with open_listener(settings) as listener:
        async with open_backend(settings) as backend:
            await _require_password(backend)
            await _run(backend, stop, listener, browser=browser, native=native)


async def _run(backend: Backend, stop: asyncio.Event, listener: socket.socket, *, browser: bool, native: bool) -> None:
    """Serve until a stop signal, the end of the server or the window, or until the data cannot be stored."""
    server = Server(config_of(backend), Descriptors.of_process(backend.settings.max_running_videos))
    (backend.settings.data_dir / ADDRESS_FILE).write_text(backend.settings.local_url, encoding="utf-8")
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
    welcome = _welcome(backend, server, browser=browser, native=native)
    try:
        await first_completed(
            stop.wait(),
            backend.failure.wait(),
            welcome,
            _watch_sessions(backend),
            _show_refusals(backend),
            asyncio.wait({serving}),
        )
    finally:
        server.should_exit = True
        await asyncio.gather(serving, backend.drain())
    if backend.failure:
        raise ServerFailed(backend.failure.sentence)


def _stop_signal() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


def open_listener(settings: Settings) -> socket.socket:
    """Return a socket that already listens on the address: only that keeps a second server off the port."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise CannotStart(f"{settings.host} is not an address of this machine; choose another with --host.") from None
    # Only with the protocol set does asyncio disable Nagle's algorithm on accepted connections: without it, the second
    # write of an answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except PermissionError:
        listener.close()
        raise CannotStart(
            f"Port {settings.port} may not be used by this account; choose another with --port."
        ) from None
    except OSError:
        listener.close()
        where = f"Port {settings.port} on {settings.host}"
        raise CannotStart(f"{where} is already taken or not available; choose another with --port.") from None
    return listener


async def _require_password(backend: Backend) -> None:
    settings = backend.settings
    if settings.is_loopback:
        return
    admin = await backend.accounts.user(ADMIN)
    if not admin.has_password:
        raise CannotStart(
            "The account admin needs a password before others can reach the server: "
            f"run `{command(f'users passwd admin --data-dir {settings.data_dir}')}`, then start again."
        )


def config_of(backend: Backend) -> uvicorn.Config:
    """Return Uvicorn's configuration for the whole program: routes, progress socket and pages."""
    settings = backend.settings
    return uvicorn.Config(
        _app(backend),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        http=http_protocol(),
        ws=websocket_protocol(direct=settings.direct_sending),
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=settings.heartbeat_interval_seconds,
        ws_ping_timeout=settings.heartbeat_timeout_seconds - settings.heartbeat_interval_seconds,
        ws_per_message_deflate=False,
        limit_concurrency=settings.max_requests_at_once,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


def _app(backend: Backend) -> ASGIApp:
    # NiceGUI reads this when it is imported. Its files hold no credentials, but they are not public either.
    os.environ["NICEGUI_STORAGE_PATH"] = str(backend.settings.data_dir / "nicegui")
    with without("aiohttp"):  # Socket.IO wants it for its client, and it takes a tenth of the start
        from nicegui import ui

    from ui import register
    from ui.nicegui_internals import page_owner, set_page_heartbeat

    app = build_app(backend, page_owner)
    register(backend)
    set_page_heartbeat(backend.settings.page_silence_seconds)
    ui.run_with(
        app,
        title="Progress",
        dark=None,
        language="en-US",
        show_welcome_message=False,
        tailwind=False,
        binding_refresh_interval=None,
    )
    return app


async def _watch_sessions(backend: Backend) -> None:
    from ui.nicegui_internals import SessionWatch

    await SessionWatch(backend.accounts, backend.clock).run()


async def _show_refusals(backend: Backend) -> None:
    from ui.storage_notice import show_refusals

    await show_refusals(backend.journal)


async def _welcome(backend: Backend, server: Server, *, browser: bool, native: bool) -> None:
    """Print the server's address and open it. Returns after the native window is closed, otherwise never."""
    await server.ready.wait()
    admin = await backend.accounts.user(ADMIN)
    base = backend.settings.base_url
    printed = await backend.accounts.make_link(admin, lifetime_seconds=LINK_SECONDS)
    print(f"Dashboard: {base}", f"Sign in:   {base}/link?token={printed}", sep="\n")
    again = command(f"login-link --data-dir {backend.settings.data_dir}")
    print(f"The link works once, within 15 minutes; `{again}` makes another one. Ctrl-C stops the server.")
    print(*(f"Warning: {warning}\n" for warning in _warnings(backend.settings)), sep="", end="", flush=True)
    if not (browser or native):
        await asyncio.Event().wait()
    opened = await backend.accounts.make_link(admin, lifetime_seconds=OPENED_LINK_SECONDS, at_once=True)
    address = f"{base}/link?token={opened}"
    if native:
        await show_window(address)
        return
    with _redirect_file(backend.settings.data_dir, address) as page:
        await asyncio.to_thread(webbrowser.open, page.absolute().as_uri())
        await asyncio.sleep(OPENED_LINK_SECONDS)
    await asyncio.Event().wait()


def _warnings(settings: Settings) -> Iterator[str]:
    """Yield one sentence for each thing that the administrator may not expect."""
    if not settings.is_loopback and not settings.base_url.startswith("https://"):
        yield "plain http is used beyond this machine, so anybody on the network can read it; put a TLS proxy in front."
    if not settings.media.is_dir():
        yield f"the media directory {settings.media.absolute()} does not exist; create it or set DASHBOARD_MEDIA_DIR."
    yield from unknown_settings(os.environ)


@contextmanager
def _redirect_file(data_dir: Path, address: str) -> Iterator[Path]:
    """Write a page that redirects to `address`: every user of the machine could read a link on a command line."""
    page = data_dir / f"open-{os.getpid()}.html"
    page.unlink(missing_ok=True)
    with open(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}"><title>Opening</title>'
        )
    try:
        yield page
    finally:
        page.unlink(missing_ok=True)


def _reload_on_change(host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run the server as a child process, and restart it whenever a file of the program changes."""
    if not Path("main.py").is_file():
        raise CannotStart("--reload needs a checkout of the program; change into it and run `python main.py --reload`.")
    from watchfiles import run_process

    options = {"--host": host, "--port": port, "--data-dir": data_dir}
    given = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
    server = shlex.join([sys.executable, "main.py", "--no-browser", *given])
    run_process("backend", "ui", "main.py", target=server, target_type="command", callback=lambda _: print("Reloading"))
