"""The program without its pages.

The layers, from the bottom: `clock`, `errors`, `settings`, `logs`; `jobs` (what a job is); `auth`; then `store` (all
SQL), `hub` (the tick), `client` (what a follower knows), `media`, `demo`, `processors` (video work), `executors` (what
makes jobs run); above them `manager` (the one door), `accounts`, `work`, `retention`, `csv_files`; then `app` (builds
and starts it all) and `api` (HTTP and WebSocket). A lower one never imports a higher one; the test command holds it.

What other programs use is imported when asked for, so that a video's process does not load the whole house.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.app import Backend, open_backend
    from backend.settings import Settings

from progress_dashboard.version import VERSION

__all__ = ["VERSION", "Backend", "Settings", "open_backend"]
_HOMES = {"Backend": "backend.app", "open_backend": "backend.app", "Settings": "backend.settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
