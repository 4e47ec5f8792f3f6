"""Many feeds over a bad network: cuts, delays, resets, lines that fall silent; all end in exactly the server's state.

`python -m tests.acceptance.test_feeds [feeds] [seconds]`: 200 feeds, two minutes of traffic; prints what happened.
The line turns good several times, until all feeds are equal: what memory holds then is what they do not let go of.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec

from backend.clock import SystemClock
from progress_dashboard import ProgressFeed, ProgressUpdate
from tests.bench.measure import allow_many_files, held_mib
from tests.support.chaos_proxy import BAD, ChaosProxy, bad_line
from tests.support.server_runs import Server
from tests.support.senders import Order, Sender, planned
from tests.support.servers import add_user
from tests.support.received import FIELDS, reported

FEEDS_IN_THE_GATE, SECONDS_IN_THE_GATE = 20, 10.0
FEEDS, SECONDS = 200, 120.0
JOBS_AT_ONCE = 6
CATCH_UP_SECONDS = 150.0
LOOK_AGAIN_SECONDS = 0.5
SPELLS = 4  # of bad line
ROUNDS_THAT_STAY = 2  # the number of jobs that are shown does not grow without end, so memory may not either
QUICK: dict[str, Any] = {
    "reconnect_delays_seconds": (0.05, 0.1, 0.2),
    "reconnect_attempts": 10_000,
    "heartbeat_interval_seconds": 0.4,
    "heartbeat_timeout_seconds": 1.2,
}
SETTINGS: dict[str, Any] = {
    "allowed_hosts": "127.0.0.1",
    "completed_job_ttl_seconds": 5,
    "failed_job_ttl_seconds": 10,
    "cleanup_interval_seconds": 1,
    "max_connections_per_user": 10_000,
    "max_connections_per_address": 10_000,
}

Fields = dict[str, Any]


@dataclass
class Consumer:
    """One who iterates over a feed of their own, and remembers each error and each job's position."""

    feed: ProgressFeed
    errors: set[int] = field(default_factory=set)
    updates: int = 0
    out_of_order: list[str] = field(default_factory=list)
    _positions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def run(self) -> None:
        async with self.feed:
            async for update in self.feed:
                self._hear(update)

    def knows(self, order: Order) -> bool:
        """Whether anything of this job was handed on; not so when it came and left while the connection was lost."""
        return order.job_id in self._positions

    def heard(self, order: Order) -> bool:
        """Whether every failed video of this job was handed on, in its own words."""
        failures = reported(order)
        return all(_mark(order.job_id, video_id, error) in self.errors for video_id, error in failures.items())

    @property
    def shown(self) -> dict[str, Fields]:
        return {job_id: msgspec.to_builtins(update) for job_id, update in self.feed.job_progress.items()}

    def _hear(self, update: ProgressUpdate) -> None:
        self.updates += 1
        if update.seq <= self._positions[update.job_id]:
            self.out_of_order.append(update.job_id)
        self._positions[update.job_id] = update.seq
        if isinstance(update.error, str) and update.video_id:
            self.errors.add(_mark(update.job_id, update.video_id, update.error))


@dataclass
class Outcome:
    """What happened: to the feeds, on the line, and to the memory of the process that holds both."""

    consumers: Sequence[Consumer]
    line: ChaosProxy
    orders: list[Order] = field(default_factory=list)
    caught_up_after: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @property
    def unseen(self) -> int:
        """How often a job came to the dashboard and left it while a feed was away."""
        return sum(not consumer.knows(order) for consumer in self.consumers for order in self.orders)

    def __str__(self) -> str:
        handed_on = sum(consumer.updates for consumer in self.consumers)
        errors = sum(len(order.failures) for order in self.orders)
        return (
            f"{len(self.consumers)} feeds, {len(self.orders)} jobs with {errors:,} failed videos, "
            f"{handed_on:,} updates handed on; {self.line.connections:,} connections, {self.line.cut:,} cut, "
            f"{self.line.silenced:,} silenced; all equal after "
            f"{', '.join(f'{seconds:.1f}' for seconds in self.caught_up_after)} s of good line; "
            f"{self.unseen:,} of {len(self.consumers) * len(self.orders):,} times a job came and left unseen; "
            f"memory in MiB then: {', '.join(f'{mib:.0f}' for mib in self.memory)}"
        )


