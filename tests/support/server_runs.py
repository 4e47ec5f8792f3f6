"""A server that is killed and restarted over one data directory, and the contents of its database after each run."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.databases import rows, until_left
from tests.support.servers import Program, free_port, running


@dataclass(frozen=True)
class Remains:
    """The database of a killed server: the newest position of all, the row of each job, and the time of the end."""

    newest: int
    jobs: dict[str, dict[str, Any]]
    killed_at: int

    @classmethod
    def of(cls, data_dir: Path) -> Remains:
        killed_at = time.time_ns() // 1_000
        until_left(data_dir)
        jobs = {row.id: dict(row._mapping) for row in rows(data_dir, "SELECT * FROM job")}
        recorded = rows(data_dir, "SELECT max(seq) FROM progress_event")[0][0] or 0
        positions = (position or 0 for job in jobs.values() for position in (job["seq"], job["removed_seq"]))
        return cls(max(recorded, *positions, 0), jobs, killed_at)


class Server:
    """The program over one data directory and port, which can be killed and restarted."""

    def __init__(self, data_dir: Path, *, python_path: Path | None = None, **settings: Any) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._python_path = python_path
        self._settings = settings
        self._runs = ExitStack()
        self._program: Program | None = None

    @property
    def is_running(self) -> bool:
        return self._program is not None and self._program.is_running

    @property
    def output(self) -> str:
        return "" if self._program is None else self._program.output

    async def start(self) -> None:
        run = running(self.data_dir, port=self.port, python_path=self._python_path, **self._settings)
        self._program = await asyncio.to_thread(self._runs.enter_context, run)

    async def kill(self) -> Remains:
        """Kill the server with SIGKILL and return its database."""
        assert self._program is not None
        await asyncio.to_thread(self._program.kill)
        return Remains.of(self.data_dir)

    async def end(self, number: int | None = None) -> None:
        """Kill the server, or stop it with this signal, and leave its database to others."""
        assert self._program is not None
        stop = self._program.kill if number is None else partial(self._program.stop, number)
        await asyncio.to_thread(stop)

    async def start_and_kill(self, after_seconds: float) -> Remains:
        """Start the server, kill it after this time, ready or not, and return its database."""
        program = Program(self.data_dir, port=self.port, python_path=self._python_path, **self._settings)
        self._runs.callback(program.kill)
        await asyncio.sleep(after_seconds)
        await asyncio.to_thread(program.kill)
        return Remains.of(self.data_dir)

    async def close(self) -> None:
        await asyncio.to_thread(self._runs.close)
