"""The frames of tabs that join, come back or leave, while others watch the same jobs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from backend.delivery.batches import Change, Removal, View
from backend.delivery.hub import ProgressHub
from backend.domain.auth import User
from backend.domain.job import Job
from progress_dashboard.protocol import Status
from tests.support.clock import NOON, VirtualClock
from tests.support.jobs import a_job
from ui.audience import UNSEEN_PER_SECOND, CardFacts
from ui.components.dashboard.dashboard_view import DashboardView
from ui.live import FIRST_CARDS, FRAME_SECONDS, LiveJobs, Watch

ANA = User(id="ana", name="ana", is_admin=False)
ADMIN = User(id="ana", name="ana", is_admin=True)
FIRST_SEQ = 1_000
Frame = Mapping[str, Any]


class Tab:
    """An open page and its grid, which records the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.has_socket_connection = True
        self.is_deleted = False
        self.client = self
        self._leaving: list[Callable[[], None]] = []
        self._handlers: dict[str, Callable[[Any], Awaitable[None]]] = {}

    def on(self, event: str, handler: Callable[[Any], Awaitable[None]], throttle: float = 0) -> None:
        self._handlers[event] = handler

    def on_disconnect(self, handler: Callable[[], None]) -> None:
        self._leaving.append(handler)

    def on_delete(self, handler: Callable[[], None]) -> None:
        self._leaving.append(handler)

    async def watch(self, after: int | None = None) -> None:
        """Ask for what changed after a position, as the browser does."""
        self.has_socket_connection = True
        await self._handlers["watch"](SimpleNamespace(args=after))

    async def look(self, *job_ids: str) -> None:
        """Show these jobs, as the browser does when it is scrolled."""
        await self._handlers["look"](SimpleNamespace(args=list(job_ids)))

    def leave(self) -> None:
        self.has_socket_connection = False
        for handler in self._leaving:
            handler()

    @property
    def newest(self) -> Frame:
        return self.frames[-1]

    @property
    def seq(self) -> int:
        """The position that the browser has."""
        return int(self.newest["seq"])


class RecordingBroadcast:
    """A `Broadcast` to the tabs of a test."""

    def __init__(self) -> None:
        self._tabs: dict[Any, None] = {}

    async def join(self, element: Any) -> None:
        self._tabs[element] = None

    async def leave(self, element: Any) -> None:
        self._tabs.pop(element, None)

    async def send(self, frame: Frame) -> None:
        self._tabs = {tab: None for tab in self._tabs if tab.has_socket_connection}
        for tab in self._tabs:
            tab.frames.append(frame)

    async def send_to(self, element: Any, frame: Frame) -> None:
        element.frames.append(frame)


@dataclass
class Scene:
    """Live jobs over a hub, whose jobs are what a test publishes."""

    hub: ProgressHub
    clock: VirtualClock
    stalled: dict[str, datetime] = field(default_factory=dict)
    live: LiveJobs = field(init=False)

    def start(self, watch: Watch | None = None) -> None:
        """Feed from this source of readers, otherwise from the hub."""
        facts = CardFacts(lambda _: None, lambda _: None, lambda job: self.stalled.get(job.id))
        self.live = LiveJobs(watch or self._watch, lambda _: RecordingBroadcast(), self.clock, facts)

    def _watch(self, user: User, after: int | None) -> Any:
        return self.hub.reader(user.sees_jobs_of, after)

    def tab(self, viewer: Callable[[], User] = lambda: ANA) -> Tab:
        tab: Any = Tab()
        self.live.feed(tab, viewer)
        return tab  # type: ignore[no-any-return]

    def publish(self, *jobs: Job, removed: tuple[str, ...] = ()) -> None:
        seq = itertools.count(self.hub.seq + 1)
        changes = [Change(job.evolve(seq=next(seq))) for job in jobs]
        removals = [Removal(job_id, "ana", next(seq)) for job_id in removed]
        self.hub.take((*changes, *removals))
        self.hub.publish()

    async def settle(self) -> None:
        """Let everything that can happen now happen."""
        await self.clock.advance(FRAME_SECONDS)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    hub = ProgressHub()
    hub.load([], [], last_stored=0, start_seq=FIRST_SEQ)
    scene = Scene(hub, VirtualClock())
    scene.start()
    yield scene
    await scene.live.aclose()


