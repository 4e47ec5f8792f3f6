"""The server that `tests.bench.page` looks at: `python -m tests.bench.page_server PORT DATA_DIR JOBS`.

The whole program as `python main.py` serves it, with the usual page beside its own, and in the same process a sender
that reports on JOBS jobs that run elsewhere, each once a second, through the manager's own door (`hear`, as the REST
route does): a new percent, a new number of videos, and a message with the moment it was made. It says `Ready COOKIE`
when all jobs run, then each second a line of JSON: how many changes took how many milliseconds to be durable.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

from backend import Backend, open_backend
from backend.api.security import session_cookie
from backend.domain.auth import User
from backend.lists.csv_files import list_of_ids
from backend.settings import load_settings
from progress_dashboard.protocol import EXTERNAL, SenderReport
from ui.cli.serve import Server, config_of

VIDEOS = 20
SHARES = 50  # of a second: what changes in one share changes at once
SECONDS_A_PERCENT = 5
MADE_AT_ONCE = 500


class Sender:
    """Who works on the jobs, as far as the server can tell."""

    def __init__(self, backend: Backend, user: User) -> None:
        self._backend = backend
        self._user = user
        self._jobs: list[str] = []
        self._changing: dict[str, asyncio.Task[None]] = {}
        self._stored: Counter[int] = Counter()

    async def make_jobs(self, wanted: int) -> None:
        """So many jobs, which have begun when this returns."""
        videos = list_of_ids([f"clip-{number:02}" for number in range(VIDEOS)])

        async def make(number: int) -> str:
            name = f"nightly-{number:04}.csv"
            made = await self._backend.manager.submit(videos, by=self._user, name=name, processor=EXTERNAL)
            await self._hear(made.job.id, SenderReport(n=0, status="processing"))
            return made.job.id

        for first in range(0, wanted, MADE_AT_ONCE):
            together = range(first, min(wanted, first + MADE_AT_ONCE))
            self._jobs += await asyncio.gather(*map(make, together))

    async def run(self) -> None:
        """Change each job once a second, evenly over the second and over the list, for ever.

        A job whose last change is not stored yet is left alone for this second: the server takes no more.
        """
        began = time.monotonic()
        for turn in count():
            second, share = divmod(turn, SHARES)
            for job_id in self._jobs[share::SHARES]:
                if job_id not in self._changing:
                    self._changing[job_id] = asyncio.create_task(self._change(job_id, second + 1))
            if share == 0:
                self._tell()
            await asyncio.sleep(max(0.0, began + (turn + 1) / SHARES - time.monotonic()))

    async def _change(self, job_id: str, n: int) -> None:
        made = time.time()
        percent = min(99, n // SECONDS_A_PERCENT)
        message = f"Encoding, told at ~{made * 1e6:.0f}~"
        await self._hear(
            job_id, SenderReport(n=n, progress=percent, current_video=percent * VIDEOS // 100, message=message)
        )
        self._stored[round((time.time() - made) * 1000)] += 1
        del self._changing[job_id]

    async def _hear(self, job_id: str, report: SenderReport) -> None:
        await self._backend.manager.hear(job_id, [report], by=self._user)

    def _tell(self) -> None:
        print(json.dumps(self._stored), flush=True)
        self._stored.clear()


async def serve(port: int, data_dir: Path, jobs: int) -> None:
    """Serve until the process is ended."""
    async with open_backend(load_settings(data_dir=data_dir, port=port)) as backend:
        server = Server(config_of(backend))
        from tests.bench.usual_page import add_usual_page  # it imports NiceGUI, which is set up by now

        add_usual_page(backend)
        user = await backend.accounts.add_user("bench", None)
        sender = Sender(backend, user)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([socket.create_server(("127.0.0.1", port))]))
            await server.ready.wait()
            await sender.make_jobs(jobs)
            cookie = await backend.accounts.open_session(user)
            print(f"Ready {session_cookie(backend.settings, 'http')}={cookie}", flush=True)
            await sender.run()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
