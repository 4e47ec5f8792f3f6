"""The process that forks one child per video, with FFmpeg and the processors already loaded: milliseconds each.

After a crash, the fork server of the standard library would restart with the server's whole environment, import the
main module again, and leave a resource tracker. This one holds no secret, and exits with all its children when its
control socket closes.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import selectors
import signal
import socket
import struct
import time
from enum import IntEnum
from importlib import import_module
from typing import NoReturn

from backend.processors import BUILT_IN
from backend.processors.sandbox import Find, close_other_descriptors, run_task, start_session

RECORD = struct.Struct("!BIi")
LOADED_ON_FIRST_USE = ("av.subtitles.stream", "resource")  # each child would otherwise load them, in 3 ms
PRELOADED = ("backend.processors.inspection", *LOADED_ON_FIRST_USE, *BUILT_IN.values())
KERNEL_SECONDS = 2.0  # after the alarm, by which the kernel ends this process, if it could not do so itself


class RecordKind(IntEnum):
    """The meaning of a record. Its number is the server's name for a child, its value a signal or a wait status.

    The value of an ALARM: the milliseconds within which the next one has to come.
    """

    READY = 0
    FORK = 1
    SIGNAL = 2
    EXITED = 3
    NOT_FORKED = 4
    ALARM = 5


def find_by_name(dotted: str) -> Find:
    """Import the function `module:name` that the `ChildRunner` was created with. It returns the processor of a name."""
    module, _, name = dotted.partition(":")
    found: Find = getattr(import_module(module), name)
    return found


def serve(control_descriptor: int, dotted: str) -> None:
    """Fork a child for each FORK record until the control socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    find = find_by_name(dotted)
    for module in PRELOADED:
        import_module(module)
    gc.freeze()  # the children share the loaded modules; a collection would copy their pages
    with socket.socket(fileno=control_descriptor) as control:
        server = _Server(control, find)
        try:
            server.run()
        finally:
            server.kill_all()


class _Alarm:
    """Rings when a worker was not heard of in time: it is frozen, and cannot end its children itself.

    Children have it here and not each for itself, because a library that holds the interpreter for long could not set
    it again there. Should this process hang, too, the kernel ends it by a timer, and its children with it (Linux).
    """

    def __init__(self) -> None:
        self._rings_at: float | None = None
        self.has_rung = False

    def set(self, milliseconds: int) -> None:
        """Ring in so many milliseconds, unless it is set again before."""
        self.has_rung = False
        self._rings_at = time.monotonic() + milliseconds / 1000
        signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000 + KERNEL_SECONDS)

    @property
    def seconds_left(self) -> float | None:
        """The time until it rings; None if it is not set."""
        return None if self._rings_at is None else max(0.0, self._rings_at - time.monotonic())

    def rings(self) -> bool:
        """Return True once, when the time is over."""
        if self._rings_at is None or time.monotonic() < self._rings_at:
            return False
        self._rings_at, self.has_rung = None, True
        return True

    @staticmethod
    def disarm() -> None:
        """Take the kernel's timer back, because the children have been ended."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Server:
    def __init__(self, control: socket.socket, find: Find) -> None:
        self._control = control
        self._find = find
        self._alarm = _Alarm()
        self._pids: dict[int, int] = {}
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()
        self._wakeup_reader.setblocking(False)
        self._wakeup_writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._wakeup_reader, selectors.EVENT_READ)

    def run(self) -> None:
        self._send(RecordKind.READY, 0, 0)
        while True:
            ready = self._selector.select(self._alarm.seconds_left)
            if self._alarm.rings():
                self._signal_all()
                self._alarm.disarm()
            for key, _ in ready:
                if key.fileobj is self._wakeup_reader:
                    self._wakeup_reader.recv(4096)
                    self._reap()
                elif not self._handle_request():
                    return

    def kill_all(self) -> None:
        self._signal_all()
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _signal_all(self) -> None:
        for pid in self._pids.values():
            _send_signal(pid, signal.SIGKILL)

    def _handle_request(self) -> bool:
        """Read one record and do what it requests. Return False if the server has closed the socket or has exited."""
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
            _send_signal(self._pids[number], value)
        elif kind == RecordKind.ALARM:
            self._alarm.set(value)
        return True

    def _fork(self, number: int, channel: int) -> None:
        parent = os.getpid()
        try:
            if self._alarm.has_rung:  # what was asked for before the freeze
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            pid = os.fork()
        except OSError as error:
            self._send(RecordKind.NOT_FORKED, number, error.errno or 0)
        else:
            if pid == 0:
                self._child_main(parent, channel)
            self._pids[number] = pid
        os.close(channel)

    def _child_main(self, parent: int, channel: int) -> NoReturn:
        """Run one task in the child and exit."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            start_session(parent)
            for unneeded in (self._selector, self._control, self._wakeup_reader, self._wakeup_writer):
                unneeded.close()
            close_other_descriptors(channel)
            with open(channel, "rb", closefd=False) as incoming, open(channel, "wb", closefd=False) as outgoing:
                run_task(incoming.readline(), outgoing, self._find)
            status = 0
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Report the children that have exited, and kill the processes that they had started."""
        for number, pid in list(self._pids.items()):
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                del self._pids[number]
                with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
                    os.killpg(pid, signal.SIGKILL)
                self._send(RecordKind.EXITED, number, status)

    def _send(self, kind: RecordKind, number: int, value: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the main loop notices the end of the socket
            self._control.sendall(RECORD.pack(kind, number, value))


def _send_signal(pid: int, number: int) -> None:
    """Signal the child and the processes that it started. It is not reaped yet, so the IDs are still its own."""
    os.kill(pid, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no session of its own yet
        os.killpg(pid, number)
