"""The web side of the backend: one FastAPI app with the routes, the progress socket and the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from backend import VERSION
from backend.api import (
    channels,
    control,
    jobs,
    many,
    metrics,
    notifications,
    operations,
    problems,
    reports,
    session,
    stats,
    videos,
)
from backend.api.assets import AssetCache
from backend.api.docs import add_docs
from backend.api.errors import add_catch_all, add_error_handlers
from backend.api.openapi import add_schemas
from backend.api.progress_socket import ProgressSockets, router_of
from backend.api.security import SecurityMiddleware, is_fixed_asset
from backend.api.sending import DirectSender
from backend.app import Backend, running

ROUTERS = (
    *(session.router, jobs.router, videos.router, control.router, reports.router),
    *(operations.router, stats.router, metrics.router, notifications.router, channels.router),
    *(problems.router, many.router),
)
PageOwner = Callable[[str], str | None]


class SecuredApp(FastAPI):
    """A FastAPI app inside the security middleware, which no other middleware or mount can precede."""

    def __init__(self, backend: Backend, page_owner: PageOwner, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.state.backend = backend
        self._page_owner = page_owner

    def build_middleware_stack(self) -> ASGIApp:
        backend: Backend = self.state.backend
        app = AssetCache(super().build_middleware_stack(), is_fixed_asset)
        return SecurityMiddleware(
            app, settings=backend.settings, accounts=backend.accounts, page_owner=self._page_owner
        )


def build_app(backend: Backend, page_owner: PageOwner = lambda _: None) -> FastAPI:
    """Return the app with all of the backend's routes; pages may be mounted behind them.

    `page_owner` returns the user ID of an open page, None if there is no such page.
    """
    direct = DirectSender(backend.hub.wait_past)
    sockets = ProgressSockets(backend.accounts, backend.queries, direct, backend.settings, backend.clock)
    backend.metrics.watched_by(lambda: sockets.number)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(sockets.run(), "socket check"), running(direct.run(), "direct sending"):
            yield

    app = SecuredApp(
        backend,
        page_owner,
        title="Progress Dashboard",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    add_error_handlers(app)
    for router in (*ROUTERS, router_of(sockets)):
        app.include_router(router)
    add_schemas(app)
    add_docs(app)
    add_catch_all(app)
    return app
