"""A command of the program: its output as lines, or in a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from tests import ROOT
from tests.support.servers import ServerProcess, environment

HEIGHT = 24
END_SECONDS = 20.0


def start_command(*arguments: str, **settings: object) -> ServerProcess:
    """Start `python main.py …` without a terminal."""
    return ServerProcess("main.py", *arguments, port=0, environment=environment(settings))


class TerminalCommand:
    """A running command in a terminal, with all its output."""

    def __init__(self, process: subprocess.Popen[bytes], master: BinaryIO) -> None:
        self._process = process
        self._master = master
        self._written = b""
        self._more = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def until_shows(self, text: str) -> str:
        """Return the whole output, as soon as it contains this text."""
        with self._more:
            assert self._more.wait_for(lambda: text in self.written, END_SECONDS), self.written
        return self.written

    @property
    def written(self) -> str:
        return self._written.decode(errors="replace")

    def interrupt(self) -> int:
        """Interrupt the command like Ctrl-C, and return its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(END_SECONDS)

    def _listen(self) -> None:
        while read := self._read():
            with self._more:
                self._written += read
                self._more.notify_all()

    def _read(self) -> bytes:
        try:
            return os.read(self._master.fileno(), 65_536)
        except (OSError, ValueError):  # one end is closed
            return b""


@contextmanager
def in_terminal(
    *arguments: str, width: int, variables: dict[str, str], **settings: object
) -> Iterator[TerminalCommand]:
    """Start the command in a terminal with `width` columns. Kills it at the end if it still runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, str(Path("main.py")), *arguments],
        cwd=ROOT,
        env=environment(settings) | {"TERM": "xterm-256color"} | variables,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    with closing(os.fdopen(master, "r+b", buffering=0)) as ours:
        try:
            yield TerminalCommand(process, ours)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
