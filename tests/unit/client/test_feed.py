"""A feed over a line of paper: time moves by hand, nothing is sent anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from backend.errors import Invalid
from progress_dashboard import FeedStopped, ProgressFeed, ProgressUpdate, ReadyState
from progress_dashboard.feed import Updates
from progress_dashboard.outbox import ALL_KEPT, Outbox
from progress_dashboard.protocol import Status
from progress_dashboard.transport import (
    Address,
    HistoryFailed,
    HistoryRefused,
    HistoryUnreachable,
    LineEnded,
    NoSuchJob,
)
from tests.support.clock import VirtualClock
from tests.support.jobs import a_job

Seqs = list[tuple[str, int]]
TOKEN = "a-secret-token"
REFUSAL = LineEnded("You are not signed in.", 1008)


class PaperLine:
    """An open connection: what is put into `frames` arrives, what is sent is in `sent`."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | str | LineEnded] = asyncio.Queue()
        self.sent: list[str] = []
        self.takes = True
        self.is_closed = False

    def says(self, *frames: bytes | str) -> None:
        for frame in frames:
            self.frames.put_nowait(frame)

    def ends(self, code: int = 1006, words: str = "it was cut") -> None:
        self.frames.put_nowait(LineEnded(words, code))

    async def receive(self) -> str | bytes:
        frame = await self.frames.get()
        if isinstance(frame, LineEnded):
            raise LineEnded(frame.words, frame.code)
        return frame

    async def send(self, text: str) -> None:
        if not self.takes:
            await asyncio.Event().wait()  # a dead peer takes nothing
        self.sent.append(text)

    async def close(self) -> None:
        self.is_closed = True


class PaperNetwork:
    """A server: it opens lines unless `refusing`, and answers from `told` or with the next of `troubles`."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.attempts: list[tuple[float, int | None]] = []
        self.lines: list[PaperLine] = []
        self.refusing: LineEnded | None = None
        self.told: defaultdict[str, list[ProgressUpdate]] = defaultdict(list)
        self.troubles: list[Exception] = []
        self.questions: list[tuple[str, int]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.is_closed = False

    @property
    def line(self) -> PaperLine:
        return self.lines[-1]

    async def connect(self, *, after: int | None) -> PaperLine:
        self.attempts.append((self.clock.monotonic(), after))
        if self.refusing:
            raise LineEnded(self.refusing.words, self.refusing.code)
        self.lines.append(PaperLine())
        return self.lines[-1]

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        self.questions.append((job_id, after))
        await self.answering.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        return [update for update in self.told[job_id] if update.seq > after][:limit]

    async def close(self) -> None:
        self.is_closed = True


class NoChance(Random):
    """Delays as they are."""

    def random(self) -> float:
        return 0.0


class Scene:
    """A server of paper, a clock, and feeds over them."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.network = PaperNetwork(self.clock)

    def feed(self, **settings: Any) -> ProgressFeed:
        return ProgressFeed(clock=self.clock, chance=NoChance(), network=self.network, **settings)

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[ProgressFeed]:
        """A feed that is connected, with whatever the server lets it."""
        async with self.feed(**settings) as feed:
            await self.settle()
            yield feed

    async def settle(self, seconds: float = 0) -> None:
        await self.clock.advance(seconds)

    @property
    def moments(self) -> list[float]:
        return [moment for moment, _ in self.network.attempts]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    yield Scene()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a feed left tasks behind"


def state(job_id: str, seq: int, status: Status = Status.PROCESSING, **given: Any) -> ProgressUpdate:
    return a_job(id=job_id, seq=seq, status=status, **given).update()


def batch(prev: int | None, seq: int, *updates: ProgressUpdate, removed: Iterable[str] = ()) -> bytes:
    """A frame of `format=batch`; `prev` None: a snapshot."""
    told = {"type": "updates", "prev": prev or 0, "seq": seq, "snapshot": prev is None, "updates": updates}
    return msgspec.json.encode({**told, "removed": list(removed)})


def frame(update: ProgressUpdate) -> bytes:
    return msgspec.json.encode(update)


def seqs(updates: Iterable[ProgressUpdate]) -> Seqs:
    return [(update.job_id, update.seq) for update in updates]


