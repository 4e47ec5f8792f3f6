"""Many feeds over a network with cuts, delays, resets and silent connections: all end in exactly the server's state.

`python -m tests.acceptance.test_feeds [feeds] [seconds]` runs 200 feeds for two minutes and prints what happened. The
faults pause several times, until all feeds equal the server: the memory that is in use then was not released.
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
from tests.support.chaos_proxy import BAD, ChaosProxy, chaos_proxy
from tests.support.received import FIELDS, reported_failures
from tests.support.senders import Order, Sender, plan_order
from tests.support.server_runs import Server
from tests.support.servers import add_user

FEEDS_IN_THE_GATE, SECONDS_IN_THE_GATE = 20, 10.0
FEEDS, SECONDS = 200, 120.0
JOBS_AT_ONCE = 6
CATCH_UP_SECONDS = 150.0
COMPARE_AGAIN_SECONDS = 0.5
SPELLS = 4  # of faults
MAX_UNFINISHED_JOBS = 2  # a bounded number of jobs is shown, so the memory must be bounded too
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
    """A feed with one iteration over it, which remembers each error and each job's position."""

    feed: ProgressFeed
    # Hash of each error that it received.
    errors: set[int] = field(default_factory=set)
    # Number of updates that it received.
    updates: int = 0
    # The jobs of which an update came after a newer one; must stay empty.
    out_of_order: list[str] = field(default_factory=list)
    _positions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def run(self) -> None:
        async with self.feed:
            async for update in self.feed:
                self._record(update)

    def knows(self, order: Order) -> bool:
        """Return False for a job that came to the dashboard and left it while the connection was lost."""
        return order.job_id in self._positions

    def has_errors_of(self, order: Order) -> bool:
        """Return True if it received every failed video of this job with its own error."""
        failures = reported_failures(order)
        return all(_mark(order.job_id, video_id, error) in self.errors for video_id, error in failures.items())

    @property
    def shown(self) -> dict[str, Fields]:
        """The newest state of each job in the feed."""
        return {job_id: msgspec.to_builtins(update) for job_id, update in self.feed.job_progress.items()}

    def _record(self, update: ProgressUpdate) -> None:
        self.updates += 1
        if update.seq <= self._positions[update.job_id]:
            self.out_of_order.append(update.job_id)
        self._positions[update.job_id] = update.seq
        if isinstance(update.error, str) and update.video_id:
            self.errors.add(_mark(update.job_id, update.video_id, update.error))


@dataclass
class Outcome:
    """The results of a run."""

    consumers: Sequence[Consumer]
    proxy: ChaosProxy
    orders: list[Order] = field(default_factory=list)
    # Seconds without faults until all feeds equalled the server, after each spell.
    caught_up_after: list[float] = field(default_factory=list)
    # MiB of this process at that time; it holds the feeds and the proxy.
    memory: list[float] = field(default_factory=list)

    @property
    def unseen(self) -> int:
        """How often a job came to the dashboard and left it while a feed was not connected."""
        return sum(not consumer.knows(order) for consumer in self.consumers for order in self.orders)

    def __str__(self) -> str:
        delivered = sum(consumer.updates for consumer in self.consumers)
        errors = sum(len(order.failures) for order in self.orders)
        return (
            f"{len(self.consumers)} feeds, {len(self.orders)} jobs with {errors:,} failed videos, "
            f"{delivered:,} updates delivered; {self.proxy.connections:,} connections, {self.proxy.cut:,} cut, "
            f"{self.proxy.silenced:,} silenced; all equal after "
            f"{', '.join(f'{seconds:.1f}' for seconds in self.caught_up_after)} s without faults; "
            f"{self.unseen:,} of {len(self.consumers) * len(self.orders):,} times a job came and left unseen; "
            f"memory in MiB then: {', '.join(f'{mib:.0f}' for mib in self.memory)}"
        )


