"""The native window: a separate process that shows the dashboard until the user closes it."""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import sys

from backend.errors import CannotStart

TITLE, WIDTH, HEIGHT = "Progress", 1440, 900


def require_window() -> None:
    """Raise `CannotStart` if a native window is not possible: packages are missing, or there is no screen."""
    needed = ["webview"] if sys.platform != "linux" else ["webview", "qtpy", "PySide6"]
    if any(importlib.util.find_spec(name) is None for name in needed):
        install = "pip install 'nicegui[native]' pyside6 qtpy"
        raise CannotStart(f"A native window needs more packages: run `{install}` and start again.")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise CannotStart("There is no screen for a native window; start without --native and open the address.")


async def show_window(address: str) -> None:
    """Show `address` in a window, and return after it is closed.

    The address is a sign-in link, so it is passed through a pipe, never on a command line.
    """
    window = multiprocessing.get_context("spawn").Process(target=_show, args=(address,), name="window", daemon=True)
    window.start()
    try:
        await asyncio.get_running_loop().run_in_executor(None, window.join)
    finally:
        window.terminate()


def _show(address: str) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("QT_API", "pyside6")
        if os.geteuid() == 0:
            os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = "--no-sandbox"  # Chromium refuses to run as root otherwise
    import webview

    webview.create_window(TITLE, address, width=WIDTH, height=HEIGHT)
    webview.start(gui="qt" if sys.platform == "linux" else None)