def shown(feed: ProgressFeed) -> dict[str, int]:
    return {job_id: update.seq for job_id, update in feed.job_progress.items()}


async def waiting(updates: Updates) -> Seqs:
    """What a consumer gets without waiting."""
    taken = []
    try:
        while True:
            async with asyncio.timeout(0.005):
                taken.append(await anext(updates))
    except TimeoutError:
        return seqs(taken)


# Following


async def test_updates_are_handed_on_and_the_newest_state_of_each_job_is_kept(scene: Scene) -> None:
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)), batch(2, 3, state("a", 3, progress=5)))
        assert await waiting(updates) == [("a", 1), ("b", 2), ("a", 3)]
        assert shown(feed) == {"a": 3, "b": 2}
        assert feed.job_progress["a"].progress == 5


async def test_what_is_repeated_is_handed_on_once(scene: Scene) -> None:
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(frame(state("a", 1)), frame(state("a", 1)), frame(state("a", 2)))
        assert await waiting(updates) == [("a", 1), ("a", 2)]


async def test_a_job_that_the_server_removes_leaves(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 1, state("a", 1, Status.COMPLETED)), batch(1, 2, removed=["a"]))
        await scene.settle()
        assert shown(feed) == {}


async def test_every_consumer_gets_everything(scene: Scene) -> None:
    async with scene.open() as feed:
        one, other = aiter(feed), aiter(feed)
        scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)))
        assert await waiting(one) == await waiting(other) == [("a", 1), ("b", 2)]


async def test_a_consumer_that_comes_later_begins_with_the_newest_states(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 1, state("a", 1)), batch(1, 2, state("a", 2, progress=5)))
        await scene.settle()
        updates = aiter(feed)
        scene.network.line.says(batch(2, 3, state("a", 3, progress=6)))
        assert await waiting(updates) == [("a", 2), ("a", 3)]


async def test_the_feed_of_a_server_without_batches_is_the_same(scene: Scene) -> None:
    scene.network.told["a"] = [state("a", 1), state("a", 3, failed=1, error="lost"), state("a", 4, failed=2, error="e")]
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(frame(state("a", 1)))
        assert await waiting(updates) == [("a", 1)]
        scene.network.line.ends()
        await scene.settle(3)
        scene.network.line.says(frame(state("a", 4, failed=2, error="e")))
        await scene.settle(1)
        assert scene.network.attempts[-1] == (3, None)
        assert await waiting(updates) == [("a", 3), ("a", 4)]


async def test_ended_jobs_leave_by_the_clients_own_clock_when_the_server_says_nothing_of_it(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(
            frame(state("done", 1, Status.COMPLETED)),
            frame(state("broken", 2, Status.FAILED)),
            frame(state("at work", 3)),
        )
        await scene.settle(299)
        assert set(feed.job_progress) == {"done", "broken", "at work"}
        await scene.settle(61)
        assert set(feed.job_progress) == {"broken", "at work"}
        await scene.settle(86_400)
        assert set(feed.job_progress) == {"at work"}


async def test_a_feed_is_used_by_entering_it(scene: Scene) -> None:
    feed = scene.feed()
    assert (feed.ready_state, feed.is_connected, shown(feed)) == (ReadyState.CLOSED, False, {})
    with pytest.raises(RuntimeError, match="Enter the feed first"):
        aiter(feed)
    async with feed:
        with pytest.raises(RuntimeError, match="in use already"):
            await feed.__aenter__()


async def test_the_newest_states_stay_readable_after_leaving(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 1, state("a", 1)))
        await scene.settle()
    assert shown(feed) == {"a": 1}
    assert (feed.ready_state, feed.stopped, feed.reconnecting) == (ReadyState.CLOSED, None, False)


# Coming back


