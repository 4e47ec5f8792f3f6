"""The cost of the dashboard: `python -m tests.bench.page [JOBS…] [--tabs N] [--seconds S] [--usual N] [--root DIR]`.

Chromium shows 20, 200, 1,000 and 5,000 jobs that each change once a second: as cards, as the compact table, and up to
1,000 jobs also in the usual NiceGUI style (tests/bench/usual_page.py), on another server. A change passes through the
whole program: `ExternalJobs.apply_reports` in the server's process, the journal's tick, the database, the hub, the
broadcast to the pages, Socket.IO, the page. Of 20 tabs one is Chromium; 19 are simulated (tests/bench/tabs.py): they
load the page, subscribe, and decode all that they receive. The simulated tabs are opened first, so that the real tab
gets its first card from a busy server.

"fps" and "scroll": frames a second, the page still or scrolled by 40 px a frame. "gap": the longest time between two
frames; "long": number of tasks over 50 ms, and the longest one; both still and scrolled, in ms. "p50", "p99": ms from
the change, before it is applied, to the end of the frame that draws it, for everything that the page has drawn;
"stored": p50 and p99 until the change is durable, before which it may not be sent. "all": CPU of the server's process
in % of a core; "tabs": the same without what so many changes cost before the first tab. "KiB/s": what a simulated tab
receives. "MiB": growth of the server's memory per tab. "first": ms from the request for the page to the frame with its
first card, with an empty cache if the page is opened for the first time. "wire": p50 from durable to the page;
"script": from there to the document; "paint": from there to the pixel.

`--root` measures another checkout too, such as an earlier version: the cards of both, in alternating order, `--rounds`
times. It prints the medians, and their ratios beside the aims.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import socketio  # type: ignore[import-untyped]
from playwright.async_api import BrowserContext, Page, async_playwright
from playwright.async_api import Error as BrowserError

from tests import ROOT
from tests.bench.measure import allow_many_files, cpu_seconds, load, memory_mib, percentile, row
from tests.bench.senders import ROOMY
from tests.bench.tabs import Counted, Tab
from tests.support.browser import FLAGS, chromium_path
from tests.support.servers import ServerProcess, environment, free_port

JOBS = (20, 200, 1000, 5000)
TABS, SECONDS, MAX_USUAL = 20, 10.0, 1000
SETTLING_SECONDS = 3.0
MAX_WAIT_SECONDS = 60.0
SCREEN = {"width": 1440, "height": 900}
PROBE = Path(__file__).parent / "probe.js"
ADDRESSES = {"cards": "/", "table": "/?view=table", "usual": "/usual"}
HEADER = "jobs page tabs,changes/s,fps,scroll,gap,long,p50,p99,stored,wire,script,paint,all %,tabs %,KiB/s,MiB,first"
WIDTHS = (17, 9, 6, 6, 6, 8, 6, 6, 9, 5, 6, 5, 6, 6, 7, 6, 7)
ROUNDS = 3
MAX_RATIOS = {"p50": 0.6, "p99": 0.6, "server for the tabs": 0.6, "first card": 0.5}
MIN_FPS = 55
AIMED_JOBS, AIMED_TABS = 1000, 20
FAILURES = (BrowserError, httpx.HTTPError, socketio.exceptions.SocketIOError, OSError)


@dataclass(frozen=True)
class Frames:
    """The probe's report: frames a second, and in ms the gaps between frames, the long tasks, the ages of changes."""

    fps: float
    gaps: list[float]
    tasks: list[float]
    delays: list[float]
    stages: dict[str, list[float]]

    def stage(self, name: str) -> float:
        """Return the median of a stage: `wire` (from the change to the page), `script` or `paint`."""
        return percentile(sorted(self.stages[name]), 50)


