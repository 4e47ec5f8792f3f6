"""The watch over open progress sockets: it ends those whose authority is gone, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from backend.accounts.accounts import Accounts
from backend.domain.auth import Authority
from tests.support.clock import VirtualClock
from tests.support.managed_backend import ANA, BEN
from tests.support.in_memory_transport import WiredServer, let_it_run, prepare


class SlowAccounts(Accounts):
    """Its answer about who may go on is already old when it is given."""

    asked = asyncio.Event()
    answer = asyncio.Event()

    async def still_valid(self, authorities: Collection[Authority]) -> set[str]:
        valid = await super().still_valid(authorities)
        self.asked.set()
        await self.answer.wait()
        return valid


async def test_a_socket_that_opens_during_a_look_stays_open(tmp_path: Path) -> None:
    clock = VirtualClock()
    ground = await prepare(tmp_path, clock)
    ground.empty()
    server = WiredServer(ground, clock, direct=True, accounts=SlowAccounts)
    await server.hub.load()
    server.connect(ANA, "")
    await let_it_run()
    look = asyncio.create_task(server.sockets.run_once())
    await SlowAccounts.asked.wait()
    newcomer = server.connect(BEN, "format=batch")
    await let_it_run()
    SlowAccounts.answer.set()
    await look
    await let_it_run()
    heard = newcomer.deliver(10_000)
    newcomer.say("ping")
    await let_it_run()
    assert newcomer.deliver(10_000) == ["pong"]
    assert len(heard) == 1
    await server.die()
