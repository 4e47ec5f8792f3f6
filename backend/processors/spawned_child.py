"""A process for one video that was started rather than forked: its task on stdin, its report on stdout."""

from __future__ import annotations

import os
import sys
import threading

from backend.processors.forkserver import find_by_name
from backend.processors.sandbox import become_session, keep_only, work


def main(find: str) -> None:
    """Work on one video and exit; ends at once when stdin does: the server is dead or has lost interest."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if sys.platform != "win32":
        become_session(os.getppid())
        keep_only(incoming.fileno(), outgoing.fileno())
    raw_task = incoming.readline()
    end_with(incoming.fileno())
    work(raw_task, outgoing, find_by_name(find))
    outgoing.close()
    os._exit(0)


def end_with(descriptor: int) -> None:
    """Exit this process when the other side closes the descriptor, whatever it is doing then."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            continue
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
