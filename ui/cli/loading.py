"""Imports without libraries that are only there for a part that this program does not use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def leave_out(module: str) -> None:
    """Let every import find this module missing from now on, unless it is there already."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]


@contextmanager
def without(module: str) -> Iterator[None]:
    """Let what is imported meanwhile find this module missing; afterwards it can be imported as usual."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