async def test_the_attempts_come_after_3_6_12_24_and_30_seconds_and_the_tenth_is_the_last(scene: Scene) -> None:
    scene.network.refusing = LineEnded("nothing answers")
    async with scene.open() as feed:
        await scene.settle(1_000)
        assert scene.moments == [0, 3, 9, 21, 45, 75, 105, 135, 165, 195, 225]
        assert feed.stopped is not None
        assert "10 attempts" in feed.stopped.sentence
        with pytest.raises(FeedStopped, match="nothing answers"):
            await anext(aiter(feed))


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 1011, 1012, 1013])
async def test_a_closed_connection_comes_back_and_resumes_where_it_was(scene: Scene, code: int) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 7, state("a", 7)))
        scene.network.line.ends(code)
        await scene.settle(2.9)
        assert (feed.reconnecting, feed.attempt, feed.ready_state) == (True, 1, ReadyState.CLOSED)
        await scene.settle(0.1)
        assert scene.network.attempts == [(0, None), (3, 7)]
        assert (feed.reconnecting, feed.attempt, feed.ready_state) == (False, 0, ReadyState.OPEN)


async def test_a_refused_token_is_one_attempt_and_stops_with_the_servers_words(scene: Scene) -> None:
    scene.network.refusing = REFUSAL
    async with scene.open() as feed:
        await scene.settle(1_000)
        assert scene.moments == [0]
        with pytest.raises(FeedStopped, match=r"^You are not signed in\.$") as stopped:
            await anext(aiter(feed))
        assert stopped.value.code == 1008


async def test_a_token_that_ends_on_a_live_connection_stops_it_after_what_was_heard(scene: Scene) -> None:
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 1, state("a", 1)))
        scene.network.line.ends(1008, "Your token has ended; get a new one.")
        await scene.settle(1_000)
        assert (await anext(updates)).seq == 1
        with pytest.raises(FeedStopped, match="get a new one"):
            await anext(updates)
        assert len(scene.network.attempts) == 1


async def test_what_accepts_and_drops_at_once_is_not_tried_for_ever(scene: Scene) -> None:
    async with scene.open() as feed:
        for _ in range(400):
            if not scene.network.line.is_closed:
                scene.network.line.ends()
            await scene.settle(1)
        assert scene.moments == [0, 3, 9, 21, 45, 75, 105, 135, 165, 195, 225]
        assert feed.stopped is not None


async def test_a_good_connection_begins_the_count_anew(scene: Scene) -> None:
    scene.network.refusing = LineEnded("nothing answers")
    async with scene.open() as feed:
        await scene.settle(30)
        assert feed.attempt == 4
        scene.network.refusing = None
        await scene.settle(15)
        assert feed.is_connected
        scene.network.line.says(batch(None, 1, state("a", 1)))
        scene.network.line.ends()
        await scene.settle()
        assert (feed.attempt, feed.next_attempt_in) == (1, 3)


async def test_the_next_attempt_can_be_foretold_and_hurried(scene: Scene) -> None:
    scene.network.refusing = LineEnded("nothing answers")
    async with scene.open() as feed:
        await scene.settle(1)
        assert (feed.next_attempt_in, feed.next_attempt_at) == (2, scene.clock.now() + timedelta(seconds=2))
        feed.retry_now()
        await scene.settle()
        assert scene.moments == [0, 1]
        assert (feed.attempt, feed.next_attempt_in) == (2, 6)


async def test_a_stopped_feed_starts_again_with_what_it_knew(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 7, state("a", 7)))
        scene.network.refusing = REFUSAL
        scene.network.line.ends()
        await scene.settle(3)
        assert feed.stopped is not None
        scene.network.refusing = None
        feed.retry_now()
        await scene.settle()
        assert (feed.is_connected, shown(feed)) == (True, {"a": 7})
        assert scene.network.attempts[-1] == (3, 7)


async def test_a_batch_that_does_not_follow_on_is_asked_for_again(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 7, state("a", 7)), batch(8, 9, state("a", 9)))
        await scene.settle(3)
        assert scene.network.lines[0].is_closed
        assert scene.network.attempts[-1] == (3, 7)
        assert shown(feed) == {"a": 7}


# Heartbeat


async def test_a_silent_line_is_pinged_after_25_and_50_seconds_and_dead_after_60(scene: Scene) -> None:
    async with scene.open() as feed:
        line = scene.network.line
        await scene.settle(24.9)
        assert line.sent == []
        await scene.settle(35)
        assert line.sent == ["ping", "ping"]
        assert feed.is_connected
        await scene.settle(0.2)
        assert line.is_closed
        assert feed.reconnecting