async def play(home: Path, feeds: int, seconds: float) -> Outcome:
    """Run traffic with faults for this time, in spells; after each spell wait until all feeds equal the server."""
    server = Server(home / "data", **SETTINGS)
    jwt = await asyncio.to_thread(add_user, home / "data", "ana")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        await server.start()
        proxy = await stack.enter_async_context(chaos_proxy(server.port, BAD, seed="feeds"))
        http = await stack.enter_async_context(_http(server.url, jwt))
        consumers = [Consumer(_feed(proxy.port, jwt, seed)) for seed in range(feeds)]
        await stack.enter_async_context(_consuming(consumers))
        outcome = Outcome(consumers, proxy)
        for _ in range(SPELLS):
            proxy.harm()
            await _run_jobs(outcome, http, seconds / SPELLS)
            proxy.calm()
            await _until_all_equal(outcome, http)
            outcome.memory.append(held_mib())
    return outcome


def _feed(port: int, jwt: str, seed: int) -> ProgressFeed:
    """Return a feed with a connection of its own; feeds with the same clock would share one."""
    address = f"http://127.0.0.1:{port}"
    return ProgressFeed(address, token=jwt, clock=SystemClock(), rng=Random(seed), **QUICK)


@asynccontextmanager
async def _http(url: str, jwt: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that reaches the server without the proxy."""
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


async def _run_jobs(outcome: Outcome, http: httpx.AsyncClient, seconds: float) -> None:
    """Run jobs that fail, end and leave the dashboard; the first job of the first two rounds never ends."""
    began, rng = time.monotonic(), Random(len(outcome.orders))
    sender = Sender(http, on_acknowledged=lambda _: None)
    while time.monotonic() - began < seconds:
        number = len(outcome.orders)
        unfinished = 1 if number < MAX_UNFINISHED_JOBS * JOBS_AT_ONCE else 0
        orders = [plan_order(f"{number}-{place}", ends=place >= unfinished, rng=rng) for place in range(JOBS_AT_ONCE)]
        await sender.send_all(orders)
        outcome.orders += orders


async def _until_all_equal(outcome: Outcome, http: httpx.AsyncClient) -> None:
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
    """Describe how the feed differs from the server; "" when it does not."""
    answer = await http.get("/api/jobs", params={"limit": 1000, "dashboard": True})
    items = answer.raise_for_status().json()["items"]
    server = {job["job_id"]: {name: job[name] for name in FIELDS if name in job} for job in items}
    feed = consumer.shown
    different = [job_id for job_id in feed.keys() | server.keys() if feed.get(job_id) != server.get(job_id)]
    incomplete = [order.job_id for order in orders if consumer.knows(order) and not consumer.has_errors_of(order)]
    states = [f"feed {feed.get(job_id)}, server {server.get(job_id)}" for job_id in different]
    return "; ".join([*states, *(f"errors of {job_id} were not delivered" for job_id in incomplete)])


async def _changed(feed: ProgressFeed) -> None:
    try:
        async with asyncio.timeout(COMPARE_AGAIN_SECONDS):
            await feed.changed()
    except TimeoutError:
        return


def _mark(job_id: str, video_id: str, error: str) -> int:
    return hash((job_id, video_id, error))


async def test_feeds_over_a_bad_network_end_in_the_servers_state(tmp_path: Path) -> None:
    outcome = await play(tmp_path, FEEDS_IN_THE_GATE, SECONDS_IN_THE_GATE)
    print(outcome)
    assert outcome.proxy.cut > 0
    assert outcome.proxy.silenced > 0
    assert any(order.failures for order in outcome.orders)
    assert outcome.unseen < len(outcome.consumers) * len(outcome.orders) / 4


def main(feeds: int = FEEDS, seconds: float = SECONDS) -> None:
    """Run many feeds and print what happened."""
    allow_many_files()
    with tempfile.TemporaryDirectory() as home:
        print(asyncio.run(play(Path(home), feeds, seconds)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
