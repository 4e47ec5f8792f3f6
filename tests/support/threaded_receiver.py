"""A receiver of webhooks in a thread of the test, whose own event loop may be a browser's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/T0AB/B1CD/xoxo-not-to-be-shown"


@dataclass
class ThreadedReceiver:
    """What came, in order; `status` is its answer to the next ones."""

    url: str = ""
    status: int = 204
    bodies: list[Mapping[str, Any]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[ThreadedReceiver]:
    """Run a receiver on a free port of this machine."""
    taken = ThreadedReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(taken.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    taken.url = f"http://127.0.0.1:{server.server_address[1]}{SECRET_PATH}"
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