async def play(home: Path, feeds: int, seconds: float) -> Outcome:
    """Traffic over a bad line for so long, in spells after each of which all become equal; raises `AssertionError`."""
    server = Server(home / "data", **SETTINGS)
    jwt = await asyncio.to_thread(add_user, home / "data", "ana")
    async with AsyncExitStack() as last:
        last.push_async_callback(server.close)
        await server.start()
        line = await last.enter_async_context(bad_line(server.port, BAD, seed="feeds"))
        http = await last.enter_async_context(_http(server.url, jwt))
        consumers = [Consumer(_feed(line.port, jwt, seed)) for seed in range(feeds)]
        await last.enter_async_context(_consuming(consumers))
        outcome = Outcome(consumers, line)
        for _ in range(SPELLS):
            line.harm()
            await _traffic(outcome, http, seconds / SPELLS)
            line.calm()
            await _all_equal(outcome, http)
            outcome.memory.append(held_mib())
    return outcome


def _feed(port: int, jwt: str, seed: int) -> ProgressFeed:
    """One with a connection of its own: feeds with the same clock would share one."""
    address = f"http://127.0.0.1:{port}"
    return ProgressFeed(address, token=jwt, clock=SystemClock(), chance=Random(seed), **QUICK)


@asynccontextmanager
async def _http(url: str, jwt: str) -> AsyncIterator[httpx.AsyncClient]:
    """Straight to the server."""
    headers = {"Authorization": f"Bearer {jwt}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as http:
        yield http


@asynccontextmanager
async def _consuming(consumers: Sequence[Consumer]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(consumer.run()) for consumer in consumers]
        yield
        for task in tasks:
            task.cancel()


async def _traffic(outcome: Outcome, http: httpx.AsyncClient, seconds: float) -> None:
    """Jobs come, fail, end and leave; a few of the first ones stay."""
    began, chance = time.monotonic(), Random(len(outcome.orders))
    sender = Sender(http, on_acknowledged=lambda _: None)
    while time.monotonic() - began < seconds:
        number = len(outcome.orders)
        least = 0 if number >= ROUNDS_THAT_STAY * JOBS_AT_ONCE else 1
        orders = [planned(f"{number}-{place}", ends=place >= least, chance=chance) for place in range(JOBS_AT_ONCE)]
        await sender.work_off(orders)
        outcome.orders += orders


async def _all_equal(outcome: Outcome, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    for consumer in outcome.consumers:
        await _until_equal(consumer, http, outcome.orders)
    outcome.caught_up_after.append(time.monotonic() - began)


async def _until_equal(consumer: Consumer, http: httpx.AsyncClient, orders: Sequence[Order]) -> None:
    difference = "nothing was compared"
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while difference := await _difference(consumer, http, orders):
                await _changed(consumer.feed)
    except TimeoutError:
        raise AssertionError(f"a feed never caught up: {difference}") from None
    assert consumer.out_of_order == []


async def _difference(consumer: Consumer, http: httpx.AsyncClient, orders: Sequence[Order]) -> str:
    """In what the feed differs from the server, in words."""
    answer = await http.get("/api/jobs", params={"limit": 1000, "dashboard": True})
    items = answer.raise_for_status().json()["items"]
    there = {job["job_id"]: {name: job[name] for name in FIELDS if name in job} for job in items}
    here = consumer.shown
    different = [job_id for job_id in here.keys() | there.keys() if here.get(job_id) != there.get(job_id)]
    unheard = [order.job_id for order in orders if consumer.knows(order) and not consumer.heard(order)]
    told = [f"here {here.get(job_id)}, there {there.get(job_id)}" for job_id in different]
    return "; ".join([*told, *(f"errors of {job_id} were not handed on" for job_id in unheard)])


async def _changed(feed: ProgressFeed) -> None:
    try:
        async with asyncio.timeout(LOOK_AGAIN_SECONDS):
            await feed.changed()
    except TimeoutError:
        return


def _mark(job_id: str, video_id: str, error: str) -> int:
    return hash((job_id, video_id, error))


async def test_feeds_over_a_bad_network_end_in_exactly_the_servers_state(tmp_path: Path) -> None:
    outcome = await play(tmp_path, FEEDS_IN_THE_GATE, SECONDS_IN_THE_GATE)
    print(outcome)
    assert outcome.line.cut
    assert outcome.line.silenced
    assert any(order.failures for order in outcome.orders)
    assert outcome.unseen < len(outcome.consumers) * len(outcome.orders) / 4


def main(feeds: int = FEEDS, seconds: float = SECONDS) -> None:
    allow_many_files()
    with tempfile.TemporaryDirectory() as home:
        print(asyncio.run(play(Path(home), feeds, seconds)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
