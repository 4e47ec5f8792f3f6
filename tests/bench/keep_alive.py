"""What one keep-alive line costs: `python -m tests.bench.keep_alive [rounds]`.

Each round asks the same question one after the other on one connection of each server, in alternating order: the
program's `/healthz`, and a bare FastAPI route behind h11, httptools and the program's own HTTP protocol. Shows the
milliseconds of an answer and the answers for each second of the server's processor time, the best of the rounds.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bare_server import OURS, PATH
from tests.bench.measure import cpu_seconds, load, row
from tests.support.servers import ServerProcess, running, serving

ROUNDS = 7
ANSWERS = 50  # timed; without TCP_NODELAY each would take 40 ms more
COUNTED = 1_000  # for the processor time
AIM = 10.0
WIDTHS = (28, 12, 16)


def ask(line: socket.socket, request: bytes, times: int) -> float:
    """Send the request so often, each after the last answer; return the seconds."""
    began = time.perf_counter()
    for _ in range(times):
        line.sendall(request)
        answer = line.recv(4096)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += line.recv(4096)
    return time.perf_counter() - began


def measure(server: ServerProcess, path: str) -> tuple[float, float]:
    """Return the seconds of 50 answers, and the answers for each second of the server's processor time."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        ask(line, request, ANSWERS)
        seconds, before = ask(line, request, ANSWERS), cpu_seconds(server.pid)
        ask(line, request, COUNTED)
        return seconds, COUNTED / (cpu_seconds(server.pid) - before)


def main(rounds: int) -> None:
    """Print both figures of each server, and the program's time beside the bare app's."""
    print(load())
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        servers: dict[str, tuple[ServerProcess, str]] = {
            f"bare app, {kind}": (stack.enter_context(serving("tests.bench.bare_server", kind)), PATH)
            for kind in ("h11", "httptools", OURS)
        }
        servers["program, /healthz"] = (stack.enter_context(running(Path(directory))), "/healthz")
        best = {name: (float("inf"), 0.0) for name in servers}
        for number in range(rounds):
            for name in servers if number % 2 else reversed(servers):
                seconds, rate = measure(*servers[name])
                best[name] = (min(best[name][0], seconds), max(best[name][1], rate))
    row("one line", "ms an answer", "answers/CPU s", widths=WIDTHS)
    for name, (seconds, rate) in best.items():
        row(name, f"{seconds / ANSWERS * 1000:.2f}", f"{rate:,.0f}", widths=WIDTHS)
    ratio = best["program, /healthz"][0] / best[f"bare app, {OURS}"][0]
    print(f"the program takes {ratio:.1f} x as long as the bare app (aim: at most {AIM:.0f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
