"""Receivers of notifications: a web server whose answers a test chooses, one for mail, and a sender to nobody."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from backend.domain.notification import Channel
from backend.domain.sending import TAKEN, Receipt
from backend.notifications.messages import Message
from tests.support.tcp_proxies import TcpProxy, listening

WAIT_SECONDS = 20
CUT, SILENCE = "cut", "silence"  # instead of a status: the connection ends, or nothing ever comes
Reply = int | str


@dataclass(frozen=True)
class Request:
    """What a web server was sent, and when (time.time)."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.time)

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content


class Receiver(TcpProxy):
    """A web server that answers 200, or what the test says: `replies` to the next requests, `rule` to all others."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.replies: deque[Reply] = deque()
        self.rule: Callable[[Request], Reply] = lambda _: 200
        self._came = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until(self, number: int) -> Sequence[Request]:
        """Return the requests once there are so many."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.requests) < number:
                self._came.clear()
                await self._came.wait()
        return self.requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                reply = self.replies.popleft() if self.replies else self.rule(request)
                self._came.set()
                if reply == SILENCE:
                    await asyncio.Event().wait()
                if reply == CUT:
                    break
                where = "Location: http://127.0.0.1:9/\r\n" if isinstance(reply, int) and 300 <= reply < 400 else ""
                writer.write(f"HTTP/1.1 {reply} Told\r\n{where}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender was killed
        finally:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection, None at its end. Raises `IncompleteReadError` if it ends in between."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split()[1], headers, body)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a web server while the block runs."""
    async with listening(Receiver()) as receiver:
        yield receiver


class MailBox:
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  its name there
        mail = message_from_bytes(envelope.content or b"", policy=default)  # type: ignore[arg-type]
        part = mail.get_body(("plain",)) or mail
        self.mails.append((str(mail["Subject"]), str(part.get_content())))
        return "250 OK"


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[MailBox, int]]:
    """Run a mail server while the block runs; yields its box and its port."""
    box, port = MailBox(), _free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    await asyncio.to_thread(controller.start)
    try:
        yield box, port
    finally:
        await asyncio.to_thread(controller.stop)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ScriptedSender:
    """Sends to nobody. Gives the answers of a channel in turn, then takes all; what is `held` stays on the wire."""

    answers_of: defaultdict[str, deque[Receipt]] = field(default_factory=lambda: defaultdict(deque))
    sent: list[tuple[str, Message]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, channel: Channel, message: Message) -> Receipt:
        self.sent.append((channel.id, message))
        self._changed.set()
        while channel.id in self.held:
            self._changed.clear()
            await self._changed.wait()
        answers = self.answers_of[channel.id]
        return answers.popleft() if answers else TAKEN

    def release(self, channel_id: str) -> None:
        """Let the messages of this channel be answered."""
        self.held.discard(channel_id)
        self._changed.set()

    def titles(self, channel_id: str) -> list[str]:
        """Return the titles of what the channel sent, in order."""
        return [message.title for known, message in self.sent if known == channel_id]

    async def until(self, number: int) -> None:
        """Return once so many messages were begun to be sent."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.sent) < number:
                self._changed.clear()
                await self._changed.wait()
