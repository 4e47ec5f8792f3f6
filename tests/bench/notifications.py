"""What notifications cost ticks: `python -m tests.bench.notifications [rounds] [seconds] [--database postgresql]`.

In windows of 30 s, by turns, 5,000 jobs a minute end: cancelled, of which nobody is told (*without*), and failed, each
of which is an event for a webhook and for `json://` by Apprise, composed and sent meanwhile (*with*). A third window
has the same events while a further webhook never answers (*hanging*). The receivers are a process of their own.

Measured are how late each tick is stored after its time, how late the event loop is, the seconds of the commit, and the
processor time of this process for an event. What was not sent in a window is sent before the next one begins, and what
came is counted: each event at the webhook, few messages through Apprise.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy import func, insert, select, text

from backend.clock import SystemClock
from backend.delivery.hub import ProgressHub
from backend.delivery.journal import INTERVAL_SECONDS, Journal
from backend.domain.job import Job
from backend.domain.notification import ChannelKind
from backend.jobs.composing import Composer
from backend.notifications.apprise import Apprise
from backend.notifications.guard import Guard
from backend.notifications.outbox import Outbox
from backend.notifications.senders import Senders
from backend.notifications.webhook import Webhooks
from backend.store import Store
from backend.store.changes import NewJob, Tick
from backend.store.database import Database
from backend.store.tables import NOTIFICATIONS, USERS
from progress_dashboard.protocol import Status
from progress_dashboard.tasks import running
from tests.bench.measure import cpu_seconds, load, percentile, row
from tests.support.databases import chosen, new_database
from tests.support.jobs import ERA, a_job
from tests.support.servers import free_port, serving
from tests.support.told import a_channel

EVENTS_A_MINUTE, ROUNDS, WINDOW_SECONDS = 5_000, 2, 30.0
BEAT_SECONDS, POLL_SECONDS, DRAIN_SECONDS = 0.005, 0.2, 900
WARM_UP_SECONDS = 2.0  # what is loaded and started once does not count
WITHOUT, WITH, HANGING = "without", "with", "hanging"
WIDTHS = (10, 8, 8, 24, 24, 20, 14, 12)
MILLIS = 1000


@dataclass
class Measured:
    """What was seen in the windows of a kind, in seconds."""

    late: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    processor: float = 0.0
    events: int = 0
    drained: list[float] = field(default_factory=list)


class Bench:
    """The journal, what composes and what sends, over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clock = SystemClock()
        store = Store(database)
        self._journal = Journal(store, ProgressHub(), self._clock, on_stored=self._stored)
        guard = Guard(allows_private=True)
        self._senders = Senders(guard, Webhooks(guard, self._clock), Apprise(guard, self._clock))
        self._outbox = Outbox(store.deliveries, self._senders, self._clock, zone=UTC, base_url="http://dash.example")
        self._composer = Composer(
            store, self._clock, link=lambda job_id: job_id, zone=UTC, on_told=lambda _: self._outbox.wake()
        )
        self._store = store
        self._measured = Measured()
        self._last: float | None = None

    async def run(self, base_url: str, rounds: int, seconds: float) -> dict[str, Measured]:
        """Measure so many rounds of windows."""
        results = {WITHOUT: Measured(), WITH: Measured(), HANGING: Measured()}
        await self._journal.load()
        ticking = asyncio.create_task(self._journal.run())
        async with running(self._composer.run(), "composing"), running(self._outbox.run(), "outbox"):
            await self._add_channels(base_url)
            await self._window(WITH, Measured(), base_url, WARM_UP_SECONDS)
            for _ in range(rounds):
                for kind, measured in results.items():
                    await self._window(kind, measured, base_url, seconds)
        self._journal.close()
        await ticking
        await self._senders.close()
        return results

    async def _add_channels(self, base_url: str) -> None:
        host = base_url.removeprefix("http://")
        for name, kind, url in (
            ("hook", ChannelKind.WEBHOOK, f"{base_url}/hook"),
            ("json", ChannelKind.APPRISE, f"json://{host}/json"),
        ):
            await self._store.channels.add(a_channel(name, kind=kind, url=url, daily_cap=100_000))

    async def _window(self, kind: str, measured: Measured, base_url: str, seconds: float) -> None:
        hanging = await self._hanging() if kind == HANGING else None
        number = round(EVENTS_A_MINUTE * seconds / 60)
        self._measured, self._last = measured, None
        began, processor = time.monotonic(), cpu_seconds(os.getpid())
        async with running(self._beat(measured), "beat"):
            for place in range(number):
                await asyncio.sleep(max(0.0, began + place * seconds / number - time.monotonic()))
                self._end_job(Status.CANCELLED if kind == WITHOUT else Status.FAILED)
            await self._journal.durable()
        self._measured = Measured()  # what comes now does not count
        ended = time.monotonic()
        await self._until_sent()
        measured.events += number
        measured.drained.append(time.monotonic() - ended)
        measured.processor += cpu_seconds(os.getpid()) - processor
        if hanging is not None:
            await self._store.channels.remove("hanging")
            await self._outbox.stop_line("hanging", grace=0)
            hanging.close()

    async def _hanging(self) -> asyncio.Server:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await self._store.channels.add(a_channel("hanging", url=f"http://127.0.0.1:{port}/", daily_cap=100_000))
        return server

    def _end_job(self, status: Status) -> None:
        """Let a job appear and end."""
        job: Job = a_job(id=str(uuid4()), name=f"list-{status}.csv", total_videos=1, created_at=self._clock.now())
        job = job.evolve(updated_at=self._clock.now())
        self._journal.stage_new(NewJob(job=job, columns=()))
        at = self._clock.now()
        error = {"error": "No file for this ID.", "failed": 1} if status is Status.FAILED else {}
        self._journal.stage(job.become(status, at=at, finished_at=at, current_video=1, progress=100, **error))

    def _stored(self, tick: Tick, seconds: float) -> None:
        now = time.monotonic()
        if self._last is not None:
            self._measured.late.append(max(0.0, now - self._last - INTERVAL_SECONDS))
        self._last = now
        self._measured.commits.append(seconds)
        if tick.notifications:
            self._composer.wake()

    async def _beat(self, measured: Measured) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            measured.lags.append(max(0.0, time.monotonic() - began - BEAT_SECONDS))

    async def _until_sent(self) -> None:
        """Return when everything is composed, and sent but for what hangs."""
        waiting = text("SELECT count(*) FROM delivery WHERE state = 'waiting' AND channel_id <> 'hanging'")
        raw = select(func.count()).select_from(NOTIFICATIONS).where(~NOTIFICATIONS.c.composed)
        async with asyncio.timeout(DRAIN_SECONDS):
            while await self._database.read(  # noqa: ASYNC110  not to be woken by what is measured
                lambda connection: connection.execute(raw).scalar_one() + connection.execute(waiting).scalar_one()
            ):
                await asyncio.sleep(POLL_SECONDS)