@dataclass(frozen=True)
class Cell:
    """One page under one load; CPU in % of a core, memory in MiB, times in ms."""

    changes: float
    stored: list[int]
    still: Frames
    scrolled: Frames
    cpu: float
    cpu_alone: float
    kib: float
    memory: float
    first: float

    @property
    def tasks(self) -> list[float]:
        return self.still.tasks + self.scrolled.tasks

    @property
    def cpu_of_tabs(self) -> float:
        return self.cpu - self.cpu_alone

    def delay(self, percent: float) -> float:
        """Return a percentile of the times from the change to the pixel, in ms."""
        return percentile(sorted(self.still.delays), percent)

    def show(self, name: str) -> None:
        """Print a line of the table."""
        row(
            name,
            f"{self.changes:,.0f}",
            f"{self.still.fps:.1f}",
            f"{self.scrolled.fps:.1f}",
            f"{max([0.0, *self.still.gaps, *self.scrolled.gaps]):.0f}",
            f"{len(self.tasks)}/{max([0.0, *self.tasks]):.0f}",
            f"{self.delay(50):.0f}",
            f"{self.delay(99):.0f}",
            "/".join(f"{percentile(self.stored, percent):.0f}" for percent in (50, 99)),
            f"{self.still.stage('wire') - percentile(self.stored, 50):.0f}",
            f"{self.still.stage('script'):.0f}",
            f"{self.still.stage('paint'):.0f}",
            f"{self.cpu:.0f}",
            f"{self.cpu_of_tabs:.1f}",
            f"{self.kib:,.0f}",
            f"{self.memory:.1f}",
            f"{self.first:,.0f}",
            widths=WIDTHS,
        )

    def compared(self) -> dict[str, float]:
        """Return the figures that are compared between checkouts."""
        return {
            "p50": self.delay(50),
            "p99": self.delay(99),
            "server for the tabs": self.cpu_of_tabs,
            "first card": self.first,
            "fps, still": self.still.fps,
            "fps, scrolled": self.scrolled.fps,
            "durable p50": percentile(self.stored, 50),
            "durable p99": percentile(self.stored, 99),
            "wire": self.still.stage("wire") - percentile(self.stored, 50),
            "script": self.still.stage("script"),
            "paint": self.still.stage("paint"),
        }

    def aims(self) -> dict[str, bool]:
        """Return the aims for 1,000 jobs and 20 tabs, each with True if it is reached."""
        return {
            "at least 55 fps, still and scrolled": min(self.still.fps, self.scrolled.fps) >= 55,
            "p99 below 150 ms": self.delay(99) < 150,
            "no task over 100 ms": max([0.0, *self.tasks]) <= 100,
            "at most 10 % of a core for 20 tabs": self.cpu_of_tabs <= 10,
            "first card within 1 s": self.first < 1000,
        }


class BusyServer(ServerProcess):
    """A process of `tests.bench.page_server`, and the times that it prints."""

    def __init__(self, data_dir: Path, jobs: int, root: Path) -> None:
        port = free_port()
        arguments = ("-m", "tests.bench.page_server", str(port), str(data_dir), str(jobs))
        paths = os.pathsep.join((str(root), str(root / "backend" / "client")))
        super().__init__(*arguments, port=port, environment=environment(ROOMY) | {"PYTHONPATH": paths}, root=root)
        self.cookie = self.until_says("Ready").split()[-1]

    def stored(self, since: int) -> list[int]:
        """Return the milliseconds until each change was durable, sorted, from this line of its output on."""
        lines = [json.loads(line) for line in self.lines[since:] if line.startswith("{")]
        return sorted(int(took) for line in lines for took, changes in line.items() for _ in range(changes))


@contextmanager
def busy_server(jobs: int, root: Path = ROOT) -> Iterator[BusyServer]:
    """Run a checkout's server with this number of jobs, each of which changes once a second."""
    with tempfile.TemporaryDirectory() as home:
        server = BusyServer(Path(home) / "data", jobs, root)
        try:
            yield server
        finally:
            server.kill()