async def test_every_sign_of_life_spares_pings_and_keeps_the_line(scene: Scene) -> None:
    async with scene.open() as feed:
        for _ in range(10):
            await scene.settle(24)
            scene.network.line.says("pong")
        await scene.settle()
        assert scene.network.line.sent == []
        assert feed.is_connected


async def test_a_dead_line_that_takes_no_pings_is_given_up_all_the_same(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.takes = False
        await scene.settle(60)
        assert feed.reconnecting


# History


def failing(job_id: str, *numbers: int) -> list[ProgressUpdate]:
    """Updates of a job, each with one more error than before."""
    return [state(job_id, seq, failed=failed, error=f"e{failed}") for failed, seq in enumerate(numbers, 1)]


async def test_errors_missed_while_away_are_handed_on_in_their_place(scene: Scene) -> None:
    scene.network.told["a"] = [state("a", 1), *failing("a", 2, 3, 4)]
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 1, state("a", 1)))
        assert await waiting(updates) == [("a", 1)]
        scene.network.line.ends()
        await scene.settle(3)
        scene.network.line.says(batch(1, 4, scene.network.told["a"][-1]))
        await scene.settle()
        assert shown(feed) == {"a": 4}
        await scene.settle(0.2)
        assert await waiting(updates) == [("a", 2), ("a", 3), ("a", 4)]
        assert scene.network.questions == [("a", 1)]


async def test_a_long_history_is_asked_for_page_by_page(scene: Scene) -> None:
    scene.network.told["a"] = [*failing("a", *range(1, 1_202))]
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 1_201, scene.network.told["a"][-1]))
        await scene.settle(1)
        assert scene.network.questions == [("a", 0), ("a", 500), ("a", 1_000)]
        assert await waiting(updates) == seqs(scene.network.told["a"])


async def test_a_few_jobs_at_once_are_asked_about(scene: Scene) -> None:
    jobs = [f"job-{number}" for number in range(9)]
    scene.network.told.update({job_id: failing(job_id, number) for number, job_id in enumerate(jobs, 1)})
    scene.network.answering.clear()
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 9, *[told[0] for told in scene.network.told.values()]))
        await scene.settle(1)
        assert len(scene.network.questions) == 4
        scene.network.answering.set()
        await scene.settle(1)
        assert len(await waiting(updates)) == 9


@pytest.mark.parametrize("trouble", [HistoryFailed("HTTP 503"), HistoryUnreachable("cut")])
async def test_history_that_fails_is_asked_again(scene: Scene, trouble: Exception) -> None:
    scene.network.told["a"] = failing("a", 1, 2)
    scene.network.troubles = [trouble]
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 2, scene.network.told["a"][-1]))
        await scene.settle(1)
        assert await waiting(updates) == []
        assert shown(feed) == {"a": 2}
        await scene.settle(3)
        assert await waiting(updates) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("troubles", [[HistoryRefused("HTTP 401")], [HistoryFailed("HTTP 500")] * 10])
async def test_what_history_will_not_say_is_gone_without(scene: Scene, troubles: list[Exception]) -> None:
    scene.network.troubles = troubles
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 2, *failing("a", 2)))
        await scene.settle(24)
        scene.network.line.says("pong")
        await scene.settle(24)
        for _ in range(20):
            scene.network.line.says("pong")
            await scene.settle(20)
        assert await waiting(updates) == [("a", 2)]
        assert scene.network.troubles == []


async def test_a_job_that_history_does_not_know_is_no_more(scene: Scene) -> None:
    scene.network.troubles = [NoSuchJob()]
    async with scene.open() as feed:
        scene.network.line.says(batch(None, 2, *failing("a", 2)))
        await scene.settle(1)
        assert shown(feed) == {}


async def test_answers_that_come_after_the_connection_are_thrown_away(scene: Scene) -> None:
    scene.network.told["a"] = failing("a", 1, 2)
    scene.network.answering.clear()
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 2, scene.network.told["a"][-1]))
        await scene.settle(1)
        scene.network.line.ends()
        await scene.settle(1)
        scene.network.answering.set()
        await scene.settle(5)
        assert scene.network.questions == [("a", 0), ("a", 0)]
        assert await waiting(updates) == [("a", 1), ("a", 2)]