def print_table(results: dict[str, Measured]) -> None:
    """Print what was measured, in milliseconds: p50, p99 and the longest."""
    row(*("", "events", "ticks", "tick late", "loop late", "commit", "CPU an event", "sent after"), widths=WIDTHS)
    for kind, found in results.items():
        row(
            *(kind, found.events, len(found.late), _of(found.late), _of(found.lags), _of(found.commits)),
            f"{found.processor / max(1, found.events) * MILLIS:.1f} ms",
            f"{max(found.drained):.0f} s",
            widths=WIDTHS,
        )
    before, after = (percentile(sorted(results[kind].late), 99) for kind in (WITHOUT, WITH))
    print(f"p99 of a tick: {(after - before) * MILLIS:+.1f} ms because of notifications (aim: under 50 ms)")


def _of(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return " · ".join(f"{value * MILLIS:.1f}" for value in (*(percentile(ordered, p) for p in (50, 99)), ordered[-1]))


def main() -> None:
    """Measure, and print the table and what came."""
    with (
        chosen(sys.argv[1:]) as rest,
        tempfile.TemporaryDirectory() as directory,
        serving("tests.bench.told_receiver", port=free_port()) as receiver,
    ):
        rounds, seconds = (int(rest[0]) if rest else ROUNDS), (float(rest[1]) if rest[1:] else WINDOW_SECONDS)
        database = new_database(Path(directory) / "dashboard.sqlite3")
        user = {"id": "ana", "name": "ana", "is_admin": False, "disabled": False, "created_at": ERA}
        database.write_now(lambda connection: connection.execute(insert(USERS), [user]))
        print(f"{EVENTS_A_MINUTE:,} events a minute, {rounds} rounds of {seconds:g} s each; {load()}")
        print_table(asyncio.run(Bench(database).run(receiver.url, rounds, seconds)))
        told = httpx.get(f"{receiver.url}/told").json()
        print(f"came: {told.get('hook', 0):,} posts to the webhook, {told.get('json', 0):,} messages through Apprise")
        database.close()


if __name__ == "__main__":
    main()
