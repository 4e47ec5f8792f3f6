"""A feed over a simulated server: time moves by hand, and no byte is sent."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from progress_dashboard import FeedStopped, InvalidArgument, ProgressFeed, ProgressUpdate, ReadyState
from progress_dashboard.feed import Updates
from progress_dashboard.outbox import Outbox
from progress_dashboard.protocol import Status
from progress_dashboard.transport import (
    ConnectionLost,
    HistoryFailed,
    HistoryRefused,
    HistoryUnreachable,
    NoSuchJob,
)
from tests.support.clock import VirtualClock
from tests.unit.client.frames import Seqs, batch, frame, seqs, state

TOKEN = "a-secret-token"
WEEK_SECONDS = 604_800
LOOP_TURNS = 20  # in which all that has arrived is delivered
INTERNAL_ERROR = "The feed stopped because of an internal error; look into its log, then start it again."
NO_ANSWER = ConnectionLost("nothing answers")
REFUSAL = ConnectionLost("You are not signed in.", 1008)


class FakeTransport:
    """An open connection: `receives` brings frames to the client, `sent` has what the client sent."""

    def __init__(self) -> None:
        self._arriving: asyncio.Queue[bytes | str | ConnectionLost] = asyncio.Queue()
        self.sent: list[str] = []
        self.is_stuck = False
        self.is_closed = False

    def receives(self, *frames: bytes | str) -> None:
        for data in frames:
            self._arriving.put_nowait(data)

    def ends(self, code: int = 1006, reason: str = "it was cut") -> None:
        self._arriving.put_nowait(ConnectionLost(reason, code))

    async def receive(self) -> str | bytes:
        data = await self._arriving.get()
        if isinstance(data, ConnectionLost):
            raise ConnectionLost(data.reason, data.code)
        return data

    async def send(self, text: str) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()  # a dead peer takes nothing
        self.sent.append(text)

    async def close(self) -> None:
        self.is_closed = True


class FakeServer:
    """A `Network`: it opens connections unless `refusal` is set, and answers from `history_of`, after its `errors`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        # Time and `after` of each attempt to connect.
        self.attempts: list[tuple[float, int | None]] = []
        self.transports: list[FakeTransport] = []
        self.refusal: ConnectionLost | None = None
        self.history_of: defaultdict[str, list[ProgressUpdate]] = defaultdict(list)
        self.errors: list[Exception] = []
        # Job ID and `after` of each history request.
        self.requests: list[tuple[str, int]] = []
        # Cleared, history requests wait.
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_closed = False

    async def connect(self, *, after: int | None) -> FakeTransport:
        self.attempts.append((self._clock.monotonic(), after))
        if self.refusal:
            raise ConnectionLost(self.refusal.reason, self.refusal.code)
        self.transports.append(FakeTransport())
        return self.transports[-1]

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        self.requests.append((job_id, after))
        await self.answers.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [update for update in self.history_of[job_id] if update.seq > after][:limit]

    async def close(self) -> None:
        self.is_closed = True


class NoJitter(Random):
    """Leaves delays as they are."""

    def random(self) -> float:
        return 0.0