def running(job_id: str, **facts: Any) -> Job:
    return a_job(id=job_id, status=Status.PROCESSING, **facts)


def ids(frame: Frame) -> list[str]:
    return sorted(card["id"] for card in frame["jobs"])


def whole(frame: Frame) -> list[str]:
    """Return the IDs of the cards that a frame has with all their facts."""
    return sorted(card["id"] for card in frame["jobs"] if "name" in card)


async def test_the_first_subscription_gets_a_snapshot(scene: Scene) -> None:
    scene.publish(running("a"), running("b"))
    tab = scene.tab()
    await tab.watch()
    await scene.settle()
    [frame] = tab.frames
    assert frame["snapshot"] is True
    assert whole(frame) == ["a", "b"]


async def test_each_frame_follows_on_the_one_before(scene: Scene) -> None:
    scene.publish(running("a"))
    tab = scene.tab()
    await tab.watch()
    await scene.settle()
    for progress in (10, 20):
        scene.publish(running("a", progress=progress))
        await scene.settle()
    assert [frame["prev"] for frame in tab.frames[1:]] == [frame["seq"] for frame in tab.frames[:-1]]
    assert tab.newest["jobs"] == [{"id": "a", "progress": 20}]


@pytest.mark.parametrize("is_watched", [True, False])
async def test_a_tab_that_is_back_gets_only_the_changes(scene: Scene, is_watched: bool) -> None:
    """The answer has the changed cards, the removed IDs, and what time may have changed on processing jobs."""
    scene.publish(running("quiet"), running("changed"), running("left"), a_job(id="ended", status=Status.COMPLETED))
    tab, other = scene.tab(), scene.tab()
    await tab.watch()
    if is_watched:
        await other.watch()
    await scene.settle()
    position = tab.seq
    tab.leave()
    scene.publish(running("changed", progress=50), removed=("left",))
    await scene.settle()
    await tab.watch(position)
    await scene.settle()
    frame = tab.newest
    assert (frame["prev"], frame["seq"], frame["snapshot"]) == (position, scene.hub.seq, False)
    assert whole(frame) == ["changed"]
    assert frame["removed"] == ["left"]
    assert [card for card in frame["jobs"] if card["id"] == "quiet"] == [
        {"id": "quiet", "pace": "", "stalled": None, "rank": 3}
    ]
    assert ids(frame) == ["changed", "quiet"]


async def test_a_tab_that_missed_nothing_gets_no_card(scene: Scene) -> None:
    scene.publish(a_job(id="ended", status=Status.COMPLETED))
    tab = scene.tab()
    await tab.watch()
    await scene.settle()
    await tab.watch(tab.seq)
    assert (tab.newest["prev"], tab.newest["snapshot"]) == (tab.seq, False)
    assert (tab.newest["jobs"], tab.newest["removed"]) == ([], [])


@pytest.mark.parametrize("position", [-1, 0, FIRST_SEQ - 1, FIRST_SEQ + 1_000_000])
async def test_an_unknown_position_gets_a_snapshot(scene: Scene, position: int) -> None:
    scene.publish(running("a"))
    tab = scene.tab()
    await tab.watch(position)
    await scene.settle()
    assert tab.newest["snapshot"] is True
    assert whole(tab.newest) == ["a"]


async def test_a_tab_with_another_role_gets_a_snapshot(scene: Scene) -> None:
    """Its position is one among the jobs of the earlier role."""
    scene.publish(running("own"), running("foreign", owner_id="ben"))
    users = [ADMIN, ANA]
    tab, watching = scene.tab(lambda: users.pop(0)), scene.tab()
    await watching.watch()
    await tab.watch()
    await scene.settle()
    assert whole(tab.newest) == ["foreign", "own"]
    position = tab.seq
    tab.leave()
    scene.publish(running("own", progress=50))
    await scene.settle()
    await tab.watch(position)
    assert tab.newest["snapshot"] is True
    assert whole(tab.newest) == ["own"]