# Monitored jobs


async def test_from_the_first_call_on_only_monitored_jobs_are_kept(scene: Scene) -> None:
    async with scene.open() as feed:
        updates = aiter(feed)
        scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)))
        await scene.settle()
        feed.monitor("b")
        scene.network.line.says(batch(2, 4, state("a", 3, progress=1), state("b", 4, progress=1)))
        assert await waiting(updates) == [("b", 2), ("b", 4)]
        assert shown(feed) == {"b": 4}
        feed.unmonitor("b")
        assert shown(feed) == {}


async def test_a_monitored_job_that_left_the_dashboard_is_told_by_history(scene: Scene) -> None:
    end = state("old", 2, Status.COMPLETED)
    scene.network.told["old"] = [state("old", 1), end]
    feed = scene.feed()
    feed.monitor("old")
    async with feed:
        updates = aiter(feed)
        await scene.settle()
        scene.network.line.says(batch(None, 9, state("other", 9)))
        await scene.settle(1)
        assert await waiting(updates) == [("old", 1), ("old", 2)]
        assert shown(feed) == {"old": 2}
        for _ in range(18):
            scene.network.line.says("pong")
            await scene.settle(20)
        assert shown(feed) == {}
        assert len(scene.network.lines) == 1


async def test_a_monitored_job_that_does_not_exist_is_not_shown(scene: Scene) -> None:
    scene.network.troubles = [NoSuchJob()]
    async with scene.open() as feed:
        feed.monitor("nobody's")
        await scene.settle(1)
        assert shown(feed) == {}
        assert scene.network.questions == [("nobody's", 0)]


# One connection for all


async def test_feeds_of_the_same_user_share_a_connection_until_the_last_one_leaves(scene: Scene) -> None:
    async with scene.open() as first:
        async with scene.open() as second:
            scene.network.line.says(batch(None, 1, state("a", 1)))
            await scene.settle()
            assert shown(first) == shown(second) == {"a": 1}
        assert not scene.network.line.is_closed
        assert first.is_connected
    assert len(scene.network.lines) == 1
    assert scene.network.line.is_closed
    assert scene.network.is_closed


@pytest.mark.parametrize("other", [{"token": "another"}, {"url": "http://elsewhere:1"}, {"reconnect_attempts": 3}])
async def test_another_user_server_or_setting_has_a_connection_of_its_own(scene: Scene, other: dict[str, Any]) -> None:
    async with scene.open(), scene.open(**other):
        assert len(scene.network.lines) == 2


async def test_each_feed_sees_the_jobs_that_it_monitors(scene: Scene) -> None:
    async with scene.open() as everything, scene.open() as one_job:
        all_updates, its_updates = aiter(everything), aiter(one_job)
        one_job.monitor("b")
        scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)))
        await scene.settle(1)
        assert (shown(everything), shown(one_job)) == ({"a": 1, "b": 2}, {"b": 2})
        assert (await waiting(all_updates), await waiting(its_updates)) == ([("a", 1), ("b", 2)], [("b", 2)])


async def test_a_job_that_only_another_feed_looked_up_is_not_on_ones_dashboard(scene: Scene) -> None:
    scene.network.told["old"] = [state("old", 1, Status.COMPLETED)]
    async with scene.open() as everything, scene.open() as one_job:
        updates = aiter(everything)
        scene.network.line.says(batch(None, 2, state("a", 2)))
        await scene.settle()
        one_job.monitor("old")
        await scene.settle(1)
        assert (shown(everything), shown(one_job)) == ({"a": 2}, {"old": 1})
        assert await waiting(updates) == [("a", 2)]


async def test_who_wants_all_jobs_after_others_wanted_a_few_gets_them(scene: Scene) -> None:
    async with scene.open() as one_job:
        one_job.monitor("b")
        scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)))
        await scene.settle()
        async with scene.open() as everything:
            scene.network.line.says(batch(None, 2, state("a", 1), state("b", 2)))
            await scene.settle()
            assert (shown(everything), shown(one_job)) == ({"a": 1, "b": 2}, {"b": 2})
            assert scene.network.attempts == [(0, None), (0, None)]
        assert shown(one_job) == {"b": 2}


