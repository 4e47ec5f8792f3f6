"""The server's side of starting, signalling and burying the processes of videos."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from backend.domain.os_errors import reason_of
from backend.errors import Unavailable
from backend.processors.forkserver import RECORD, RecordKind
from backend.processors.ipc import LONGEST_LINE

NEEDED_TO_START = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP")  # what Python itself may need
TERM_SECONDS = 0.5  # between asking a process to end and ending it
STOP_SECONDS = 2.0
FULL_SECONDS = 0.002  # before the fork server is asked again when it has too much to read


class Stopping(Unavailable):
    """The server is stopping; this video is done after the next start."""


class StarterEnded(Unavailable):
    """The process that starts the video work has ended; try again."""


class NotStarted(Unavailable):
    """No process can be started for a video; try again."""

    @classmethod
    def because(cls, error: OSError) -> NotStarted:
        return cls(
            f"No process can be started for a video ({reason_of(error)}); the machine has too little left for it."
        )


Death = int | Unavailable  # its exit status as in `subprocess` (negative: signal), or why there is none


@dataclass(frozen=True)
class Child:
    """One video's process, and its death when that comes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    death: asyncio.Future[Death]
    signal: Callable[[int], None]

    async def end(self, *, willing: bool) -> None:
        """Return when it is dead; a willing one (its result is here) may leave by itself first."""
        self.writer.close()
        if willing and await self._dies_within(TERM_SECONDS):
            return
        self.signal(signal.SIGTERM)
        if not await self._dies_within(TERM_SECONDS):
            self.signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has one signal for both
            await asyncio.wait({self.death})

    async def _dies_within(self, seconds: float) -> bool:
        done, _ = await asyncio.wait({self.death}, timeout=seconds)
        return bool(done)


class Launcher(Protocol):
    """A way to get a process for one video."""

    async def start(self) -> None:
        """Make ready for `launch`; returns before loading is done; raises `Unavailable`."""

    async def launch(self) -> Child:
        """A new process that waits for its task; raises `Unavailable`."""

    async def stop(self) -> None:
        """End every process and return when they are dead."""


def python_command(module: str, function: str, *arguments: object) -> list[str]:
    """A command line that calls `module.function(*arguments)` in a new Python with this one's module paths."""
    paths = [os.path.abspath(path or ".") for path in sys.path]
    call = f"import sys; sys.path[:] = {json.dumps(paths)}; from {module} import {function}; {function}{arguments!r}"
    return [sys.executable, "-I", "-c", call]


def bare_environment() -> dict[str, str]:
    """No secret and no setting: only what Python may need to start."""
    return {name: os.environ[name] for name in NEEDED_TO_START if name in os.environ}


class ForkLauncher:
    """Children of a fork server (`forkserver.serve`), which is started again when it dies."""

    def __init__(self, find: str) -> None:
        self._find = find
        self._server: _ForkServer | None = None
        self._starting = asyncio.Lock()
        self._stopped = False

    async def start(self) -> None:
        await self._running()

    async def launch(self) -> Child:
        return await (await self._running()).launch()

    async def stop(self) -> None:
        self._stopped = True
        if self._server is not None:
            await self._server.stop()

    async def _running(self) -> _ForkServer:
        async with self._starting:
            if self._stopped:
                raise Stopping
            if self._server is None or self._server.is_over:
                try:
                    self._server = await _ForkServer.started(self._find)
                except OSError as error:
                    raise NotStarted.because(error) from error
            return self._server


class _ForkServer:
    """The handle on one fork server: its process, its control socket, and the deaths it reports."""

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
        self._deaths: dict[int, asyncio.Future[Death]] = {}
        self._forked = 0
        self._ready = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(), name="fork server")

    @classmethod
    async def started(cls, find: str) -> _ForkServer:
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
                ours.close()  # a process that has started already ends with it
                raise
        return cls(process, ours, reader, writer)

    @property
    def is_over(self) -> bool:
        return self._listening.done()

    async def launch(self) -> Child:
        await self._ready.wait()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise NotStarted.because(error) from error
        with theirs:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_LINE)
            except BaseException:
                ours.close()
                raise
            try:
                number = await self._fork(theirs)
            except BaseException:
                writer.close()  # not the socket alone: a transport forgotten would close its number's next owner later
                raise
        death = self._deaths[number]
        return Child(reader, writer, death, lambda value: self._signal(number, value))

    async def _fork(self, channel: socket.socket) -> int:
        """Ask for a child on this channel; once asked it returns without a pause, so that no child is forgotten."""
        while not self.is_over:
            self._forked += 1
            record = RECORD.pack(RecordKind.FORK, self._forked, 0)
            try:
                socket.send_fds(self._control, [record], [channel.fileno()])
            except BlockingIOError:
                await asyncio.sleep(FULL_SECONDS)
            except OSError:
                break
            else:
                self._deaths[self._forked] = asyncio.get_running_loop().create_future()
                return self._forked
        raise StarterEnded

    def _signal(self, number: int, value: int) -> None:
        if number in self._deaths:
            self._writer.write(RECORD.pack(RecordKind.SIGNAL, number, value))

    async def _listen(self) -> None:
        try:
            while True:
                kind, number, value = RECORD.unpack(await self._reader.readexactly(RECORD.size))
                if kind == RecordKind.READY:
                    self._ready.set()
                elif kind == RecordKind.DIED:
                    self._died(number, os.waitstatus_to_exitcode(value))
                elif kind == RecordKind.NOT_FORKED:
                    self._died(number, NotStarted.because(OSError(value, os.strerror(value))))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._ready.set()  # whoever waits learns that it is over by asking
            self._writer.close()
            for number in list(self._deaths):
                self._died(number, StarterEnded())

    def _died(self, number: int, how: Death) -> None:
        death = self._deaths.pop(number)
        if not death.done():
            death.set_result(how)

    async def stop(self) -> None:
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listening


class SpawnLauncher:
    """A fresh Python for each video, where the system cannot fork; slower to start by a tenth of a second or so."""

    def __init__(self, find: str) -> None:
        self._find = find
        self._children: set[Child] = set()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def launch(self) -> Child:
        try:
            process = await asyncio.create_subprocess_exec(
                *python_command("backend.processors.spawned_child", "main", self._find),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=bare_environment(),
                limit=LONGEST_LINE,
            )
        except OSError as error:
            raise NotStarted.because(error) from error
        death: asyncio.Task[Death] = asyncio.create_task(process.wait())
        reader, writer = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamWriter, process.stdin)
        child = Child(reader, writer, death, lambda value: _send(process, value))
        self._children.add(child)
        death.add_done_callback(lambda _: self._children.discard(child))
        return child

    async def stop(self) -> None:
        await asyncio.gather(*(child.end(willing=False) for child in self._children))


def _send(process: asyncio.subprocess.Process, value: int) -> None:
    if process.returncode is None:
        process.send_signal(value)