class Parts:
    """A reader that gives the views that a test puts into it."""

    def __init__(self) -> None:
        self._views: asyncio.Queue[View] = asyncio.Queue()
        self.is_read = False

    def put(self, prev: int, seq: int, *jobs: Job, snapshot: bool = False, more: bool = False) -> None:
        self._views.put_nowait(View(prev, seq, snapshot, tuple(map(Change, jobs)), more))

    async def next(self) -> View:
        self.is_read = True
        try:
            return await self._views.get()
        finally:
            self.is_read = False

    def take(self) -> View | None:
        return None


async def test_a_tab_waits_for_the_end_of_a_snapshot_in_parts(scene: Scene) -> None:
    parts = Parts()
    scene.start(lambda user, after: parts)
    first, second = scene.tab(), scene.tab()
    await first.watch()
    parts.put(0, 5, running("a", seq=5), snapshot=True, more=True)
    await scene.settle()
    await second.watch()
    assert (first.frames, second.frames) == ([], [])
    parts.put(5, 6, running("b", seq=6))
    await scene.settle()
    for tab in (first, second):
        [frame] = tab.frames
        assert (frame["snapshot"], frame["seq"], whole(frame)) == (True, 6, ["a", "b"])


async def test_a_tab_that_leaves_while_it_waits_gets_nothing(scene: Scene) -> None:
    parts = Parts()
    scene.start(lambda user, after: parts)
    staying, leaving = scene.tab(), scene.tab()
    for tab in (staying, leaving):
        await tab.watch()
    leaving.leave()
    parts.put(0, 5, running("a", seq=5), snapshot=True)
    await scene.settle()
    assert (len(staying.frames), leaving.frames) == (1, [])


async def test_the_reader_stops_when_the_last_tab_leaves(scene: Scene) -> None:
    parts = Parts()
    scene.start(lambda user, after: parts)
    tabs = [scene.tab(), scene.tab()]
    for tab in tabs:
        await tab.watch()
    await scene.settle()
    reading = []
    for tab in tabs:
        reading.append(parts.is_read)
        tab.leave()
        await scene.settle()
    assert (reading, parts.is_read) == ([True, True], False)


async def test_a_stall_during_changes_in_parts_is_sent_after_them(scene: Scene) -> None:
    parts, job = Parts(), running("a", seq=5)
    scene.start(lambda user, after: parts)
    tab = scene.tab()
    await tab.watch()
    parts.put(0, 5, job, snapshot=True)
    await scene.settle()
    parts.put(5, 6, running("b", seq=6), more=True)
    await scene.settle()
    scene.stalled["a"] = NOON
    await scene.clock.advance(1)
    assert ids(tab.newest) == ["b"]
    parts.put(6, 7, running("c", seq=7))
    await scene.settle()
    await scene.clock.advance(1)
    assert [card["id"] for card in tab.newest["jobs"] if card.get("stalled")] == ["a"]


async def many(scene: Scene) -> list[str]:
    """Publish more jobs than are sent in a second, and return their IDs."""
    ids = [f"job-{number:03}" for number in range(2 * UNSEEN_PER_SECOND)]
    scene.publish(*map(running, ids))
    await scene.settle()
    return ids


async def test_what_a_tab_scrolls_to_is_sent_at_once(scene: Scene) -> None:
    tab, ids = scene.tab(), await many(scene)
    await tab.watch()
    await scene.settle()
    scene.publish(*(running(job_id, progress=50) for job_id in ids))
    await scene.settle()
    assert ids[-1] not in {card["id"] for card in tab.newest["jobs"]}
    await tab.look(ids[-1])
    assert {"id": ids[-1], "progress": 50} in tab.newest["jobs"]
    scene.publish(*(running(job_id, progress=60) for job_id in ids))
    await scene.settle()
    assert {"id": ids[-1], "progress": 60} in tab.newest["jobs"]


