"""A server that is killed and started again over one data directory, and what each life leaves in its database."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import Program, free_port, running


@dataclass(frozen=True)
class Remains:
    """What a killed server left in its database: the newest position of all, each job's row, and when it was dead."""

    newest: int
    jobs: dict[str, dict[str, Any]]
    killed_at: int

    @classmethod
    def of(cls, data_dir: Path) -> Remains:
        killed_at = time.time_ns() // 1_000
        with closing(sqlite3.connect(f"file:{data_dir / 'dashboard.sqlite3'}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            jobs = {row["id"]: dict(row) for row in database.execute("SELECT * FROM job")}
            told = database.execute("SELECT max(seq) FROM progress_event").fetchone()[0] or 0
        positions = (position or 0 for job in jobs.values() for position in (job["seq"], job["removed_seq"]))
        return cls(max(told, *positions, 0), jobs, killed_at)


class Server:
    """The program, killed and started again over one data directory and port."""

    def __init__(self, data_dir: Path, *, python_path: Path | None = None, **settings: Any) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._python_path = python_path
        self._settings = settings
        self._life = ExitStack()
        self._program: Program | None = None

    async def start(self) -> None:
        life = running(self.data_dir, port=self.port, python_path=self._python_path, **self._settings)
        self._program = await asyncio.to_thread(self._life.enter_context, life)

    async def kill(self) -> Remains:
        """kill -9; what it leaves."""
        assert self._program is not None
        await asyncio.to_thread(self._program.kill)
        return Remains.of(self.data_dir)

    async def start_and_kill(self, after_seconds: float) -> Remains:
        """A life that is over so soon, ready or not; what it leaves."""
        program = Program(self.data_dir, port=self.port, python_path=self._python_path, **self._settings)
        self._life.callback(program.kill)
        await asyncio.sleep(after_seconds)
        await asyncio.to_thread(program.kill)
        return Remains.of(self.data_dir)

    async def close(self) -> None:
        await asyncio.to_thread(self._life.close)