async def test_a_feed_that_joins_a_stopped_connection_tries_it_once_more(scene: Scene) -> None:
    scene.network.refusing = REFUSAL
    async with scene.open() as first, scene.open() as second:
        assert len(scene.network.attempts) == 2
        assert first.stopped is not None
        assert second.stopped is not None


# Leaving


async def test_leaving_ends_every_iteration_quietly(scene: Scene) -> None:
    async with scene.open() as feed:
        reading = asyncio.create_task(_read_all(aiter(feed)))
        scene.network.line.says(batch(None, 1, state("a", 1)))
        await scene.settle()
    assert await reading == [("a", 1)]


async def test_a_feed_can_be_left_while_the_other_one_stays(scene: Scene) -> None:
    async with scene.open():
        async with scene.open() as feed:
            reading = asyncio.create_task(_read_all(aiter(feed)))
            await scene.settle()
        assert await reading == []


@pytest.mark.parametrize("refusing", [None, LineEnded("nothing answers"), REFUSAL])
@pytest.mark.parametrize("seconds", [None, 0, 0.1, 40])
async def test_it_can_be_left_at_any_moment(scene: Scene, refusing: LineEnded | None, seconds: float | None) -> None:
    scene.network.refusing = refusing
    async with scene.feed() as feed:
        await feed.send_json({"type": "hello"})
        feed.monitor("a")
        if seconds is not None:
            await scene.settle(seconds)
    assert all(line.is_closed for line in scene.network.lines)


async def test_a_feed_may_be_entered_again(scene: Scene) -> None:
    feed = scene.feed()
    for _ in range(2):
        async with feed:
            await scene.settle()
            assert feed.is_connected
    assert len(scene.network.lines) == 2


async def _read_all(updates: Updates) -> Seqs:
    return seqs([update async for update in updates])


# Sending


async def test_messages_wait_for_the_first_connection_and_between_connections(scene: Scene) -> None:
    async with scene.feed() as feed:
        await feed.send_json({"n": 1})
        await scene.settle(1)
        assert scene.network.line.sent == ['{"n":1}']
        scene.network.line.ends()
        await scene.settle(1)
        await feed.send_json({"n": 2})
        await feed.send_json({"n": 3})
        await scene.settle(5)
        assert scene.network.line.sent == ['{"n":2}', '{"n":3}']


async def test_many_messages_are_not_said_all_at_once(scene: Scene) -> None:
    async with scene.open() as feed:
        for number in range(30):
            await feed.send_json(number)
        await scene.settle(0.95)
        assert len(scene.network.line.sent) == 10
        await scene.settle(5)
        assert len(scene.network.line.sent) == 30


async def test_a_message_on_a_line_that_takes_none_goes_over_the_next_one(scene: Scene) -> None:
    async with scene.open() as feed:
        scene.network.line.takes = False
        await feed.send_json({"n": 1})
        await scene.settle(70)
        assert scene.network.lines[0].sent == []
        assert scene.network.line.sent == ['{"n":1}']


async def test_a_hundred_messages_wait_and_one_more_waits_for_its_place(scene: Scene) -> None:
    scene.network.refusing = LineEnded("nothing answers")
    async with scene.open() as feed:
        for number in range(100):
            await feed.send_json(number)
        late = asyncio.create_task(feed.send_json("late"))
        await scene.settle()
        assert not late.done()
        scene.network.refusing = None
        await scene.settle(15)
        assert late.done()
        assert len(scene.network.line.sent) == 101


async def test_who_waits_to_send_hears_that_the_feed_stopped(scene: Scene) -> None:
    scene.network.refusing = LineEnded("nothing answers")
    async with scene.open() as feed:
        for number in range(100):
            await feed.send_json(number)
        late = asyncio.create_task(feed.send_json("late"))
        await scene.settle(1_000)
        with pytest.raises(FeedStopped, match="10 attempts"):
            await late


async def test_a_message_that_the_server_would_not_take_is_refused_here(scene: Scene) -> None:
    async with scene.open() as feed:
        with pytest.raises(Invalid, match="64 KiB"):
            await feed.send_json("x" * 65_536)


# Slow consumers