async def test_what_no_tab_shows_is_sent_within_seconds(scene: Scene) -> None:
    tab, ids = scene.tab(), await many(scene)
    await tab.watch()
    await scene.settle()
    scene.publish(*(running(job_id, progress=50) for job_id in ids))
    for _ in range(4):
        await scene.clock.advance(1)
    progress = {card["id"]: card["progress"] for frame in tab.frames for card in frame["jobs"]}
    assert progress == dict.fromkeys(ids, 50)


@pytest.mark.parametrize("is_watched", [True, False])
async def test_a_tab_that_is_back_gets_what_was_not_sent_before_it_left(scene: Scene, is_watched: bool) -> None:
    tab, other, ids = scene.tab(), scene.tab(), await many(scene)
    await tab.watch()
    if is_watched:
        await other.watch()
    await scene.settle()
    scene.publish(*(running(job_id, progress=50) for job_id in ids))
    await scene.settle()
    tab.leave()
    position = tab.newest["resume"]
    for _ in range(4):
        await scene.clock.advance(1)
    tab.frames.clear()
    await tab.watch(position)
    await scene.settle()
    assert (tab.newest["prev"], tab.newest["snapshot"]) == (position, False)
    assert {card["id"]: card["progress"] for card in tab.newest["jobs"] if "name" in card} == dict.fromkeys(ids, 50)


async def test_ticks_within_a_moment_become_one_frame(scene: Scene) -> None:
    scene.publish(running("a"))
    tab = scene.tab()
    await tab.watch()
    await scene.settle()
    for progress in (10, 20, 30):
        scene.publish(running("a", progress=progress))
        await scene.clock.advance(0)
    await scene.settle()
    assert [frame["jobs"] for frame in tab.frames[1:]] == [
        [{"id": "a", "progress": 10}],
        [{"id": "a", "progress": 30}],
    ]


def first(scene: Scene, user: User = ANA, **choice: str) -> list[str]:
    """Return the jobs whose cards a new page has before it is connected."""
    view = DashboardView.of(**{"show": "", "q": "", "sort": "", "view": "", **choice})
    frame = scene.live.first_frame(view, user)
    assert frame is not None
    return [card["id"] for card in frame["jobs"]]


@pytest.mark.parametrize("is_watched", [True, False])
async def test_a_page_comes_with_its_first_cards_in_their_order(scene: Scene, is_watched: bool) -> None:
    scene.publish(
        running("b", name="list 10"),
        running("a", name="list 9"),
        a_job(id="ended", name="z", status=Status.COMPLETED),
        a_job(id="broken", name="y", status=Status.FAILED),
        running("foreign", owner_id="ben"),
    )
    scene.stalled["b"] = NOON
    if is_watched:
        await scene.tab().watch()
    await scene.settle()
    assert first(scene) == ["b", "broken", "a", "ended"]
    assert first(scene, sort="name") == ["a", "b", "broken", "ended"]
    assert first(scene, show="failed") == ["broken"]
    assert "foreign" in first(scene, ADMIN)


async def test_the_first_cards_come_with_the_numbers_of_all_jobs(scene: Scene) -> None:
    ids = await many(scene)
    frame = scene.live.first_frame(DashboardView(), ANA)
    assert frame is not None
    assert len(frame["jobs"]) == FIRST_CARDS
    assert frame["counts"] == {"processing": len(ids)}
    assert (frame["headline"], frame["state"]) == ("400 jobs running.", "(0 %)")


async def test_a_page_with_a_search_or_without_jobs_comes_without_cards(scene: Scene) -> None:
    assert scene.live.first_frame(DashboardView(), ANA) is None
    scene.publish(running("a"))
    assert scene.live.first_frame(DashboardView(q="a"), ANA) is None
