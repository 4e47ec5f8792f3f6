"""The direct way of sending, over a real hub and store: slow and broken sockets do not hold up the others."""

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
from backend.delivery.batches import Change
from backend.delivery.hub import MAX_BATCHES, PART_BYTES
from backend.domain.job import Job
from backend.store.changes import NewJob
from tests.support.delivery import TIMEOUT_SECONDS, Delivery
from tests.support.in_memory_transport import HIGH_WATER_BYTES, MemoryTransport
from tests.support.jobs import a_job

LOOP_TURNS = 5  # in which the sender's task takes its turn


class RecordingTransport:
    """A `DirectTransport` that takes what is written until it is full, and parses it as a client would."""

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
    def received(self) -> list[dict[str, Any]]:
        """The messages in all that was taken."""
        client = ClientProtocol(parse_uri("ws://dashboard"), state=State.OPEN, max_size=2**20)
        client.receive_data(b"".join(self.taken))
        return [json.loads(bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


class BrokenTransport(RecordingTransport):
    """Raises an error whenever it is written to."""

    def offer(self, frames: bytes) -> bool:
        raise RuntimeError("the transport is broken")


@pytest.fixture
async def sender(delivery: Delivery) -> AsyncIterator[DirectSender]:
    direct = DirectSender(delivery.hub.wait_past)
    async with running(direct.run(), "sender"):
        yield direct


async def publish(delivery: Delivery, job: Job) -> None:
    """Store and show the state, and let the sender send it."""
    await delivery.publish(job)
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)


async def test_a_socket_that_keeps_up_gets_everything_in_order(delivery: Delivery, sender: DirectSender) -> None:
    job, transport = await delivery.add(), RecordingTransport()
    async with running(sender.send(transport, delivery.hub.reader("ana"), in_batches=False), "socket"):
        for failed in (1, 2, 3):
            await publish(delivery, job.evolve(failed=failed, error="cut off"))
    assert [update["failed"] for update in transport.received] == [0, 1, 2, 3]


async def test_sockets_in_step_are_sent_the_same_bytes(delivery: Delivery, sender: DirectSender) -> None:
    job, one, two = await delivery.add(), RecordingTransport(), RecordingTransport()
    async with (
        running(sender.send(one, delivery.hub.reader("ana"), in_batches=True), "one"),
        running(sender.send(two, delivery.hub.reader("ana"), in_batches=True), "two"),
    ):
        await publish(delivery, job.evolve(failed=1))
    assert len(one.taken) == 2
    assert all(first is second for first, second in zip(one.taken, two.taken, strict=True))


async def test_ticks_that_came_during_a_write_go_into_one_write(delivery: Delivery, sender: DirectSender) -> None:
    job, transport = await delivery.add(), RecordingTransport()
    async with running(sender.send(transport, delivery.hub.reader("ana"), in_batches=True), "socket"):
        await publish(delivery, job.evolve(failed=1))
        before = len(transport.taken)
        for failed in (2, 3):
            seq = delivery.hub.seq + 1
            delivery.hub.take([Change(job.evolve(failed=failed, seq=seq))])
            delivery.hub.publish()
        await publish(delivery, job.evolve(failed=4))
    assert len(transport.taken) <= before + 2
    assert [frame["updates"][0]["failed"] for frame in transport.received[-4:]] == [1, 2, 3, 4]
    assert [frame["prev"] for frame in transport.received[1:]] == [frame["seq"] for frame in transport.received[:-1]]


async def test_a_full_socket_gets_the_newest_state_once_drained(delivery: Delivery, sender: DirectSender) -> None:
    """A socket that takes nothing is left alone, and the others get every state meanwhile."""
    job, full, other = await delivery.add(), RecordingTransport(), RecordingTransport()
    async with (
        running(sender.send(full, delivery.hub.reader("ana"), in_batches=True), "full"),
        running(sender.send(other, delivery.hub.reader("ana"), in_batches=True), "other"),
    ):
        await publish(delivery, job.evolve(current_video=1))
        full.is_writable = False
        for number in range(2, MAX_BATCHES + 5):
            await publish(delivery, job.evolve(current_video=number))
        received_while_full = len(full.received)
        full.drain()
    assert received_while_full == 2
    assert len(other.received) == MAX_BATCHES + 5
    assert [frame["prev"] for frame in full.received[1:]] == [frame["seq"] for frame in full.received[:-1]]
    assert [update["current_video"] for update in full.received[-1]["updates"]] == [MAX_BATCHES + 4]


async def test_sending_to_a_stalled_socket_ends(delivery: Delivery, sender: DirectSender) -> None:
    transport = RecordingTransport()
    transport.stalled.set()
    with pytest.raises(Stalled):
        await sender.send(transport, delivery.hub.reader("ana"), in_batches=True)


async def test_one_broken_socket_does_not_hold_up_the_others(delivery: Delivery, sender: DirectSender) -> None:
    broken, good = BrokenTransport(), RecordingTransport()
    async with (
        running(sender.send(broken, delivery.hub.reader("ana"), in_batches=True), "broken"),
        running(sender.send(good, delivery.hub.reader("ana"), in_batches=True), "good"),
    ):
        await publish(delivery, await delivery.add())
    assert broken.is_aborted
    assert good.received[-1]["updates"]


async def test_a_large_snapshot_comes_in_parts_that_chain(delivery: Delivery, sender: DirectSender) -> None:
    """Each part is a frame that every client takes, and only the last one is not marked with `more`."""
    number, long = 400, "x" * 4_000
    for index in range(number):
        delivery.journal.stage_new(NewJob(job=a_job(id=f"job-{index}", message=long), columns=()))
    await delivery.journal.tick()
    transport = RecordingTransport()
    async with running(sender.send(transport, delivery.hub.reader("ana"), in_batches=True), "socket"):
        await publish(delivery, a_job(id="job-0", current_video=1))
    *parts, live = transport.received
    assert len(parts) == -(-number * 4_300 // PART_BYTES)
    assert [part["snapshot"] for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert [part.get("more", False) for part in parts] == [*[True] * (len(parts) - 1), False]
    assert [frame["prev"] for frame in transport.received[1:]] == [frame["seq"] for frame in transport.received[:-1]]
    assert len({update["job_id"] for part in parts for update in part["updates"]}) == number
    assert [update["current_video"] for update in live["updates"]] == [1]


class ImpatientProtocol(DirectProtocol):
    stalled_seconds = 0.5


async def test_a_slow_socket_is_stalled_only_when_it_takes_nothing() -> None:
    config = uvicorn.Config(_no_app, ws_ping_interval=None, log_config=None)
    config.load()
    protocol, transport = ImpatientProtocol(config, ServerState(), {}), MemoryTransport()
    transport.protocol = protocol
    protocol.connection_made(transport)
    assert protocol.offer(b"x" * 10 * HIGH_WATER_BYTES)
    for _ in range(30):  # three times as long, of a very slow reader
        transport.taken(1)
        await asyncio.sleep(0.05)
    assert not protocol.stalled.is_set()
    await asyncio.wait_for(protocol.stalled.wait(), TIMEOUT_SECONDS)
    protocol.connection_lost(None)


async def _no_app(scope: object, receive: object, send: object) -> None:
    """Do nothing: this handshake is never completed."""
