"""The web side of the backend: one FastAPI app with the routes, the socket and the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from backend import VERSION
from backend.api import control, jobs, operations, session, slots
from backend.api.delivery import DirectDelivery
from backend.api.docs import add_docs
from backend.api.problems import add_catch_all, add_problem_handlers
from backend.api.progress_socket import ProgressSockets, router_of
from backend.app import Backend, running


def build_app(backend: Backend) -> FastAPI:
    """The app with all of the backend's routes; pages may be mounted behind them."""
    direct = DirectDelivery(backend.hub.beyond)
    sockets = ProgressSockets(backend.accounts, backend.manager, direct, backend.settings, backend.clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(sockets.run(), "socket watch"), running(direct.run(), "direct delivery"):
            yield

    app = FastAPI(title="Progress Dashboard", version=VERSION, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.backend = backend
    add_problem_handlers(app)
    routers = (session.router, jobs.router, control.router, slots.router, operations.router, router_of(sockets))
    for router in routers:
        app.include_router(router)
    add_docs(app)
    add_catch_all(app)
    return app
