"""Sends through Apprise, in a child process: its plug-ins are many, may hang, and must not reach private addresses."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from backend.clock import Clock
from backend.domain.sending import MAX_TRY_SECONDS, TAKEN, TIMED_OUT, UNREACHABLE, Receipt, Verdict, answer_of_status
from backend.errors import Invalid
from backend.notifications import apprise_child as child
from backend.notifications.guard import MAX_URL_LENGTH, PRIVATE, Guard
from backend.processors.launchers import bare_environment, python_command
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
MISSING = "Sending to services such as mail or chat needs Apprise; run: pip install 'progress-dashboard[notify]'"
UNKNOWN = "Apprise does not know this address; https://appriseit.com/services/ lists those that it knows."
UNCHECKED = "Apprise cannot check the address now; try again in a moment."
LOCAL = "This address needs a file or a program of the server's machine, which is not allowed; use another one."
LATE = "late"
LATE_RESULT: Mapping[str, Any] = {"word": LATE, "status": None}
ENDED_RESULT: Mapping[str, Any] = {"word": child.FAILED, "status": None}
IDLE_SECONDS = 60.0  # until a process that has nothing to do ends
START_SECONDS = 30.0  # for loading Apprise, beside the time of the message
MAX_LINE_BYTES = 1 << 20
HOST_SCHEMES = frozenset(
    {
        *("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "gotify", "gotifys", "mmost", "mmosts"),
        *("rocket", "rockets", "nctalk", "nctalks", "ncloud", "nclouds", "hassio", "hassios", "mqtt", "mqtts", "kodi"),
        *("apprise", "apprises", "signal", "signals", "bark", "barks", "synology", "synologys", "rsyslog", "xmpp"),
        *("irc", "ircs", "growl", "amqp", "amqps", "emby", "embys", "jellyfin", "jellyfins"),
    }
)
"""Schemes whose addresses have a host behind `://`; others have a token there."""


def missing() -> str | None:
    """Return what to install, None if Apprise is there."""
    return None if find_spec("apprise") else MISSING


class Apprise:
    """Sends messages. A process that has hung takes no further ones, and is killed once its others have ended."""

    def __init__(self, guard: Guard, clock: Clock, *, max_seconds: float = MAX_TRY_SECONDS) -> None:
        self._guard = guard
        self._clock = clock
        self._max_seconds = max_seconds
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    async def check(self, url: str) -> None:
        """Raise `Invalid` for an address that Apprise does not know, or that may not be called."""
        if sentence := missing():
            raise Invalid(sentence)
        if len(url) > MAX_URL_LENGTH or not url.isprintable():
            raise Invalid(UNKNOWN)
        if url.partition("://")[0].lower() in child.LOCAL_SCHEMES:
            raise Invalid(LOCAL)
        result = await self._result({"what": child.CHECK, "url": url})
        if result["word"] != child.KNOWN:
            raise Invalid(UNKNOWN if result["word"] == child.UNKNOWN else UNCHECKED)
        if host := host_of(url):
            await self._guard.check(host, 0)

    async def send(self, url: str, title: str, text: str) -> Receipt:
        """Send once and return what came of it."""
        if sentence := missing():
            return Receipt(Verdict.ENDED, sentence)
        result = await self._result({"what": child.SEND, "url": url, "title": title, "text": text})
        match result["word"]:
            case child.SENT:
                return TAKEN
            case child.PRIVATE:
                return Receipt(Verdict.ENDED, PRIVATE)
            case child.LOCAL:
                return Receipt(Verdict.ENDED, LOCAL)
            case child.UNKNOWN:
                return Receipt(Verdict.ENDED, UNKNOWN)
        if result["word"] == LATE:
            return Receipt(Verdict.AGAIN, TIMED_OUT)
        if (status := result["status"]) and status >= 300:
            return answer_of_status(status)
        return Receipt(Verdict.AGAIN, UNREACHABLE)

    async def close(self) -> None:
        """End all processes."""
        if self._child is not None:
            self._child.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._child is not None:
            await self._child.exited()

    async def _result(self, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the process says of this task; `LATE` if it takes too long."""
        async with self._starting:
            if self._child is None or not self._child.is_usable:
                self._child = await _Child.start(allows_private=self._guard.allows_private)
                self._spawn(self._end_when_idle(self._child))
            running = self._child
        if await first_completed(running.is_ready(), self._late(START_SECONDS)) is not LATE_RESULT:
            answered = running.answer({"id": next(self._numbers), **task})
            result = await first_completed(_of(answered), self._late(self._max_seconds))
            if result is not LATE_RESULT:
                return result
        self._retire(running)
        return LATE_RESULT

    async def _late(self, seconds: float) -> Mapping[str, Any]:
        await self._clock.sleep(seconds)
        return LATE_RESULT

    def _retire(self, hung: _Child) -> None:
        if hung.is_usable:
            hung.is_usable = False
            self._spawn(self._kill_later(hung))

    async def _kill_later(self, hung: _Child) -> None:
        """Kill it after those of its tasks that may still end have had their time."""
        await first_completed(hung.is_idle(), self._late(self._max_seconds))
        hung.kill()
        await hung.exited()

    async def _end_when_idle(self, running: _Child) -> None:
        while running.is_usable:
            sent = running.sent
            await self._clock.sleep(IDLE_SECONDS)
            if running.sent == sent and not running.pending:
                running.is_usable = False
                running.kill()
        if not running.pending:
            await running.exited()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _of(answered: asyncio.Future[Mapping[str, Any]]) -> Mapping[str, Any]:
    return await asyncio.shield(answered)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class _Child:
    """The process: what it was given, and what it has answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reading = asyncio.create_task(self._read())
        self._idle = asyncio.Event()
        self._ready = asyncio.Event()
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.is_usable = True
        self.sent = 0
        self._has_ended = False

    @classmethod
    async def start(cls, *, allows_private: bool) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *python_command(child.__name__, child.main.__name__, allows_private),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=bare_environment()
            | {name: os.environ[name] for name in child.CERTIFICATE_VARIABLES if name in os.environ},
            limit=MAX_LINE_BYTES,
        )
        return cls(process)

    async def is_ready(self) -> Mapping[str, Any]:
        """Return when it takes tasks, or has ended."""
        await self._ready.wait()
        return {}

    async def is_idle(self) -> Mapping[str, Any]:
        """Return when it has answered everything, or has ended."""
        while self.pending:
            self._idle.clear()
            await self._idle.wait()
        return {}

    def answer(self, task: Mapping[str, Any]) -> asyncio.Future[Any]:
        """Give it a task; the future gets the result, `ENDED` if the process ends before."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent += 1
        if self._has_ended or self._process.stdin is None:
            future.set_result(ENDED_RESULT)
            return future
        self.pending[task["id"]] = future
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        return future

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def exited(self) -> None:
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        async for line in self._process.stdout or _nothing():
            if not self._ready.is_set():
                self._ready.set()
                continue
            result = json.loads(line)
            if future := self.pending.pop(result["id"], None):
                future.set_result(result)
            self._idle.set()
        self.is_usable, self._has_ended = False, True
        self._ready.set()
        for future in self.pending.values():
            future.set_result(ENDED_RESULT)
        self.pending.clear()
        self._idle.set()


def host_of(url: str) -> str | None:
    """Return the host of an address that has one there; None where there may be a token.

    >>> host_of("mailto://ana:secret@mail.example"), host_of("slack://token/token/token")
    ('mail.example', None)
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in HOST_SCHEMES:
        return None
    try:
        return urlsplit(f"//{rest}").hostname
    except ValueError:
        return None
