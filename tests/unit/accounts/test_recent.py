"""Authorities in memory: how long they count, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

import pytest

from backend.accounts.recent import CONFIRM_SECONDS, FORGET_SECONDS, RecentAuthorities
from backend.domain.auth import Authority, User
from tests.support.clock import NOON, VirtualClock

ANA = User(id="ana", name="ana", is_admin=False)
LATER = NOON + timedelta(hours=1)


class Accounts:
    """What is stored: `valid` are the keys that are good. Counts what is read."""

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.reads: list[str] = []
        self.confirmed: list[set[str]] = []
        self.has_begun, self.may_read = asyncio.Event(), asyncio.Event()
        self.may_read.set()

    async def read(self, key: str, until: datetime) -> tuple[Authority, datetime] | None:
        found = key in self.valid
        self.reads.append(key)
        self.has_begun.set()
        await self.may_read.wait()
        return (Authority(ANA, "token", key, LATER), until) if found else None

    async def still_valid(self, authorities: Collection[Authority]) -> set[str]:
        self.confirmed.append({authority.key for authority in authorities})
        return self.valid & self.confirmed[-1]


class Scene:
    """Recent authorities over these accounts; everything that is shown is a key."""

    def __init__(self) -> None:
        self.clock, self.accounts = VirtualClock(), Accounts()
        self.recent = RecentAuthorities(self.accounts.still_valid, self.clock)

    async def is_good(self, key: str, until: datetime = LATER) -> bool:
        return await self.recent.get(key, lambda: self.accounts.read(key, until)) is not None


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.accounts.valid = {"one", "other"}
    return scene


async def test_many_requests_with_one_token_read_it_once(scene: Scene) -> None:
    assert all([await scene.is_good("one") for _ in range(100)])
    assert (scene.accounts.reads, scene.accounts.confirmed) == (["one"], [])


async def test_what_was_never_good_is_read_each_time(scene: Scene) -> None:
    assert [await scene.is_good("forged") for _ in range(2)] == [False, False]
    assert scene.accounts.reads == ["forged", "forged"]


async def test_one_read_a_second_confirms_all_that_are_in_use(scene: Scene) -> None:
    assert [await scene.is_good(key) for key in ("one", "other")] == [True, True]
    await scene.clock.advance(CONFIRM_SECONDS)
    assert all(await asyncio.gather(*(scene.is_good(key) for key in ("one", "other") * 10)))
    assert (len(scene.accounts.reads), scene.accounts.confirmed) == (2, [{"one", "other"}])


async def test_what_another_process_revokes_ends_with_the_next_confirmation(scene: Scene) -> None:
    assert await scene.is_good("one")
    scene.accounts.valid.remove("one")
    await scene.clock.advance(CONFIRM_SECONDS)
    assert not await scene.is_good("one")


async def test_what_this_process_revokes_ends_at_once(scene: Scene) -> None:
    assert await scene.is_good("one")
    scene.accounts.valid.remove("one")
    scene.recent.forget()
    assert not await scene.is_good("one")


async def test_a_read_that_began_before_a_change_is_not_remembered(scene: Scene) -> None:
    scene.accounts.may_read.clear()
    reading = asyncio.create_task(scene.is_good("one"))
    await scene.accounts.has_begun.wait()
    scene.accounts.valid.remove("one")
    scene.recent.forget()
    scene.accounts.may_read.set()
    assert await reading
    assert not await scene.is_good("one")


async def test_an_authority_is_read_again_when_its_time_is_over(scene: Scene) -> None:
    assert await scene.is_good("one", NOON + timedelta(seconds=0.5))
    await scene.clock.advance(0.5)
    assert await scene.is_good("one")
    assert scene.accounts.reads == ["one", "one"]


async def test_what_nobody_uses_is_forgotten(scene: Scene) -> None:
    assert [await scene.is_good(key) for key in ("one", "other")] == [True, True]
    for _ in range(int(FORGET_SECONDS / 2) + 1):
        await scene.clock.advance(2)
        assert await scene.is_good("one")
    assert (scene.accounts.confirmed[0], scene.accounts.confirmed[-1]) == ({"one", "other"}, {"one"})
