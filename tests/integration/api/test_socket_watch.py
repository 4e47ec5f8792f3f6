"""The check of open progress sockets: it ends those whose authority has ended, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from backend.accounts.accounts import Accounts
from backend.domain.auth import Authority
from tests.support.clock import QuickClock
from tests.support.in_memory_transport import MemoryServer, prepare, run_loop
from tests.support.managed_backend import ANA, BEN


class SlowAccounts(Accounts):
    """Answers only when `answer` is set which authorities are still valid, so that the answer is old by then."""

    asked = asyncio.Event()
    answer = asyncio.Event()

    async def still_valid(self, authorities: Collection[Authority]) -> set[str]:
        valid = await super().still_valid(authorities)
        self.asked.set()
        await self.answer.wait()
        return valid


async def test_a_socket_that_opens_during_a_check_stays_open(tmp_path: Path) -> None:
    clock = QuickClock()
    installation = await prepare(tmp_path, clock)
    installation.empty()
    server = MemoryServer(installation, clock, direct=True, accounts=SlowAccounts)
    await server.parts.journal.load()
    server.connect(ANA, "")
    await run_loop()
    check = asyncio.create_task(server.sockets.run_once())
    await SlowAccounts.asked.wait()
    newcomer = server.connect(BEN, "format=batch")
    await run_loop()
    SlowAccounts.answer.set()
    await check
    await run_loop()
    received = newcomer.deliver(10_000)
    newcomer.send("ping")
    await run_loop()
    assert newcomer.deliver(10_000) == ["pong"]
    assert len(received) == 1
    await server.kill()
    installation.database.close()