class Simulation:
    """A clock, a server, and feeds that follow it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = FakeServer(self.clock)

    def feed(self, **settings: Any) -> ProgressFeed:
        return ProgressFeed(clock=self.clock, rng=NoJitter(), network=self.server, **settings)

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[ProgressFeed]:
        """Yield a feed that has entered, and is connected if the server permits it."""
        async with self.feed(**settings) as feed:
            await self.run()
            yield feed

    async def run(self, seconds: float = 0) -> None:
        await self.clock.advance(seconds)

    @property
    def transport(self) -> FakeTransport:
        """The newest connection."""
        return self.server.transports[-1]

    @property
    def attempt_times(self) -> list[float]:
        return [time for time, _ in self.server.attempts]


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    yield Simulation()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a feed left tasks behind"


def shown(feed: ProgressFeed) -> dict[str, int]:
    return {job_id: update.seq for job_id, update in feed.job_progress.items()}


def failing(job_id: str, *numbers: int) -> list[ProgressUpdate]:
    """Return updates of a job, each with one more failed video than before."""
    return [state(job_id, seq, failed=failed, error=f"e{failed}") for failed, seq in enumerate(numbers, 1)]


async def take_waiting(updates: Updates) -> Seqs:
    """Take the updates that a consumer gets without waiting."""
    taken: list[ProgressUpdate] = []
    while True:
        taking = asyncio.ensure_future(anext(updates))
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            return seqs(taken)
        taken.append(taking.result())


# Updates


async def test_updates_are_delivered_and_the_newest_states_kept(sim: Simulation) -> None:
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)), batch(2, 3, state("a", 3, progress=5)))
        assert await take_waiting(updates) == [("a", 1), ("b", 2), ("a", 3)]
        assert shown(feed) == {"a": 3, "b": 2}
        assert feed.job_progress["a"].progress == 5


async def test_a_repeated_update_is_delivered_once(sim: Simulation) -> None:
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(frame(state("a", 1)), frame(state("a", 1)), frame(state("a", 2)))
        assert await take_waiting(updates) == [("a", 1), ("a", 2)]


async def test_a_job_that_the_server_removes_leaves(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 1, state("a", 1, Status.COMPLETED)), batch(1, 2, removed=["a"]))
        await sim.run()
        assert shown(feed) == {}


async def test_every_consumer_gets_every_update(sim: Simulation) -> None:
    async with sim.open() as feed:
        one, other = aiter(feed), aiter(feed)
        sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)))
        assert await take_waiting(one) == await take_waiting(other) == [("a", 1), ("b", 2)]


async def test_a_later_consumer_begins_with_the_newest_states(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 1, state("a", 1)), batch(1, 2, state("a", 2, progress=5)))
        await sim.run()
        updates = aiter(feed)
        sim.transport.receives(batch(2, 3, state("a", 3, progress=6)))
        assert await take_waiting(updates) == [("a", 2), ("a", 3)]


async def test_a_server_without_batches_will_do(sim: Simulation) -> None:
    sim.server.history_of["a"] = [
        state("a", 1),
        state("a", 3, failed=1, error="lost"),
        state("a", 4, failed=2, error="e"),
    ]
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(frame(state("a", 1)))
        assert await take_waiting(updates) == [("a", 1)]
        sim.transport.ends()
        await sim.run(3)
        sim.transport.receives(frame(state("a", 4, failed=2, error="e")))
        await sim.run(1)
        assert sim.server.attempts[-1] == (3, None)
        assert await take_waiting(updates) == [("a", 3), ("a", 4)]


async def test_without_batches_ended_jobs_leave_by_the_clients_clock(sim: Simulation) -> None:
    async with sim.open(heartbeat_interval_seconds=WEEK_SECONDS, heartbeat_timeout_seconds=WEEK_SECONDS) as feed:
        sim.transport.receives(
            frame(state("done", 1, Status.COMPLETED)),
            frame(state("failed", 2, Status.FAILED)),
            frame(state("active", 3)),
        )
        await sim.run(299)
        assert set(feed.job_progress) == {"done", "failed", "active"}
        await sim.run(61)
        assert set(feed.job_progress) == {"failed", "active"}
        await sim.run(86_400)
        assert set(feed.job_progress) == {"active"}


async def test_a_feed_must_be_entered_and_only_once(sim: Simulation) -> None:
    feed = sim.feed()
    assert (feed.ready_state, feed.is_connected, shown(feed)) == (ReadyState.CLOSED, False, {})
    with pytest.raises(RuntimeError, match="Enter the feed first"):
        aiter(feed)
    async with feed:
        with pytest.raises(RuntimeError, match="in use already"):
            await feed.__aenter__()


async def test_the_newest_states_stay_readable_after_leaving(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 1, state("a", 1)))
        await sim.run()
    assert shown(feed) == {"a": 1}
    assert (feed.ready_state, feed.stopped, feed.reconnecting) == (ReadyState.CLOSED, None, False)


# Reconnecting


async def test_ten_attempts_come_after_3_6_12_24_and_30_seconds(sim: Simulation) -> None:
    sim.server.refusal = NO_ANSWER
    async with sim.open() as feed:
        await sim.run(1_000)
        assert sim.attempt_times == [0, 3, 9, 21, 45, 75, 105, 135, 165, 195, 225]
        assert feed.stopped is not None
        assert "10 attempts" in feed.stopped.sentence
        with pytest.raises(FeedStopped, match="nothing answers"):
            await anext(aiter(feed))


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 1011, 1012, 1013])
async def test_it_reconnects_and_resumes_at_its_position(sim: Simulation, code: int) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 7, state("a", 7)))
        sim.transport.ends(code)
        await sim.run(2.9)
        assert (feed.reconnecting, feed.attempt, feed.ready_state) == (True, 1, ReadyState.CLOSED)
        await sim.run(0.1)
        assert sim.server.attempts == [(0, None), (3, 7)]
        assert (feed.reconnecting, feed.attempt, feed.ready_state) == (False, 0, ReadyState.OPEN)


async def test_a_refused_token_stops_it_with_the_servers_reason(sim: Simulation) -> None:
    sim.server.refusal = REFUSAL
    async with sim.open() as feed:
        await sim.run(1_000)
        assert sim.attempt_times == [0]
        with pytest.raises(FeedStopped, match=r"^You are not signed in\.$") as stopped:
            await anext(aiter(feed))
        assert stopped.value.code == 1008


async def test_a_token_that_ends_stops_it_after_the_last_update(sim: Simulation) -> None:
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 1, state("a", 1)))
        sim.transport.ends(1008, "Your token has ended; get a new one.")
        await sim.run(1_000)
        assert (await anext(updates)).seq == 1
        with pytest.raises(FeedStopped, match="get a new one"):
            await anext(updates)
        assert len(sim.server.attempts) == 1


async def test_a_server_that_drops_at_once_is_tried_ten_times(sim: Simulation) -> None:
    async with sim.open() as feed:
        for _ in range(400):
            if not sim.transport.is_closed:
                sim.transport.ends()
            await sim.run(1)
        assert sim.attempt_times == [0, 3, 9, 21, 45, 75, 105, 135, 165, 195, 225]
        assert feed.stopped is not None


async def test_a_useful_connection_restarts_the_count(sim: Simulation) -> None:
    sim.server.refusal = NO_ANSWER
    async with sim.open() as feed:
        await sim.run(30)
        assert feed.attempt == 4
        sim.server.refusal = None
        await sim.run(15)
        assert feed.is_connected
        sim.transport.receives(batch(None, 1, state("a", 1)))
        sim.transport.ends()
        await sim.run()
        assert (feed.attempt, feed.next_attempt_in) == (1, 3)


async def test_the_next_attempt_is_announced_and_can_be_made_now(sim: Simulation) -> None:
    sim.server.refusal = NO_ANSWER
    async with sim.open() as feed:
        await sim.run(1)
        assert (feed.next_attempt_in, feed.next_attempt_at) == (2, sim.clock.now() + timedelta(seconds=2))
        feed.retry_now()
        await sim.run()
        assert sim.attempt_times == [0, 1]
        assert (feed.attempt, feed.next_attempt_in) == (2, 6)


async def test_a_stopped_feed_starts_again_with_its_jobs(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 7, state("a", 7)))
        sim.server.refusal = REFUSAL
        sim.transport.ends()
        await sim.run(3)
        assert feed.stopped is not None
        sim.server.refusal = None
        feed.retry_now()
        await sim.run()
        assert (feed.is_connected, shown(feed)) == (True, {"a": 7})
        assert sim.server.attempts[-1] == (3, 7)


async def test_a_batch_out_of_step_makes_it_reconnect(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 7, state("a", 7)), batch(8, 9, state("a", 9)))
        await sim.run(3)
        assert sim.server.transports[0].is_closed
        assert sim.server.attempts[-1] == (3, 7)
        assert shown(feed) == {"a": 7}


# Heartbeat


async def test_silence_is_pinged_at_25_and_50_seconds_and_ends_at_60(sim: Simulation) -> None:
    async with sim.open() as feed:
        await sim.run(24.9)
        assert sim.transport.sent == []
        await sim.run(35)
        assert sim.transport.sent == ["ping", "ping"]
        assert feed.is_connected
        await sim.run(0.2)
        assert sim.transport.is_closed
        assert feed.reconnecting


async def test_each_frame_postpones_pings_and_keeps_the_connection(sim: Simulation) -> None:
    async with sim.open() as feed:
        for _ in range(10):
            await sim.run(24)
            sim.transport.receives("pong")
        await sim.run()
        assert sim.transport.sent == []
        assert feed.is_connected


async def test_a_dead_peer_that_takes_no_pings_is_given_up(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.is_stuck = True
        await sim.run(60)
        assert feed.reconnecting


# History


async def test_errors_missed_while_away_are_delivered_in_order(sim: Simulation) -> None:
    sim.server.history_of["a"] = [state("a", 1), *failing("a", 2, 3, 4)]
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 1, state("a", 1)))
        assert await take_waiting(updates) == [("a", 1)]
        sim.transport.ends()
        await sim.run(3)
        sim.transport.receives(batch(1, 4, sim.server.history_of["a"][-1]))
        await sim.run()
        assert shown(feed) == {"a": 4}
        await sim.run(0.2)
        assert await take_waiting(updates) == [("a", 2), ("a", 3), ("a", 4)]
        assert sim.server.requests == [("a", 1)]


async def test_a_long_history_is_requested_page_by_page(sim: Simulation) -> None:
    sim.server.history_of["a"] = failing("a", *range(1, 1_202))
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 1_201, sim.server.history_of["a"][-1]))
        await sim.run(1)
        assert sim.server.requests == [("a", 0), ("a", 500), ("a", 1_000)]
        assert await take_waiting(updates) == seqs(sim.server.history_of["a"])


async def test_four_histories_are_requested_at_once(sim: Simulation) -> None:
    jobs = [f"job-{number}" for number in range(9)]
    sim.server.history_of.update({job_id: failing(job_id, number) for number, job_id in enumerate(jobs, 1)})
    sim.server.answers.clear()
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 9, *[updates[0] for updates in sim.server.history_of.values()]))
        await sim.run(1)
        assert len(sim.server.requests) == 4
        sim.server.answers.set()
        await sim.run(1)
        assert len(await take_waiting(updates)) == 9


@pytest.mark.parametrize("error", [HistoryFailed("HTTP 503"), HistoryUnreachable("cut")])
async def test_a_failed_history_request_is_repeated(sim: Simulation, error: Exception) -> None:
    sim.server.history_of["a"] = failing("a", 1, 2)
    sim.server.errors = [error]
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 2, sim.server.history_of["a"][-1]))
        await sim.run(1)
        assert await take_waiting(updates) == []
        assert shown(feed) == {"a": 2}
        await sim.run(3)
        assert await take_waiting(updates) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("errors", [[HistoryRefused("HTTP 401")], [HistoryFailed("HTTP 500")] * 10])
async def test_held_updates_are_delivered_when_history_is_given_up(sim: Simulation, errors: list[Exception]) -> None:
    sim.server.errors = list(errors)
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 2, *failing("a", 2)))
        await sim.run(24)
        sim.transport.receives("pong")
        await sim.run(24)
        for _ in range(20):
            sim.transport.receives("pong")
            await sim.run(20)
        assert await take_waiting(updates) == [("a", 2)]
        assert sim.server.errors == []


async def test_a_job_that_history_does_not_know_is_removed(sim: Simulation) -> None:
    sim.server.errors = [NoSuchJob()]
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 2, *failing("a", 2)))
        await sim.run(1)
        assert shown(feed) == {}


async def test_answers_to_requests_of_an_earlier_connection_are_dropped(sim: Simulation) -> None:
    sim.server.history_of["a"] = failing("a", 1, 2)
    sim.server.answers.clear()
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 2, sim.server.history_of["a"][-1]))
        await sim.run(1)
        sim.transport.ends()
        await sim.run(1)
        sim.server.answers.set()
        await sim.run(5)
        assert sim.server.requests == [("a", 0), ("a", 0)]
        assert await take_waiting(updates) == [("a", 1), ("a", 2)]


# Monitored jobs


async def test_after_the_first_call_only_monitored_jobs_are_kept(sim: Simulation) -> None:
    async with sim.open() as feed:
        updates = aiter(feed)
        sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)))
        await sim.run()
        feed.monitor("b")
        sim.transport.receives(batch(2, 4, state("a", 3, progress=1), state("b", 4, progress=1)))
        assert await take_waiting(updates) == [("b", 2), ("b", 4)]
        assert shown(feed) == {"b": 4}
        feed.unmonitor("b")
        assert shown(feed) == {}


async def test_a_monitored_job_that_left_comes_from_history(sim: Simulation) -> None:
    end = state("old", 2, Status.COMPLETED)
    sim.server.history_of["old"] = [state("old", 1), end]
    feed = sim.feed()
    feed.monitor("old")
    async with feed:
        updates = aiter(feed)
        await sim.run()
        sim.transport.receives(batch(None, 9, state("other", 9)))
        await sim.run(1)
        assert await take_waiting(updates) == [("old", 1), ("old", 2)]
        assert shown(feed) == {"old": 2}
        for _ in range(18):
            sim.transport.receives("pong")
            await sim.run(20)
        assert shown(feed) == {}
        assert len(sim.server.transports) == 1


async def test_a_monitored_job_that_does_not_exist_is_not_shown(sim: Simulation) -> None:
    sim.server.errors = [NoSuchJob()]
    async with sim.open() as feed:
        feed.monitor("unknown")
        await sim.run(1)
        assert shown(feed) == {}
        assert sim.server.requests == [("unknown", 0)]


# A shared connection


async def test_feeds_share_a_connection_until_the_last_one_leaves(sim: Simulation) -> None:
    async with sim.open() as first:
        async with sim.open() as second:
            sim.transport.receives(batch(None, 1, state("a", 1)))
            await sim.run()
            assert shown(first) == shown(second) == {"a": 1}
        assert not sim.transport.is_closed
        assert first.is_connected
    assert len(sim.server.transports) == 1
    assert sim.transport.is_closed
    assert sim.server.is_closed


@pytest.mark.parametrize("other", [{"token": "another"}, {"url": "http://other:1"}, {"reconnect_attempts": 3}])
async def test_another_user_server_or_setting_is_another_connection(sim: Simulation, other: dict[str, Any]) -> None:
    async with sim.open(), sim.open(**other):
        assert len(sim.server.transports) == 2


async def test_each_feed_sees_the_jobs_that_it_monitors(sim: Simulation) -> None:
    async with sim.open() as everything, sim.open() as one_job:
        all_updates, its_updates = aiter(everything), aiter(one_job)
        one_job.monitor("b")
        sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)))
        await sim.run(1)
        assert (shown(everything), shown(one_job)) == ({"a": 1, "b": 2}, {"b": 2})
        assert (await take_waiting(all_updates), await take_waiting(its_updates)) == ([("a", 1), ("b", 2)], [("b", 2)])


async def test_a_job_that_another_feed_looked_up_is_not_shown(sim: Simulation) -> None:
    sim.server.history_of["old"] = [state("old", 1, Status.COMPLETED)]
    async with sim.open() as everything, sim.open() as one_job:
        updates = aiter(everything)
        sim.transport.receives(batch(None, 2, state("a", 2)))
        await sim.run()
        one_job.monitor("old")
        await sim.run(1)
        assert (shown(everything), shown(one_job)) == ({"a": 2}, {"old": 1})
        assert await take_waiting(updates) == [("a", 2)]


async def test_a_feed_of_all_jobs_joins_one_of_a_few_jobs(sim: Simulation) -> None:
    async with sim.open() as one_job:
        one_job.monitor("b")
        sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)))
        await sim.run()
        async with sim.open() as everything:
            sim.transport.receives(batch(None, 2, state("a", 1), state("b", 2)))
            await sim.run()
            assert (shown(everything), shown(one_job)) == ({"a": 1, "b": 2}, {"b": 2})
            assert sim.server.attempts == [(0, None), (0, None)]
        assert shown(one_job) == {"b": 2}


async def test_a_feed_that_joins_a_stopped_connection_retries_it(sim: Simulation) -> None:
    sim.server.refusal = REFUSAL
    async with sim.open() as first, sim.open() as second:
        assert len(sim.server.attempts) == 2
        assert first.stopped is not None
        assert second.stopped is not None


# Leaving


async def test_leaving_ends_each_iteration_without_an_error(sim: Simulation) -> None:
    async with sim.open() as feed:
        reading = asyncio.create_task(read_all(aiter(feed)))
        sim.transport.receives(batch(None, 1, state("a", 1)))
        await sim.run()
    assert await reading == [("a", 1)]


async def test_a_feed_can_be_left_while_another_one_stays(sim: Simulation) -> None:
    async with sim.open():
        async with sim.open() as feed:
            reading = asyncio.create_task(read_all(aiter(feed)))
            await sim.run()
        assert await reading == []


@pytest.mark.parametrize("refusal", [None, NO_ANSWER, REFUSAL])
@pytest.mark.parametrize("seconds", [None, 0, 0.1, 40])
async def test_it_can_be_left_at_any_moment(
    sim: Simulation, refusal: ConnectionLost | None, seconds: float | None
) -> None:
    sim.server.refusal = refusal
    async with sim.feed() as feed:
        await feed.send_json({"type": "hello"})
        feed.monitor("a")
        if seconds is not None:
            await sim.run(seconds)
    assert all(transport.is_closed for transport in sim.server.transports)


async def test_a_feed_can_be_entered_again(sim: Simulation) -> None:
    feed = sim.feed()
    for _ in range(2):
        async with feed:
            await sim.run()
            assert feed.is_connected
    assert len(sim.server.transports) == 2


async def read_all(updates: Updates) -> Seqs:
    return seqs([update async for update in updates])


# Sending


async def test_messages_wait_for_the_next_connection(sim: Simulation) -> None:
    async with sim.feed() as feed:
        await feed.send_json({"n": 1})
        await sim.run(1)
        assert sim.transport.sent == ['{"n":1}']
        sim.transport.ends()
        await sim.run(1)
        await feed.send_json({"n": 2})
        await feed.send_json({"n": 3})
        await sim.run(5)
        assert sim.transport.sent == ['{"n":2}', '{"n":3}']


async def test_ten_messages_a_second_are_sent(sim: Simulation) -> None:
    async with sim.open() as feed:
        for number in range(30):
            await feed.send_json(number)
        await sim.run(0.95)
        assert len(sim.transport.sent) == 10
        await sim.run(5)
        assert len(sim.transport.sent) == 30


async def test_a_message_that_a_dead_peer_did_not_take_is_sent_later(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.is_stuck = True
        await feed.send_json({"n": 1})
        await sim.run(70)
        assert sim.server.transports[0].sent == []
        assert sim.transport.sent == ['{"n":1}']


async def test_a_hundred_messages_are_queued_and_the_next_one_waits(sim: Simulation) -> None:
    sim.server.refusal = NO_ANSWER
    async with sim.open() as feed:
        for number in range(100):
            await feed.send_json(number)
        late = asyncio.create_task(feed.send_json("late"))
        await sim.run()
        assert not late.done()
        sim.server.refusal = None
        await sim.run(15)
        assert late.done()
        assert len(sim.transport.sent) == 101


async def test_a_message_that_waits_fails_when_the_feed_stops(sim: Simulation) -> None:
    sim.server.refusal = NO_ANSWER
    async with sim.open() as feed:
        for number in range(100):
            await feed.send_json(number)
        late = asyncio.create_task(feed.send_json("late"))
        await sim.run(1_000)
        with pytest.raises(FeedStopped, match="10 attempts"):
            await late


async def test_a_message_over_64_kib_is_refused(sim: Simulation) -> None:
    async with sim.open() as feed:
        with pytest.raises(InvalidArgument, match="64 KiB"):
            await feed.send_json("x" * 65_536)


# Consumers


def count_outboxes() -> int:
    gc.collect()
    return sum(isinstance(it, Outbox) for it in gc.get_objects())


async def test_nothing_is_kept_for_a_released_consumer(sim: Simulation) -> None:
    async with sim.open() as feed:
        sim.transport.receives(batch(None, 1, state("a", 1)))
        before = count_outboxes()
        async for _ in feed:
            break
        assert count_outboxes() == before


# Addresses and tokens


@pytest.mark.parametrize(
    "given", ["localhost:8000", "ftp://localhost", "http://", "http://me:secret@host", "http://a:b"]
)
def test_a_bad_address_is_refused_in_one_sentence(given: str) -> None:
    """The sentence does not repeat the address, which may have a password in it."""
    with pytest.raises(InvalidArgument, match=r"^That is not the address of a dashboard; write one such as \S+\.$"):
        ProgressFeed(given)


@pytest.mark.parametrize("token", ["two words", "line\r\nX-Forged: yes", "tökén"])
def test_a_bad_token_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^That is not a token; use one that the dashboard's `token` command prints\.$"
    ):
        ProgressFeed("http://localhost:8000", token=token)


def test_a_token_is_taken_out_of_the_address() -> None:
    feed = ProgressFeed(f"ws://localhost:8000/api/ws/progress?token={TOKEN}")
    assert repr(feed) == "ProgressFeed('http://localhost:8000')"


def test_without_arguments_it_uses_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_URL", f"https://ops.example/videos?token={TOKEN}")
    assert repr(ProgressFeed()) == "ProgressFeed('https://ops.example/videos')"


async def test_an_internal_error_stops_it_and_is_logged(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    async with sim.open() as feed:
        sim.server.errors = [ZeroDivisionError()]
        sim.transport.receives(batch(None, 2, *failing("a", 2)))
        with caplog.at_level(logging.ERROR):
            await sim.run(1)
        assert feed.stopped is not None
        assert feed.stopped.sentence == INTERNAL_ERROR
        assert "ZeroDivisionError" in caplog.text
