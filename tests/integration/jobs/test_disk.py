"""A disk that is nearly full: said to the administrators, once, until there is room again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backend.domain.auth import User
from backend.domain.notification import EventKind, NotificationSettings
from backend.jobs.disk import GIB, MIB, DiskWatch
from backend.store.database import Database
from tests.support.managed_backend import ADMIN, ANA, Managed
from tests.support.telling import Telling, add_administrators, add_channel, deliveries

BOSS = User(id="boss", name="boss", is_admin=True)
GONE = User(id="gone", name="gone", is_admin=True, disabled=True)
LOW_MIB = 1024


@dataclass
class Disk:
    """A disk with so much room, and a server that looks at it."""

    telling: Telling
    free: int | None = 100 * GIB
    watch: DiskWatch = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Let a new run of the server look at it."""
        managed = self.telling.managed
        self.watch = DiskWatch(
            {"data": Path("data"), "output": Path("gone")},
            managed.clock,
            low_mib=LOW_MIB,
            tell=managed.journal.stage_notification,
            users=self._users,
            told=managed.store.notifications.newest_of_server,
            free_bytes=self._free_bytes,
        )

    async def with_room(self, mib: int | None) -> list[str]:
        """Look at it with so much room, and return all that the administrator has been told, oldest first."""
        self.free = None if mib is None else mib * MIB
        await self.watch.run_once()
        await self.telling.managed.clock.advance(60)
        return [told.event.value for told in reversed(await self.telling.bell(ADMIN))]

    async def _users(self) -> list[User]:
        return [ADMIN, ANA, BOSS, GONE]

    def _free_bytes(self, path: Path) -> int:
        if self.free is None or path.name == "gone":
            raise FileNotFoundError(path)
        return self.free


@pytest.fixture
async def disk(managed: Managed, database: Database) -> Disk:
    add_administrators(database, ADMIN, BOSS, GONE)
    telling = Telling(managed)
    everything = NotificationSettings(events=frozenset(EventKind))
    await telling.notifications.change_settings(everything, by=ADMIN)
    return Disk(telling)


async def test_a_low_disk_is_said_once_until_there_is_room_again(disk: Disk) -> None:
    assert await disk.with_room(2000) == []
    assert await disk.with_room(1000) == ["disk_low"]
    for mib in (900, 1025, 1500, None, 800):  # around the low-water mark, and not there for a while
        assert await disk.with_room(mib) == ["disk_low"]
    assert await disk.with_room(1600) == ["disk_low", "recovered"]
    assert await disk.with_room(1200) == ["disk_low", "recovered"]
    assert await disk.with_room(1000) == ["disk_low", "recovered", "disk_low"]


async def test_a_restarted_server_says_it_no_second_time(disk: Disk) -> None:
    await disk.with_room(1000)
    disk.restart()
    assert await disk.with_room(900) == ["disk_low"]
    disk.restart()
    assert await disk.with_room(5000) == ["disk_low", "recovered"]
    disk.restart()
    assert await disk.with_room(900) == ["disk_low", "recovered", "disk_low"]


async def test_it_is_said_to_each_administrator_and_nobody_else(disk: Disk, database: Database) -> None:
    add_channel(database, "for all", None)
    add_channel(database, "of boss", BOSS.id)
    await disk.with_room(500)
    telling = disk.telling
    for user in (ADMIN, BOSS):
        [told] = await telling.bell(user)
        assert told.title == "The disk of the data directory is nearly full: 0.5 GiB left"
        assert told.job_id is None
    assert [await telling.bell(user) for user in (ANA, GONE)] == [[], []]
    assert sorted(deliveries(database)) == [
        ("for all", EventKind.DISK_LOW, "waiting"),
        ("of boss", EventKind.DISK_LOW, "waiting"),
    ]
