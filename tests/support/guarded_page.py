"""A server with a page behind the security middleware and the socket guard.

`python -m tests.support.guarded_page PORT DATA_DIR` prints a line with the user for each event that reaches the code of
the page, and logs like the program.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import uvicorn
from fastapi import Depends, FastAPI

from backend.accounts.accounts import Accounts
from backend.api import SecuredApp, session
from backend.api.docs import add_docs
from backend.api.errors import add_catch_all, add_error_handlers
from backend.app import Backend
from backend.clock import SystemClock
from backend.errors import JobNotFound
from backend.logs import configure_logs
from backend.settings import Settings
from tests.support.accounts import SECRET, open_account_store
from tests.support.secured_app import SECRET_OF_A_FAULT


def serve(port: int, data_dir: Path) -> None:
    """Serve until SIGTERM."""
    os.environ["NICEGUI_STORAGE_PATH"] = str(data_dir / "nicegui")
    from nicegui import ui

    from ui.nicegui_internals import guard_sockets, sign_scripts

    with open_account_store(data_dir, SystemClock(), port=port, jwt_secret=SECRET) as account_store:
        app = _app(account_store.settings, account_store.accounts)
        guard_sockets(account_store.accounts)
        sign_scripts()
        _add_page(account_store.settings)
        _add_failing_pages()
        ui.run_with(app, title="Guarded", show_welcome_message=False, tailwind=False, reconnect_timeout=10)
        configure_logs()
        uvicorn.run(
            app,
            port=port,
            log_config=None,
            proxy_headers=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )


def _app(settings: Settings, accounts: Accounts) -> FastAPI:
    from nicegui import Client

    from ui.nicegui_internals import SessionWatch, page_owner

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(SessionWatch(accounts, SystemClock()).run())
        yield
        watch.cancel()

    backend = cast(Backend, SimpleNamespace(settings=settings, accounts=accounts))
    app = SecuredApp(backend, page_owner, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    app.include_router(session.router)
    add_docs(app)

    @app.get("/healthz")
    async def count_pages() -> int:
        return len(Client.instances)

    add_catch_all(app)
    return app


def _add_page(settings: Settings) -> None:
    from nicegui import ui

    from ui.components.shared.connection_banner import ConnectionBanner
    from ui.session import act, current_user, require_user

    async def refuse() -> None:
        raise JobNotFound

    def report(event: str) -> None:
        user = current_user()
        print(f"{event} by {user.name}, admin: {user.is_admin}", flush=True)

    @ui.page("/", dependencies=[Depends(require_user)])
    def page() -> None:
        ConnectionBanner(settings)
        ui.label(f"Signed in as {current_user().name}")
        ui.button("Press", on_click=lambda: report("click"))
        ui.input(on_change=lambda typing: report(f"typed {typing.value}"))
        ui.button("Refused", on_click=lambda: act(refuse()))
        ui.upload(on_upload=lambda: report("upload"), auto_upload=True)


def _add_failing_pages() -> None:
    from nicegui import ui

    from ui.session import require_user

    signed_in = [Depends(require_user)]

    @ui.page("/broken", dependencies=signed_in)
    def broken() -> None:
        raise RuntimeError(SECRET_OF_A_FAULT)

    @ui.page("/broken-late", dependencies=signed_in)
    async def broken_late() -> None:
        await asyncio.sleep(0)
        raise RuntimeError(SECRET_OF_A_FAULT)

    @ui.page("/gone", dependencies=signed_in)
    def gone() -> None:
        raise JobNotFound


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
