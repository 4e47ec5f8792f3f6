"""The process that forks one child per video, with FFmpeg and the processors already loaded: milliseconds each.

The standard library's fork server would start again with the server's whole environment after a crash, import the main
module anew, and leave a resource tracker; this one holds no secret, and ends, with all children, when its control
socket closes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import struct
from enum import IntEnum
from importlib import import_module

from backend.processors import BUILT_IN
from backend.processors.sandbox import Find, become_session, keep_only, work

RECORD = struct.Struct("!BIi")
ON_FIRST_USE = ("av.subtitles.stream", "resource")  # what each child would load for itself, in 3 ms
PRELOADED = ("backend.processors.inspection", *ON_FIRST_USE, *BUILT_IN.values())


class RecordKind(IntEnum):
    """A record's meaning; its number is the server's name for a child, its value a signal or a wait status."""

    READY = 0
    FORK = 1
    SIGNAL = 2
    DIED = 3
    NOT_FORKED = 4


def find_by_name(dotted: str) -> Find:
    """The function `module:name` that turns a processor's name into the processor; `ChildRunner`'s maker chose it."""
    module, _, name = dotted.partition(":")
    found: Find = getattr(import_module(module), name)
    return found


def serve(control_descriptor: int, dotted: str) -> None:
    """Fork a child for each FORK record, until the control socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    find = find_by_name(dotted)
    for module in PRELOADED:
        import_module(module)
    gc.freeze()  # the children share what is loaded; a collection would copy it
    with socket.socket(fileno=control_descriptor) as control:
        server = _Server(control, find)
        try:
            server.run()
        finally:
            server.end_all()


class _Server:
    def __init__(self, control: socket.socket, find: Find) -> None:
        self._control = control
        self._find = find
        self._pids: dict[int, int] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> None:
        self._tell(RecordKind.READY, 0, 0)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._bury()
                elif not self._obey():
                    return

    def end_all(self) -> None:
        for pid in self._pids.values():
            _signal(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _obey(self) -> bool:
        try:
            raw, descriptors, _, _ = socket.recv_fds(self._control, RECORD.size, 1)
        except ConnectionResetError:  # the server was killed before it had read everything
            return False
        if len(raw) < RECORD.size:
            return False
        kind, number, value = RECORD.unpack(raw)
        if kind == RecordKind.FORK:
            self._fork(number, descriptors[0])
        elif kind == RecordKind.SIGNAL and number in self._pids:
            _signal(self._pids[number], value)
        return True

    def _fork(self, number: int, channel: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(RecordKind.NOT_FORKED, number, error.errno or 0)
        else:
            if pid == 0:
                self._live(parent, channel)
            self._pids[number] = pid
        os.close(channel)

    def _live(self, parent: int, channel: int) -> None:
        """The child's whole life; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            become_session(parent)
            for unneeded in (self._selector, self._control, self._woken, self._waker):
                unneeded.close()
            keep_only(channel)
            with open(channel, "rb", closefd=False) as incoming, open(channel, "wb", closefd=False) as outgoing:
                work(incoming.readline(), outgoing, self._find)
            status = 0
        finally:
            os._exit(status)

    def _bury(self) -> None:
        for number, pid in list(self._pids.items()):
            buried, status = os.waitpid(pid, os.WNOHANG)
            if buried:
                del self._pids[number]
                with contextlib.suppress(ProcessLookupError, PermissionError):  # what it started dies with it
                    os.killpg(pid, signal.SIGKILL)
                self._tell(RecordKind.DIED, number, status)

    def _tell(self, kind: RecordKind, number: int, value: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the loop sees the end of the socket
            self._control.sendall(RECORD.pack(kind, number, value))


def _signal(pid: int, number: int) -> None:
    """To the child and to what it started; it is not buried yet, so the numbers are still its own."""
    os.kill(pid, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no session of its own yet
        os.killpg(pid, number)
