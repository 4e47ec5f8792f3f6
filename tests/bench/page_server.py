"""The server that `tests.bench.page` measures: `python -m tests.bench.page_server PORT DATA_DIR JOBS`.

It is the whole program as `python main.py` serves it, with the usual page in addition. A sender in the same process
reports on JOBS external jobs, each once a second, through `ExternalJobs.apply_reports`, as the REST route does: a new
percent, a new number of videos, and a message with the time when it was made. It prints `Ready COOKIE` when all jobs
run, then each second a line of JSON: the number of changes by the milliseconds until they were durable.
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
from backend.api.uvicorn_internals import Server
from backend.domain.auth import User
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from progress_dashboard.protocol import EXTERNAL, SenderReport
from tests.support.databases import settings_of
from ui.cli.serve import BACKLOG, config_of

VIDEOS = 20
SHARES = 50  # of a second; the jobs of a share change at the same time
SECONDS_PER_PERCENT = 5
SUBMITTED_AT_ONCE = 500


class Sender:
    """The sender of all reports, in the server's process."""

    def __init__(self, backend: Backend, user: User) -> None:
        self._backend = backend
        self._user = user
        self._jobs: list[str] = []
        self._changing: dict[str, asyncio.Task[None]] = {}
        self._stored: Counter[int] = Counter()

    async def make_jobs(self, wanted: int) -> None:
        """Create this number of jobs. All of them have started when this returns."""
        videos = list_of_ids([f"clip-{number:02}" for number in range(VIDEOS)])

        async def make(number: int) -> str:
            name = f"nightly-{number:04}.csv"
            order = Order(name=name, processor=EXTERNAL)
            made = await self._backend.manager.submit(videos, order, by=self._user)
            await self._apply(made.job.id, SenderReport(n=0, status="processing"))
            return made.job.id

        for first in range(0, wanted, SUBMITTED_AT_ONCE):
            together = range(first, min(wanted, first + SUBMITTED_AT_ONCE))
            self._jobs += await asyncio.gather(*map(make, together))

    async def run(self) -> None:
        """Change each job once a second, evenly over the second and over the list, until cancelled.

        A job is skipped in this second if its last change is not stored yet, because the server is then fully loaded.
        """
        began = time.monotonic()
        for turn in count():
            second, share = divmod(turn, SHARES)
            for job_id in self._jobs[share::SHARES]:
                if job_id not in self._changing:
                    self._changing[job_id] = asyncio.create_task(self._change(job_id, second + 1))
            if share == 0:
                self._print_stored()
            await asyncio.sleep(max(0.0, began + (turn + 1) / SHARES - time.monotonic()))

    async def _change(self, job_id: str, n: int) -> None:
        made_at = time.time()
        percent = min(99, n // SECONDS_PER_PERCENT)
        message = f"Encoding, sent at ~{made_at * 1e6:.0f}~"
        await self._apply(
            job_id, SenderReport(n=n, progress=percent, current_video=percent * VIDEOS // 100, message=message)
        )
        self._stored[round((time.time() - made_at) * 1000)] += 1
        del self._changing[job_id]

    async def _apply(self, job_id: str, report: SenderReport) -> None:
        await self._backend.external.apply_reports(job_id, [report], by=self._user)

    def _print_stored(self) -> None:
        print(json.dumps(self._stored), flush=True)
        self._stored.clear()


def listener(port: int) -> socket.socket:
    """Return a socket that listens as the program's does, with its protocol named."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(BACKLOG)
    return listening


async def serve(port: int, data_dir: Path, jobs: int) -> None:
    """Serve until the process is killed."""
    async with open_backend(settings_of(data_dir, port=port)) as backend:
        server = Server(config_of(backend))
        from tests.bench.usual_page import add_usual_page  # imports NiceGUI, whose settings are made now

        add_usual_page(backend)
        user = await backend.accounts.add_user("bench", None)
        sender = Sender(backend, user)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener(port)]))
            await server.ready.wait()
            await sender.make_jobs(jobs)
            cookie = await backend.accounts.open_session(user)
            print(f"Ready {session_cookie(backend.settings, 'http')}={cookie}", flush=True)
            await sender.run()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
