"""Starts and signals the processes of videos, and waits for their exit: the server's side."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from backend.domain.os_errors import reason_of
from backend.errors import Unavailable
from backend.processors.forkserver import RECORD, RecordKind
from backend.processors.ipc import MAX_LINE_BYTES

NEEDED_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP")  # Python itself may need them
TERM_SECONDS = 0.5  # between SIGTERM and SIGKILL
STOP_SECONDS = 2.0
FULL_SECONDS = 0.002  # before the next request to a fork server that has too much to read


class Stopping(Unavailable):
    """The server is stopping; this video is done after the next start."""


class StarterEnded(Unavailable):
    """The process that starts the video work has ended; try again."""


class NotStarted(Unavailable):
    """No process can be started for a video; try again."""

    @classmethod
    def from_error(cls, error: OSError) -> NotStarted:
        return cls(
            f"No process can be started for a video ({reason_of(error)}); the machine has too few resources left."
        )


Exit = int | Unavailable  # the exit status as in `subprocess` (negative: signal), or the reason why there is none


@dataclass(frozen=True)
class Child:
    """The process of one video, and its exit when that happens."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    exited: asyncio.Future[Exit]
    signal: Callable[[int], None]

    async def end(self, *, has_result: bool) -> None:
        """End the process and return when it has exited. One that has sent its result gets time to exit unsignalled."""
        self.writer.close()
        if has_result and await self._exits_within(TERM_SECONDS):
            return
        self.signal(signal.SIGTERM)
        if not await self._exits_within(TERM_SECONDS):
            self.signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has one signal for both
            await asyncio.wait({self.exited})

    async def _exits_within(self, seconds: float) -> bool:
        done, _ = await asyncio.wait({self.exited}, timeout=seconds)
        return bool(done)


class Launcher(Protocol):
    """A way to get a process for one video."""

    async def start(self) -> None:
        """Prepare for `launch`. Returns before everything is loaded. Raises `Unavailable`."""

    async def launch(self) -> Child:
        """Start a process that waits for its task. Raises `Unavailable`."""

    def set_alarm(self, seconds: float) -> None:
        """End every process in so many seconds, even if this one is frozen by then, unless it is set again before."""

    async def stop(self) -> None:
        """End every process and return when they have exited."""


def python_command(module: str, function: str, *arguments: object) -> list[str]:
    """Return a command line that calls `module.function(*arguments)` in a new Python with the same module paths."""
    paths = [os.path.abspath(path or ".") for path in sys.path]
    call = f"import sys; sys.path[:] = {json.dumps(paths)}; from {module} import {function}; {function}{arguments!r}"
    return [sys.executable, "-I", "-c", call]


def bare_environment() -> dict[str, str]:
    """Return an environment without secrets and settings: only what Python may need to start."""
    return {name: os.environ[name] for name in NEEDED_VARIABLES if name in os.environ}


class ForkLauncher:
    """Starts children of a fork server (`forkserver.serve`), and restarts the fork server after it has exited."""

    def __init__(self, find: str) -> None:
        self._find = find
        self._server: _ForkServer | None = None
        self._starting = asyncio.Lock()
        self._stopped = False
        self._rings_at: float | None = None

    async def start(self) -> None:
        await self._running_server()

    async def launch(self) -> Child:
        return await (await self._running_server()).launch()

    def set_alarm(self, seconds: float) -> None:
        self._rings_at = time.monotonic() + seconds
        if self._server is not None:
            self._server.set_alarm(seconds)

    async def stop(self) -> None:
        self._stopped = True
        if self._server is not None:
            await self._server.stop()

    async def _running_server(self) -> _ForkServer:
        async with self._starting:
            if self._stopped:
                raise Stopping
            if self._server is None or self._server.has_exited:
                try:
                    self._server = await _ForkServer.start(self._find)
                except OSError as error:
                    raise NotStarted.from_error(error) from error
                if self._rings_at is not None:
                    self._server.set_alarm(self._rings_at - time.monotonic())
            return self._server