class Stage:
    """A server, its simulated tabs and its real tab."""

    def __init__(self, server: BusyServer, page: Page, seconds: float) -> None:
        self._server = server
        self._page = page
        self._seconds = seconds
        self._received = Counted()
        self._tabs: list[Tab] = []
        self._cpu_of_change = 0.0
        self._memory_alone = 0.0

    async def measure_alone(self) -> None:
        """Measure the cost of the changes without any tab."""
        await asyncio.sleep(SETTLING_SECONDS)
        lines, cpu = len(self._server.lines), cpu_seconds(self._server.pid)
        await asyncio.sleep(self._seconds)
        cpu = cpu_seconds(self._server.pid) - cpu
        self._cpu_of_change = cpu / max(1, len(self._server.stored(lines)))
        self._memory_alone = memory_mib(self._server.pid)

    async def open_tabs(self, address: str, tabs: int) -> None:
        """Open this number of simulated tabs, one after the other."""
        for _ in range(tabs):
            self._tabs.append(await Tab(self._server.url, self._server.cookie, self._received).open(address))

    async def measure_page(self, address: str) -> Cell:
        """Open the real tab and measure it. Raises the browser's error if it shows no job in time."""
        await self._page.goto(self._server.url + address, wait_until="commit", timeout=MAX_WAIT_SECONDS * 1000)
        await self._page.wait_for_function("probe.first !== null", timeout=MAX_WAIT_SECONDS * 1000)
        first = await self._page.evaluate("probe.first")
        await asyncio.sleep(SETTLING_SECONDS)
        lines, read = len(self._server.lines), self._received.read
        cpu, began = cpu_seconds(self._server.pid), time.monotonic()
        still = await self._frames(scrolls=False)
        took, cpu = time.monotonic() - began, cpu_seconds(self._server.pid) - cpu
        read = self._received.read - read
        stored = self._server.stored(lines)
        scrolled = await self._frames(scrolls=True)
        return Cell(
            changes=len(stored) / took,
            stored=stored,
            still=still,
            scrolled=scrolled,
            cpu=100 * cpu / took,
            cpu_alone=100 * self._cpu_of_change * len(stored) / took,
            kib=read / 1024 / took / max(1, len(self._tabs)),
            memory=(memory_mib(self._server.pid) - self._memory_alone) / (len(self._tabs) + 1),
            first=first,
        )

    @property
    def lost(self) -> int:
        """The number of simulated tabs that have lost their connection."""
        return sum(not tab.is_connected for tab in self._tabs)

    async def close(self) -> None:
        """Close the simulated tabs."""
        for tab in self._tabs:
            await tab.close()

    async def _frames(self, *, scrolls: bool) -> Frames:
        await self._page.evaluate("scrolls => probe.begin(scrolls)", scrolls)
        await asyncio.sleep(self._seconds)
        return Frames(**await self._page.evaluate("probe.report()"))


class Round:
    """The measurements with one number of jobs."""

    def __init__(self, jobs: int, tabs: int, seconds: float, root: Path = ROOT) -> None:
        self._root = root
        self._jobs = jobs
        self._tabs = tabs
        self._seconds = seconds

    async def product(self) -> list[Cell]:
        """Measure the cards and the table, on one server."""
        return await self._cells(("cards", "table"), self._tabs)

    async def cards(self) -> list[Cell]:
        """Measure the cards; [] if that fails."""
        return await self._cells(("cards",), self._tabs)

    async def usual(self) -> None:
        """Measure the usual page; with one tab if it fails with all of them."""
        if not await self._cells(("usual",), self._tabs):
            await self._cells(("usual",), 1)

    async def _cells(self, pages: Sequence[str], tabs: int) -> list[Cell]:
        cells: list[Cell] = []
        async with staged(self._jobs, self._seconds, self._root) as stage:
            await stage.measure_alone()
            try:
                await stage.open_tabs(ADDRESSES[pages[0]], tabs - 1)
                for name in pages:
                    cells.append(await stage.measure_page(ADDRESSES[name]))
                    cells[-1].show(f"{self._jobs:,} {name} {tabs}")
            except FAILURES as failure:
                print(f"{self._jobs:,} {pages[len(cells)]} {tabs}: {_first_line(failure)}")
                cells.clear()
            if stage.lost:
                print(f"  {stage.lost} of its simulated tabs lost their connection")
        return cells


