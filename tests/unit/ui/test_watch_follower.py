"""What `watch` says while it has nothing to show: a clock that the test moves, and a network that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from progress_dashboard import ProgressFeed, ProgressUpdate
from progress_dashboard.address import Address
from progress_dashboard.transport import ConnectionLost, Transport
from tests.support.clock import VirtualClock
from tests.support.servers import free_port
from ui.cli.client import Access, RequestRefused
from ui.cli.watch.display import Lines
from ui.cli.watch.follower import JobFollower
from ui.cli.watch.model import ConnectionState, FollowedJob, News

URL = "http://dash.example"
WAITS_SECONDS = 3  # after which a wait must have been said


class SilentTransport:
    """An open connection over which nothing comes."""

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, text: str) -> None:
        """Take the text."""

    async def close(self) -> None:
        """Close nothing."""


class HeldNetwork:
    """A `Network` whose connections are accepted, refused with `refusal`, or neither while it `is_frozen`."""

    def __init__(self, *, is_frozen: bool = False, refusal: str = "") -> None:
        self.is_frozen = is_frozen
        self.refusal = refusal

    async def connect(self, *, after: int | None) -> Transport:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.refusal:
            raise ConnectionLost(self.refusal)
        return SilentTransport()

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        return []

    async def close(self) -> None:
        """Close nothing."""


@dataclass
class NotedDisplay:
    """A `Display` that also notes each different text of the connection, and calls for those who wait for one."""

    lines: Lines = field(default_factory=Lines)
    texts: list[str] = field(default_factory=list)
    noted: asyncio.Event = field(default_factory=asyncio.Event)

    def announce(self, news: News) -> None:
        self.lines.announce(news)

    def write(self, sentence: str) -> None:
        self.lines.write(sentence)

    def draw(self, jobs: Sequence[FollowedJob], connection: ConnectionState) -> None:
        self.lines.draw(jobs, connection)
        if connection.text not in self.texts:
            self.texts.append(connection.text)
            self.noted.set()

    async def until(self, part: str) -> str:
        """Return the first text with this part."""
        async with asyncio.timeout(20):
            while not (found := [text for text in self.texts if part in text]):
                self.noted.clear()
                await self.noted.wait()
        return found[0]


@asynccontextmanager
async def watching(
    network: HeldNetwork, clock: VirtualClock, display: NotedDisplay, url: str = URL
) -> AsyncIterator[asyncio.Task[int]]:
    """Follow all jobs of the server during the block."""
    access = Access(Address.parse(url)[0], "token")
    feed = ProgressFeed(url, token="token", clock=clock, rng=Random(1), network=network)
    async with feed:
        following = asyncio.create_task(JobFollower(feed, display, access, clock, attempts=10).run(None))
        try:
            yield following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_server_that_never_answers_is_waited_for_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    async with watching(HeldNetwork(is_frozen=True), clock, NotedDisplay()):
        await clock.advance(1)
        assert capsys.readouterr().err == "", "a quick start says nothing"
        await clock.advance(WAITS_SECONDS - 1)
        assert capsys.readouterr().err == f"waiting for an answer of {URL}\n"
        await clock.advance(60)
        assert capsys.readouterr().err == "", "once is enough while nothing changes"


@pytest.mark.parametrize(
    "refusal",
    [
        f"nothing answers at {URL}: [Errno 111] Connection refused",
        "the server answered with HTTP 421: This server does not have that host name.",
        f"nothing answers at {URL} through the proxy http://p:9 of HTTP_PROXY: Connection refused",
    ],
    ids=["unreachable", "refused", "a proxy"],
)
async def test_why_there_is_no_connection_is_said_at_once_and_again_with_each_attempt(
    capsys: pytest.CaptureFixture[str], refusal: str
) -> None:
    clock = VirtualClock()
    async with watching(HeldNetwork(refusal=refusal), clock, NotedDisplay()):
        await clock.advance(WAITS_SECONDS)
        [first] = capsys.readouterr().err.splitlines()
        assert first.startswith(f"{refusal}: attempt 1 of 10 in ")
        await clock.advance(3.5)
        [second] = capsys.readouterr().err.splitlines()
        assert second.startswith(f"{refusal}: attempt 2 of 10 in ")


async def test_another_reason_is_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock, network = VirtualClock(), HeldNetwork(refusal="nothing answers")
    async with watching(network, clock, NotedDisplay()):
        await clock.advance(1)
        network.refusal = "the server answered with HTTP 502"
        await clock.advance(6)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["nothing answers", "the server answered with HTTP 502"]


async def test_a_server_that_gives_updates_but_no_jobs_is_waited_for_aloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As where only the requests go through a proxy: the feed is connected, and it looks as if all were well."""
    clock, display, url = VirtualClock(), NotedDisplay(), f"http://127.0.0.1:{free_port()}"
    async with watching(HeldNetwork(), clock, display, url):
        await clock.advance(0.5)
        waiting = asyncio.create_task(display.until("No server"))
        while not waiting.done():
            await clock.advance(0.25)
            await asyncio.sleep(0)
        assert await waiting == (
            f"waiting for {url}: No server answers at {url}; start it with `python main.py`, or set DASHBOARD_URL."
        )
    assert capsys.readouterr().err.count("No server answers") == 1


async def test_the_end_of_all_attempts_names_the_reason() -> None:
    clock = VirtualClock()
    async with watching(HeldNetwork(refusal="the server answered with HTTP 421"), clock, NotedDisplay()) as following:
        await clock.advance(600)
        with pytest.raises(RequestRefused, match=r"No server answers .* \(the server answered with HTTP 421\)\.$"):
            await following
