"""The direct way of delivery, over a real hub and store: who keeps up, who does not, and neither minds the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from backend.api.sending import DirectSender, Stalled
from backend.api.uvicorn_internals import DirectProtocol
from backend.app import running
from backend.delivery.hub import MAX_BATCHES, PART_BYTES, ProgressHub
from backend.domain.job import Job
from backend.store import JobStore, NewJob
from tests.support.clock import VirtualClock
from tests.support.jobs import a_job
from tests.support.in_memory_transport import MARK_BYTES, LineTransport


class Line:
    """An outlet in memory: takes what is written until it is full, and parses it as a client would."""

    def __init__(self) -> None:
        self.stalled = asyncio.Event()
        self.on_drained: Callable[[], None] = lambda: None
        self.is_writable = True
        self.is_aborted = False
        self.taken: list[bytes] = []

    def offer(self, frames: bytes) -> bool:
        if self.is_writable:
            self.taken.append(frames)
        return self.is_writable

    def abort_soon(self) -> None:
        self.is_aborted = True

    def drain(self) -> None:
        self.is_writable = True
        self.on_drained()

    @property
    def heard(self) -> list[dict[str, Any]]:
        """The messages in all that was taken."""
        client = ClientProtocol(parse_uri("ws://dashboard"), state=State.OPEN, max_size=2**20)
        client.receive_data(b"".join(self.taken))
        return [json.loads(bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


class BrokenLine(Line):
    def offer(self, frames: bytes) -> bool:
        raise RuntimeError("a transport in a bad mood")


@pytest.fixture
async def hub(store: JobStore) -> ProgressHub:
    loaded = ProgressHub(store, VirtualClock())
    await loaded.load()
    return loaded


@pytest.fixture
async def delivery(hub: ProgressHub) -> AsyncIterator[DirectSender]:
    direct = DirectSender(hub.beyond)
    async with running(direct.run(), "delivery"):
        yield direct


async def born(hub: ProgressHub, **given: object) -> Job:
    job = a_job(**given)
    hub.stage_new(NewJob(job=job, columns=()))
    await hub.tick()
    return job


async def told(hub: ProgressHub, job: Job) -> None:
    hub.stage(job, kept=True)
    await hub.tick()
    for _ in range(5):  # turns of the event loop: the delivery's task takes its one
        await asyncio.sleep(0)


async def test_a_line_that_keeps_up_hears_everything_in_order(hub: ProgressHub, delivery: DirectSender) -> None:
    job, line = await born(hub), Line()
    async with running(delivery.deliver(line, hub.reader("ana"), in_batches=False), "line"):
        for failed in (1, 2, 3):
            await told(hub, job.evolve(failed=failed, error="cut off"))
    assert [update["failed"] for update in line.heard] == [0, 1, 2, 3]


async def test_lines_in_step_are_given_the_same_bytes(hub: ProgressHub, delivery: DirectSender) -> None:
    job, lines = await born(hub), [Line(), Line()]
    async with (
        running(delivery.deliver(lines[0], hub.reader("ana"), in_batches=True), "one"),
        running(delivery.deliver(lines[1], hub.reader("ana"), in_batches=True), "two"),
    ):
        await told(hub, job.evolve(failed=1))
    assert len(lines[0].taken) == 2
    assert all(one is two for one, two in zip(lines[0].taken, lines[1].taken, strict=True))


async def test_a_full_line_is_left_alone_and_hears_the_newest_state_once_it_has_drained(
    hub: ProgressHub, delivery: DirectSender
) -> None:
    job, full, other = await born(hub), Line(), Line()
    async with (
        running(delivery.deliver(full, hub.reader("ana"), in_batches=True), "full"),
        running(delivery.deliver(other, hub.reader("ana"), in_batches=True), "other"),
    ):
        await told(hub, job.evolve(current_video=1))
        full.is_writable = False
        for number in range(2, MAX_BATCHES + 5):
            await told(hub, job.evolve(current_video=number))
        while_full = len(full.heard)
        full.drain()
    assert while_full == 2
    assert len(other.heard) == MAX_BATCHES + 5
    assert [frame["prev"] for frame in full.heard[1:]] == [frame["seq"] for frame in full.heard[:-1]]
    assert [update["current_video"] for update in full.heard[-1]["updates"]] == [MAX_BATCHES + 4]


async def test_a_line_that_takes_nothing_is_given_up(hub: ProgressHub, delivery: DirectSender) -> None:
    line = Line()
    line.stalled.set()
    with pytest.raises(Stalled):
        await delivery.deliver(line, hub.reader("ana"), in_batches=True)


async def test_one_broken_line_does_not_silence_the_others(hub: ProgressHub, delivery: DirectSender) -> None:
    broken, good = BrokenLine(), Line()
    async with (
        running(delivery.deliver(broken, hub.reader("ana"), in_batches=True), "broken"),
        running(delivery.deliver(good, hub.reader("ana"), in_batches=True), "good"),
    ):
        await told(hub, await born(hub))
    assert broken.is_aborted
    assert good.heard[-1]["updates"]


async def test_a_large_snapshot_comes_in_parts_that_chain_and_that_every_client_takes(
    hub: ProgressHub, delivery: DirectSender
) -> None:
    number, long = 400, "x" * 4_000
    for index in range(number):
        hub.stage_new(NewJob(job=a_job(id=f"job-{index}", message=long), columns=()))
    await hub.tick()
    line = Line()
    async with running(delivery.deliver(line, hub.reader("ana"), in_batches=True), "line"):
        await told(hub, a_job(id="job-0", current_video=1))
    *parts, live = line.heard
    assert len(parts) == -(-number * 4_300 // PART_BYTES)
    assert [part["snapshot"] for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert [part.get("more", False) for part in parts] == [*[True] * (len(parts) - 1), False]
    assert [frame["prev"] for frame in line.heard[1:]] == [frame["seq"] for frame in line.heard[:-1]]
    assert len({update["job_id"] for part in parts for update in part["updates"]}) == number
    assert [update["current_video"] for update in live["updates"]] == [1]


class Impatient(DirectProtocol):
    stalled_seconds = 0.5


async def test_a_slow_line_counts_as_stalled_only_when_it_takes_nothing() -> None:
    config = uvicorn.Config(_no_app, ws_ping_interval=None, log_config=None)
    config.load()
    protocol, transport = Impatient(config, ServerState(), {}), LineTransport()
    transport.protocol = protocol
    protocol.connection_made(transport)
    assert protocol.offer(b"x" * 10 * MARK_BYTES)
    for _ in range(30):  # three times as long, of a very slow reader
        transport.taken(1)
        await asyncio.sleep(0.05)
    assert not protocol.stalled.is_set()
    await asyncio.wait_for(protocol.stalled.wait(), 10)
    protocol.connection_lost(None)


async def _no_app(scope: object, receive: object, send: object) -> None:
    """Nothing is said in this handshake."""
