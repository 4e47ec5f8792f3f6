"""Loads what the program imports, in the process that forks it (`tests.support.forked_python`)."""

from __future__ import annotations

from importlib import import_module

from tests.support.all_modules import import_all
from ui.cli.loading import leave_out, without

LATE = (  # what others import when it is needed
    *("alembic.command", "alembic.autogenerate", "nicegui.ui_run_with", "nicegui.elements.upload", "pygments.lexers"),
    *("fastapi.middleware.gzip", "uvicorn.lifespan.on", "tomllib", "anyio._backends._asyncio"),
)
leave_out("httpx._main")  # as the program does
with without("aiohttp"):
    import_module("nicegui.ui")
import_all("ui", "backend")
for name in LATE:
    import_module(name)
