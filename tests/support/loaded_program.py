"""Loads what the program imports, in the process that forks it (`tests.support.forked_python`)."""

from __future__ import annotations

import importlib
import pkgutil

from ui.cli.loading import leave_out, without

leave_out("httpx._main")  # as the program does
with without("aiohttp"):
    importlib.import_module("nicegui.ui")
PACKAGES = ("ui.pages", "ui.components", "backend.engine")
LATE = (  # what is imported when it is needed
    *("alembic.command", "alembic.autogenerate", "nicegui.ui_run_with", "nicegui.elements.upload", "pygments.lexers"),
    *("fastapi.middleware.gzip", "uvicorn.lifespan.on", "tomllib", "anyio._backends._asyncio"),
    *("ui.cli.serve", "ui.cli.worker", "backend.store.commit", "backend.store.postgres"),
)
for package in map(importlib.import_module, PACKAGES):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
for name in LATE:
    importlib.import_module(name)
