"""The process of one video where the system cannot fork: its task comes on stdin, its report goes to stdout."""

from __future__ import annotations

import os
import sys
import threading

from backend.processors.forkserver import find_by_name
from backend.processors.sandbox import close_other_descriptors, run_task, start_session


def main(find: str) -> None:
    """Work on one video and exit. Exits at once when stdin closes: the server has exited or ends this process."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if sys.platform != "win32":
        start_session(os.getppid())
        close_other_descriptors(incoming.fileno(), outgoing.fileno())
    raw_task = incoming.readline()
    exit_when_closed(incoming.fileno())
    run_task(raw_task, outgoing, find_by_name(find))
    outgoing.close()
    os._exit(0)


def exit_when_closed(descriptor: int) -> None:
    """Exit this process as soon as the other side closes the descriptor, also in the middle of its work."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            continue
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