class _ForkServer:
    """The handle of one fork server: its process, its control socket, and the exits that it reports."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._control = control
        self._reader = reader
        self._writer = writer
        self._exits: dict[int, asyncio.Future[Exit]] = {}
        self._forked = 0
        self._ready = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(), name="fork server")

    @classmethod
    async def start(cls, find: str) -> _ForkServer:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *python_command("backend.processors.forkserver", "serve", theirs.fileno(), find),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=bare_environment(),
                    cwd=Path(sys.prefix).anchor,
                    start_new_session=True,
                )
                reader, writer = await asyncio.open_unix_connection(sock=ours)
            except BaseException:
                ours.close()  # a process that has started already exits when it closes
                raise
        return cls(process, ours, reader, writer)

    @property
    def has_exited(self) -> bool:
        return self._listening.done()

    async def launch(self) -> Child:
        await self._ready.wait()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise NotStarted.from_error(error) from error
        with theirs:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE_BYTES)
            except BaseException:
                ours.close()
                raise
            try:
                number = await self._fork(theirs)
            except BaseException:
                writer.close()  # not only the socket: a forgotten transport could close a later file of the same number
                raise
        return Child(reader, writer, self._exits[number], lambda value: self._signal(number, value))

    async def _fork(self, channel: socket.socket) -> int:
        """Request a child on this channel. Returns without an await after the request, so that no child is lost."""
        while not self.has_exited:
            self._forked += 1
            record = RECORD.pack(RecordKind.FORK, self._forked, 0)
            try:
                socket.send_fds(self._control, [record], [channel.fileno()])
            except BlockingIOError:
                await asyncio.sleep(FULL_SECONDS)
            except OSError:
                break
            else:
                self._exits[self._forked] = asyncio.get_running_loop().create_future()
                return self._forked
        raise StarterEnded

    def set_alarm(self, seconds: float) -> None:
        if not self.has_exited:
            self._writer.write(RECORD.pack(RecordKind.ALARM, 0, max(1, round(seconds * 1000))))

    def _signal(self, number: int, value: int) -> None:
        if number in self._exits:
            self._writer.write(RECORD.pack(RecordKind.SIGNAL, number, value))

    async def _listen(self) -> None:
        try:
            while True:
                kind, number, value = RECORD.unpack(await self._reader.readexactly(RECORD.size))
                if kind == RecordKind.READY:
                    self._ready.set()
                elif kind == RecordKind.EXITED:
                    self._set_exit(number, os.waitstatus_to_exitcode(value))
                elif kind == RecordKind.NOT_FORKED:
                    self._set_exit(number, NotStarted.from_error(OSError(value, os.strerror(value))))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._ready.set()  # wakes those who wait; they find that the process has exited
            self._writer.close()
            for number in list(self._exits):
                self._set_exit(number, StarterEnded())

    def _set_exit(self, number: int, result: Exit) -> None:
        exited = self._exits.pop(number)
        if not exited.done():
            exited.set_result(result)

    async def stop(self) -> None:
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listening


class SpawnLauncher:
    """Starts a new Python for each video, where the system cannot fork. It takes about 0.1 s longer than a fork."""

    def __init__(self, find: str) -> None:
        self._find = find
        self._children: set[Child] = set()

    async def start(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def launch(self) -> Child:
        try:
            process = await asyncio.create_subprocess_exec(
                *python_command("backend.processors.spawned_child", "main", self._find),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=bare_environment(),
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:
            raise NotStarted.from_error(error) from error
        exited: asyncio.Task[Exit] = asyncio.create_task(process.wait())
        reader, writer = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamWriter, process.stdin)
        child = Child(reader, writer, exited, lambda value: _send_signal(process, value))
        self._children.add(child)
        exited.add_done_callback(lambda _: self._children.discard(child))
        return child

    def set_alarm(self, seconds: float) -> None:
        """Do nothing: workers need a system that can fork."""

    async def stop(self) -> None:
        await asyncio.gather(*(child.end(has_result=False) for child in self._children))


def _send_signal(process: asyncio.subprocess.Process, value: int) -> None:
    if process.returncode is None:
        process.send_signal(value)
