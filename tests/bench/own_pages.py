"""Traffic of our own pages: `python -m tests.bench.own_pages [--jobs N] [--rate N] [--seconds S] [--root DIR]`.

The program runs as `python main.py` serves it, with pages of an administrator, who sees all jobs:

- Job page: 5,000 external jobs, 500 reports a second over REST, evenly over the jobs. Ten tabs show one job each.
  "KiB/s" is what one tab receives, "CPU" what one tab adds to the server's process, in % of a core.
- Reconnect: a dashboard with 1,000 jobs that do not change. "open" is what the tab receives when it is opened, "back"
  after it lost the connection and nothing changed, "back +1" after one job changed meanwhile.

The tabs are simulated (tests/bench/tabs.py). `--root` measures another checkout, such as an earlier version.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import httpx

from tests import ROOT
from tests.bench.measure import cpu_seconds, load, row
from tests.bench.senders import ROOMY, ExternalJob, Sender, at_rate, connect_senders, make_jobs
from tests.bench.tabs import Counted, Tab
from tests.support.servers import Program, environment, running

JOBS, RATE, SECONDS, TABS, SENDERS = 5_000, 500, 10.0, 10, 16
RECONNECT_JOBS = 1_000
SETTLING_SECONDS = 2.0
VIDEOS = 20
WIDTHS = (34, 12, 12, 12)


@dataclass(frozen=True)
class Stage:
    """A program under measurement, with the session cookie and the token of its administrator."""

    program: Program
    cookie: str
    jwt: str

    def tab(self, received: Counted) -> Tab:
        """Return a new tab, whose bytes are counted there."""
        return Tab(self.program.url, self.cookie, received)

    @asynccontextmanager
    async def senders(self, count: int = SENDERS) -> AsyncIterator[list[Sender]]:
        """Open connections to the API while the block runs; the server closes them when they are idle for 5 s."""
        connected = await connect_senders(self.program.port, self.jwt, count)
        yield connected
        for sender in connected:
            sender.close()


@asynccontextmanager
async def staged(root: Path) -> AsyncIterator[Stage]:
    """Start the program of a checkout over an empty data directory."""
    with tempfile.TemporaryDirectory() as home, running(Path(home), python_path=root, root=root, **ROOMY) as program:
        link = program.until_says("Sign in:").split()[-1]
        async with httpx.AsyncClient(follow_redirects=True) as browser:
            (await browser.get(link)).raise_for_status()
            if not browser.cookies:  # an older checkout signed in at once
                address, _, secret = link.partition("?token=")
                await browser.post(address, data={"token": secret}, headers={"origin": program.url})
            cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        yield Stage(program, cookie, admin_token(root, Path(home)))


def admin_token(root: Path, data_dir: Path) -> str:
    """Return a JWT of the administrator, made by the checkout's own command."""
    command = [sys.executable, "main.py", "token", "admin", "--data-dir", str(data_dir)]
    made = subprocess.run(command, cwd=root, env=environment({}), capture_output=True, text=True, check=True)
    return made.stdout.strip()


async def report(senders: Sequence[Sender], jobs: Sequence[ExternalJob], *, rate: float, seconds: float) -> None:
    """Report on the jobs in turn, `rate` times a second in total."""

    async def share(sender: Sender, own: Sequence[ExternalJob]) -> None:
        jobs_in_turn = cycle(own)

        async def report_next() -> None:
            job = next(jobs_in_turn)
            await sender.post(job.path, job.stamped())

        await at_rate(report_next, every=len(senders) / rate, seconds=seconds)

    places = range(len(senders))
    await asyncio.gather(*(share(senders[place], jobs[place :: len(senders)]) for place in places))


async def measure(
    stage: Stage, jobs: Sequence[ExternalJob], received: Counted, *, rate: float, seconds: float
) -> tuple[float, int]:
    """Report on the jobs; return the CPU time in % of a core, and the bytes that the tabs received meanwhile."""
    pid = stage.program.pid
    async with stage.senders() as senders:
        await report(senders, jobs, rate=rate, seconds=SETTLING_SECONDS)
        cpu, read, began = cpu_seconds(pid), received.read, time.monotonic()
        await report(senders, jobs, rate=rate, seconds=seconds)
        return 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - began), received.read - read


async def job_pages(root: Path, count: int, rate: float, seconds: float) -> None:
    """Print the cost of a job's page among this number of jobs."""
    async with staged(root) as stage:
        async with stage.senders() as senders:
            jobs = await make_jobs(senders, count, VIDEOS)
        received = Counted()
        alone, _ = await measure(stage, jobs, received, rate=rate, seconds=seconds)
        paths = (job.path.removeprefix("/api").removesuffix("/progress") for job in islice(jobs, TABS))
        tabs = [await stage.tab(received).open(path) for path in paths]
        together, read = await measure(stage, jobs, received, rate=rate, seconds=seconds)
        for tab in tabs:
            await tab.close()
    row("job page", "KiB/s", "CPU %", "CPU % alone", widths=WIDTHS)
    row(
        f"one of {count:,} jobs, {rate:,.0f} reports/s",
        f"{read / 1024 / seconds / TABS:.2f}",
        f"{(together - alone) / TABS:.2f}",
        f"{alone:.0f}",
        widths=WIDTHS,
    )


async def reconnects(root: Path, count: int) -> None:
    """Print what a dashboard receives when it is opened and when it reconnects."""
    async with staged(root) as stage:
        async with stage.senders() as senders:
            jobs = await make_jobs(senders, count, VIDEOS)
        received = Counted()
        tab = stage.tab(received)
        await tab.open("/")
        await tab.next_frame()
        figures = [received.read]
        for changes in (0, 1):
            before = received.read
            await tab.disconnect()
            async with stage.senders(1) as [sender]:
                for job in jobs[:changes]:
                    await sender.post(job.path, job.stamped())
            await tab.connect()
            await tab.next_frame()
            figures.append(received.read - before)
        await tab.close()
    row("reconnect", "open", "back", "back +1", widths=WIDTHS)
    row(f"KiB, {count:,} jobs", *(f"{figure / 1024:.1f}" for figure in figures), widths=WIDTHS)


def main() -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    print(load())
    asyncio.run(job_pages(arguments.root, arguments.jobs, arguments.rate, arguments.seconds))
    asyncio.run(reconnects(arguments.root, RECONNECT_JOBS))


if __name__ == "__main__":
    main()
