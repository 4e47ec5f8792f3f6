"""Follow the jobs of a Progress Dashboard from a program.

`ProgressFeed` is the entry point, `ProgressUpdate` is what it yields. Each name is loaded on first use, so that a
program that needs only the words of the protocol does not load the network libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import ReadyState
    from .errors import FeedError, FeedStopped, InvalidArgument
    from .feed import ProgressFeed
    from .mirror import Mirror, OutOfStep
    from .protocol import ProgressUpdate, SenderReport, Status

__all__ = [
    "FeedError",
    "FeedStopped",
    "InvalidArgument",
    "Mirror",
    "OutOfStep",
    "ProgressFeed",
    "ProgressUpdate",
    "ReadyState",
    "SenderReport",
    "Status",
]
_MODULES = {
    "FeedError": "errors",
    "FeedStopped": "errors",
    "InvalidArgument": "errors",
    "Mirror": "mirror",
    "OutOfStep": "mirror",
    "ProgressFeed": "feed",
    "ProgressUpdate": "protocol",
    "ReadyState": "connection",
    "SenderReport": "protocol",
    "Status": "protocol",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
