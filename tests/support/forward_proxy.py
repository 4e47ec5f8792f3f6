"""A company's proxy: it leads every request and every tunnel to one server, and remembers what was asked of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import urlsplit

PIECE_BYTES = 65_536


@dataclass
class ForwardProxy:
    """The address of the proxy, and the first lines of what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def forward_proxy(port: int, *, refusal: bytes = b"") -> Iterator[ForwardProxy]:
    """Run a proxy that leads to this port of the machine; with a `refusal` it answers that to everything."""
    proxy = ForwardProxy()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n" not in head:
                head += self.request.recv(PIECE_BYTES)
            first, _, rest = head.partition(b"\r\n")
            proxy.asked.append(first.decode())
            if refusal:
                self.request.sendall(refusal)
                return
            with socket.create_connection(("127.0.0.1", port)) as server:
                method, target, version = first.decode().split()
                if method == "CONNECT":
                    self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    parts = urlsplit(target)
                    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
                    server.sendall(f"{method} {path} {version}\r\n".encode() + rest)
                back = Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                _pump(self.request, server)
                back.join()

    class Server(ThreadingTCPServer):
        allow_reuse_address, daemon_threads, block_on_close = True, True, False

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        proxy.url = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield proxy
        finally:
            server.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
