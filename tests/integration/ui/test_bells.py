"""The bells of a user's tabs: one reader for all of them, and the same state in each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backend.domain.auth import User
from backend.domain.notification import ENDS, NotificationSettings
from backend.store import Store
from tests.support.job_states import CUT
from tests.support.managed_backend import ANA, BEN, Managed, open_managed
from tests.support.telling import Telling
from ui.bells import Bells, is_quiet

HOUR_SECONDS = 3600
WAIT_SECONDS = 10
State = Mapping[str, Any]


class Tab:
    """A page and its bell."""

    def __init__(self) -> None:
        self.has_socket_connection, self.is_deleted = True, False
        self.state: State | None = None
        self._changed = asyncio.Event()

    def show(self, state: State) -> None:
        self.state = state
        self._changed.set()

    async def until(self, is_shown: Callable[[State], bool]) -> State:
        """Return the first state of which this is true."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.state is None or not is_shown(self.state):
                self._changed.clear()
                await self._changed.wait()
            return self.state


def start(work: Coroutine[Any, Any, None], **_: object) -> asyncio.Task[None]:
    return asyncio.create_task(work)


class Scene:
    """Bells over what users are told."""

    def __init__(self, managed: Managed) -> None:
        self.telling = Telling(managed)
        self.doors = self.telling.notifications
        self.bells = Bells(self.doors, managed.clock, UTC, start=start)
        self._tabs: list[Tab] = []

    def open(self, user: User) -> Tab:
        tab = Tab()
        self._tabs.append(tab)
        self.bells.follow(tab, tab, user)
        return tab

    def close(self, tab: Tab) -> None:
        tab.has_socket_connection = False
        self.bells.leave(tab)

    def close_all(self) -> None:
        for tab in self._tabs:
            self.close(tab)


@pytest.fixture
async def scene(store: Store, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_managed(store, tmp_path) as managed:
        scene = Scene(managed)
        yield scene
        scene.close_all()


async def test_all_tabs_of_a_user_show_the_same_and_other_users_nothing(scene: Scene) -> None:
    first, second, other = scene.open(ANA), scene.open(ANA), scene.open(BEN)
    await scene.telling.ran("bad.csv", 10, [CUT, CUT])
    await scene.telling.compose()
    for tab in (first, second):
        state = await tab.until(lambda state: state["unread"] == 1)
        assert [(item["title"], item["isRead"]) for item in state["items"]] == [("bad.csv: 2 of 2 failed", False)]
    await scene.doors.mark_read(by=ANA)
    for tab in (first, second):
        await tab.until(lambda state: state["unread"] == 0)
    assert (await other.until(lambda state: True))["items"] == []


async def test_a_tab_that_joins_later_shows_at_once_what_the_others_show(scene: Scene) -> None:
    await scene.open(ANA).until(lambda state: True)
    assert scene.open(ANA).state is not None


async def test_a_wish_is_shown_until_the_job_has_ended(scene: Scene) -> None:
    tab, managed = scene.open(ANA), scene.telling.managed
    job = await managed.new_job("list.csv", 1)
    await scene.doors.wish(job.id, ENDS, by=ANA)
    await tab.until(lambda state: state["wishes"] == [job.id])
    await managed.run(job, [None])
    await scene.telling.compose()
    state = await tab.until(lambda state: state["wishes"] == [])
    assert [item["event"] for item in state["items"]] == ["completed"]


async def test_a_tab_that_was_open_all_night_says_what_happened_once_its_user_is_back(scene: Scene) -> None:
    tab = scene.open(ANA)
    await scene.doors.seen(by=ANA)
    assert (await tab.until(lambda state: True))["away"] is None
    await scene.telling.ran("night.csv", 60, [None, None])
    await scene.telling.managed.clock.advance(8 * HOUR_SECONDS)
    await scene.doors.seen(by=ANA)
    state = await tab.until(lambda state: state["away"] is not None)
    assert (state["away"]["jobs"], state["away"]["succeeded"], state["away"]["causes"]) == (1, 2, 0)
    await scene.doors.away_read(by=ANA)
    await tab.until(lambda state: state["away"] is None)


async def test_nothing_is_read_for_users_without_a_tab(scene: Scene) -> None:
    tab = scene.open(ANA)
    shown = await tab.until(lambda state: True)
    scene.close(tab)
    await scene.telling.ran("bad.csv", 10, [CUT])
    await scene.telling.compose()
    assert tab.state is shown
    assert scene.open(ANA).state is None  # a new reader, which begins with a new state


@pytest.mark.parametrize(("hour", "quiet"), [(21, False), (22, True), (3, True), (7, False)])
def test_browsers_are_quiet_in_quiet_hours(hour: int, quiet: bool) -> None:
    night = NotificationSettings(quiet_from=22 * 60, quiet_to=7 * 60, zone="UTC")
    assert is_quiet(night, datetime(2026, 1, 31, hour, tzinfo=UTC), None) is quiet
    assert not is_quiet(NotificationSettings(), datetime(2026, 1, 31, hour, tzinfo=UTC), None)