@asynccontextmanager
async def staged(jobs: int, seconds: float, root: Path = ROOT) -> AsyncIterator[Stage]:
    """Start a busy server, and a browser with an empty tab that is signed in."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(busy_server(jobs, root))
        playwright = await stack.enter_async_context(async_playwright())
        path = chromium_path(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        stack.push_async_callback(browser.close)
        context = await browser.new_context(viewport=SCREEN)  # type: ignore[arg-type]
        stage = Stage(server, await signed_in(context, server), seconds)
        stack.push_async_callback(stage.close)
        yield stage


async def signed_in(context: BrowserContext, server: BusyServer) -> Page:
    """Return a tab with the probe in every page that it opens."""
    name, _, value = server.cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": server.url}])
    page = await context.new_page()
    await page.add_init_script(path=PROBE)
    return page


def show_aims(cells: Sequence[Cell]) -> bool:
    """Print which aims are reached with 1,000 jobs and 20 tabs; return True if all are."""
    for name, cell in zip(ADDRESSES, cells, strict=False):
        for aim, is_reached in cell.aims().items():
            print(f"aim at {AIMED_JOBS:,} jobs, {name}: {aim}: {'yes' if is_reached else 'NO'}")
    return all(all(cell.aims().values()) for cell in cells)


def _first_line(failure: BaseException) -> str:
    return f"fails ({type(failure).__name__}: {str(failure).splitlines()[0]})"


async def measure(jobs: Sequence[int], tabs: int, seconds: float, max_usual: int) -> bool:
    """Print the whole table; return False if an aim was measured and missed."""
    is_reached = True
    for count in jobs:
        cells = await Round(count, tabs, seconds).product()
        if count <= max_usual:
            await Round(count, tabs, seconds).usual()
        if (count, tabs) == (AIMED_JOBS, AIMED_TABS):
            is_reached = bool(cells) and show_aims(cells)
    return is_reached


async def compare(jobs: int, other: Path, tabs: int, seconds: float, rounds: int) -> bool:
    """Measure the cards of another checkout and of this one, in alternating order; return False if an aim is missed."""
    cells: dict[Path, list[Cell]] = {other: [], ROOT: []}
    for number in range(rounds):
        for root in (other, ROOT) if number % 2 == 0 else (ROOT, other):
            print("before:" if root == other else "now:", end=" ", flush=True)
            cells[root] += await Round(jobs, tabs, seconds, root).cards()
    if not all(cells.values()):
        return False
    before, now = (
        {name: median(cell.compared()[name] for cell in own) for name in own[0].compared()} for own in cells.values()
    )
    for name, figure in now.items():
        aim = f"aim at most {MAX_RATIOS[name]} x" if name in MAX_RATIOS else ""
        ratio = figure / before[name] if before[name] else 0.0
        print(f"{jobs:,} jobs, {name}: {before[name]:,.1f} -> {figure:,.1f}, {ratio:.2f} x {aim}")
    is_fast = all(now[name] <= limit * before[name] for name, limit in MAX_RATIOS.items())
    return is_fast and min(now["fps, still"], now["fps, scrolled"]) >= MIN_FPS


async def compare_all(arguments: argparse.Namespace) -> bool:
    """Compare with each number of jobs; return False if an aim is missed."""
    root, rounds = arguments.root.resolve(), arguments.rounds
    return all([await compare(jobs, root, arguments.tabs, arguments.seconds, rounds) for jobs in arguments.jobs])


def main() -> None:
    """Measure; exit with 1 if an aim is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", type=int, default=list(JOBS))
    parser.add_argument("--tabs", type=int, default=TABS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--usual", type=int, default=MAX_USUAL, metavar="JOBS", help="maximum for the usual page")
    parser.add_argument("--root", type=Path, help="another checkout of this repository, to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of that comparison")
    arguments = parser.parse_args()
    allow_many_files()
    print(load())
    row(*HEADER.split(","), widths=WIDTHS)
    if arguments.root:
        sys.exit(not asyncio.run(compare_all(arguments)))
    sys.exit(not asyncio.run(measure(arguments.jobs, arguments.tabs, arguments.seconds, arguments.usual)))


if __name__ == "__main__":
    main()