def test_all_is_kept_for_a_consumer_that_keeps_up() -> None:
    outbox = Outbox()
    for seq in range(ALL_KEPT):
        outbox.put(state("a", seq, progress=seq % 100))
    assert len(taken(outbox)) == ALL_KEPT


def test_a_slow_consumer_misses_percents_but_no_status_and_no_error() -> None:
    outbox = Outbox()
    told = [state("a", 0, Status.PENDING), state("a", 1), *(state("a", seq, progress=1) for seq in range(2, 5_000))]
    errors = [state("a", 5_000 + number, failed=number, error=f"e{number}") for number in range(1, 301)]
    for update in (*told, *errors, state("a", 6_000, failed=300, error="e300", progress=9)):
        outbox.put(update)
    kept = taken(outbox)
    assert len(kept) <= ALL_KEPT + 302
    assert kept == sorted(kept)
    assert {("a", 0), ("a", 1), ("a", 4_999), *seqs(errors), ("a", 6_000)} <= set(kept)


def test_it_takes_no_memory_for_a_consumer_that_never_comes_back() -> None:
    outbox = Outbox()
    for seq in range(20_000):
        outbox.put(state(f"job-{seq % 10}", seq, progress=seq % 90))
    assert len(outbox) <= ALL_KEPT + 20


async def test_nothing_is_kept_for_a_consumer_that_let_go(scene: Scene) -> None:
    async with scene.open() as feed:
        async for _ in _with(feed, scene):
            break
        assert feed._follower is not None
        assert len(feed._follower.outboxes) == 0


def _with(feed: ProgressFeed, scene: Scene) -> Updates:
    scene.network.line.says(batch(None, 1, state("a", 1)))
    return aiter(feed)


def taken(outbox: Outbox) -> Seqs:
    updates = []
    while update := outbox.take():
        updates.append(update)
    return seqs(updates)


# Addresses and tokens


@pytest.mark.parametrize(
    ("given", "base", "socket"),
    [
        ("http://localhost:8000", "http://localhost:8000", "ws://localhost:8000/api/ws/progress"),
        ("ws://localhost:8000/api/ws/progress", "http://localhost:8000", "ws://localhost:8000/api/ws/progress"),
        ("https://ops.example/", "https://ops.example", "wss://ops.example/api/ws/progress"),
        ("wss://ops.example/videos/api/ws/progress/", "https://ops.example/videos", None),
        ("ws://[::1]:8000/api/ws/progress?format=batch", "http://[::1]:8000", "ws://[::1]:8000/api/ws/progress"),
    ],
)
def test_any_address_of_the_dashboard_will_do(given: str, base: str, socket: str | None) -> None:
    address, token = Address.parse(given)
    assert (address.base, token) == (base, "")
    assert socket in (None, address.socket)


@pytest.mark.parametrize(
    "given", ["localhost:8000", "ftp://localhost", "http://", "http://me:secret@host", "http://a:b"]
)
def test_what_is_no_address_is_refused_in_one_sentence_that_does_not_repeat_it(given: str) -> None:
    with pytest.raises(Invalid, match=r"^That is not the address of a dashboard; write one such as \S+\.$"):
        ProgressFeed(given)


@pytest.mark.parametrize("token", ["two words", "line\r\nX-Forged: yes", "tökén"])
def test_what_is_no_token_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(Invalid) as refused:
        ProgressFeed("http://localhost:8000", token=token)
    assert token not in str(refused.value)


def test_a_token_in_the_address_is_taken_out_of_it() -> None:
    feed = ProgressFeed(f"ws://localhost:8000/api/ws/progress?token={TOKEN}")
    assert repr(feed) == "ProgressFeed('http://localhost:8000')"


def test_without_arguments_the_environment_says_where_and_as_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_URL", f"https://ops.example/videos?token={TOKEN}")
    assert repr(ProgressFeed()) == "ProgressFeed('https://ops.example/videos')"


async def test_a_fault_of_its_own_stops_it_and_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async with scene.open() as feed:
        scene.network.troubles = [ZeroDivisionError()]
        scene.network.line.says(batch(None, 2, *failing("a", 2)))
        with caplog.at_level(logging.ERROR):
            await scene.settle(1)
        assert feed.stopped is not None
        assert "ZeroDivisionError" in caplog.text
