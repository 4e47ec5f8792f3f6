"""The program without its pages. README.md names the layers; import-linter holds them.

The public names are imported on first use, so that the process of a video does not load the whole program.
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
