"""What the dashboard costs: `python -m tests.bench.page [JOBS…] [--tabs N] [--seconds S] [--usual N]`.

Real Chromium looks at 20, 200, 1,000 and 5,000 jobs that each change once a second: cards, the compact table, and up
to 1,000 jobs the same the usual NiceGUI way (tests/bench/usual_page.py), each page on a fresh server. A change goes the
real way: `JobManager.hear` in the server's process, the hub's tick, the database, the live room, Socket.IO, the page.
Of 20 tabs one is Chromium; 19 are simulated (tests/bench/tabs.py): they load the page, join its room and decode all
they are sent. The simulated tabs come first, so the real one's first card is one of a busy server.

"fps" and "scroll": frames a second, the page still or scrolled by 40 px a frame. "gap": the longest time between two
frames; "long": tasks over 50 ms and the longest; both still and scrolled, in ms. "p50", "p99": ms from the change,
before it is given to the manager, to the end of the frame that draws it, for what the page has drawn; "stored": p50 and
p99 until the change is durable, before which nobody may see it. "all": CPU of the server's process in % of a core;
"tabs": the same without what it was before the first tab came. "KiB/s": what a simulated tab receives. "MiB": growth of
the server's memory for each tab. "first": ms from asking for the page to the frame with its first card, with an empty
cache where the page is opened for the first time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import socketio  # type: ignore[import-untyped]
from playwright.async_api import BrowserContext, Page, async_playwright
from playwright.async_api import Error as BrowserError

from tests.bench.measure import allow_many_files, cpu_seconds, load, memory_mib, percentile, row
from tests.bench.senders import ROOMY
from tests.bench.tabs import Counted, Tab
from tests.support.browser import FLAGS, chromium_path
from tests.support.servers import ServerProcess, environment, free_port

JOBS = (20, 200, 1000, 5000)
TABS, SECONDS, MOST_USUAL = 20, 10.0, 1000
SETTLING_SECONDS = 3.0
LONGEST_SECONDS = 60.0
SCREEN = {"width": 1440, "height": 900}
PROBE = Path(__file__).parent / "probe.js"
ADDRESSES = {"cards": "/", "table": "/?view=table", "usual": "/usual"}
HEADER = "jobs page tabs,changes/s,fps,scroll,gap,long,p50,p99,stored,all %,tabs %,KiB/s,MiB,first"
WIDTHS = (17, 9, 6, 6, 6, 8, 6, 6, 9, 6, 6, 7, 6, 7)
AIMED_JOBS, AIMED_TABS = 1000, 20
FAILURES = (BrowserError, httpx.HTTPError, socketio.exceptions.SocketIOError, OSError)


@dataclass(frozen=True)
class Frames:
    """What the probe saw of the page: frames a second, and in ms gaps between frames, long tasks, changes' ages."""

    fps: float
    gaps: list[float]
    tasks: list[float]
    delays: list[float]


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
        """From the change to the pixel."""
        return percentile(sorted(self.still.delays), percent)

    def show(self, name: str) -> None:
        """A line of the table."""
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
            f"{self.cpu:.0f}",
            f"{self.cpu_of_tabs:.1f}",
            f"{self.kib:,.0f}",
            f"{self.memory:.1f}",
            f"{self.first:,.0f}",
            widths=WIDTHS,
        )

    def aims(self) -> dict[str, bool]:
        """What is aimed at with a thousand jobs and twenty tabs, and whether it is so."""
        return {
            "at least 55 fps, still and scrolled": min(self.still.fps, self.scrolled.fps) >= 55,
            "p99 below 150 ms": self.delay(99) < 150,
            "no task over 100 ms": max([0.0, *self.tasks]) <= 100,
            "at most 10 % of a core for 20 tabs": self.cpu_of_tabs <= 10,
            "first card within 1 s": self.first < 1000,
        }


class BusyServer(ServerProcess):
    """`tests.bench.page_server`, and what it says of its changes."""

    def __init__(self, data_dir: Path, jobs: int) -> None:
        port = free_port()
        arguments = ("-m", "tests.bench.page_server", str(port), str(data_dir), str(jobs))
        super().__init__(*arguments, port=port, environment=environment(ROOMY))
        self.cookie = self.until_says("Ready").split()[-1]

    def stored(self, since: int) -> list[int]:
        """Milliseconds until each change was durable, in their order, from this line of its output on."""
        lines = [json.loads(line) for line in self.lines[since:] if line.startswith("{")]
        return sorted(int(took) for line in lines for took, times in line.items() for _ in range(times))


@contextmanager
def busy_server(jobs: int) -> Iterator[BusyServer]:
    """So many jobs that change once a second."""
    with tempfile.TemporaryDirectory() as home:
        server = BusyServer(Path(home) / "data", jobs)
        try:
            yield server
        finally:
            server.kill()


class Stage:
    """A server, its simulated tabs and its real one."""

    def __init__(self, server: BusyServer, page: Page, seconds: float) -> None:
        self._server = server
        self._page = page
        self._seconds = seconds
        self._received = Counted()
        self._tabs: list[Tab] = []
        self._cpu_alone = 0.0
        self._memory_alone = 0.0

    async def stand_alone(self) -> None:
        """Learn what the changes cost while nobody looks."""
        await asyncio.sleep(SETTLING_SECONDS)
        cpu, began = cpu_seconds(self._server.pid), time.monotonic()
        await asyncio.sleep(self._seconds)
        self._cpu_alone = 100 * (cpu_seconds(self._server.pid) - cpu) / (time.monotonic() - began)
        self._memory_alone = memory_mib(self._server.pid)

    async def fill(self, address: str, tabs: int) -> None:
        """Open so many simulated tabs, one after the other."""
        for _ in range(tabs):
            self._tabs.append(await Tab(self._server.url, self._server.cookie, self._received).open(address))

    async def look(self, address: str) -> Cell:
        """Open the real tab and measure it; raises what the browser says when it shows no job in time."""
        await self._page.goto(self._server.url + address, wait_until="commit", timeout=LONGEST_SECONDS * 1000)
        await self._page.wait_for_function("probe.first !== null", timeout=LONGEST_SECONDS * 1000)
        first = await self._page.evaluate("probe.first")
        await asyncio.sleep(SETTLING_SECONDS)
        said, read = len(self._server.lines), self._received.read
        cpu, began = cpu_seconds(self._server.pid), time.monotonic()
        still = await self._frames(scrolls=False)
        took, cpu = time.monotonic() - began, cpu_seconds(self._server.pid) - cpu
        read = self._received.read - read
        stored = self._server.stored(said)
        scrolled = await self._frames(scrolls=True)
        return Cell(
            changes=len(stored) / took,
            stored=stored,
            still=still,
            scrolled=scrolled,
            cpu=100 * cpu / took,
            cpu_alone=self._cpu_alone,
            kib=read / 1024 / took / max(1, len(self._tabs)),
            memory=(memory_mib(self._server.pid) - self._memory_alone) / (len(self._tabs) + 1),
            first=first,
        )

    @property
    def lost(self) -> int:
        """Simulated tabs that are no longer connected."""
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
    """All pages under one number of jobs."""

    def __init__(self, jobs: int, tabs: int, seconds: float) -> None:
        self._jobs = jobs
        self._tabs = tabs
        self._seconds = seconds

    async def product(self) -> list[Cell]:
        """Cards and table, of one server."""
        return await self._cells(("cards", "table"), self._tabs)

    async def usual(self) -> None:
        """The usual page; with one tab where it does not live with all of them."""
        if not await self._cells(("usual",), self._tabs):
            await self._cells(("usual",), 1)

    async def _cells(self, pages: Sequence[str], tabs: int) -> list[Cell]:
        cells: list[Cell] = []
        async with staged(self._jobs, self._seconds) as stage:
            await stage.stand_alone()
            try:
                await stage.fill(ADDRESSES[pages[0]], tabs - 1)
                for name in pages:
                    cells.append(await stage.look(ADDRESSES[name]))
                    cells[-1].show(f"{self._jobs:,} {name} {tabs}")
            except FAILURES as failure:
                print(f"{self._jobs:,} {pages[len(cells)]} {tabs}: {_first_line(failure)}")
                cells.clear()
            if stage.lost:
                print(f"  of its simulated tabs {stage.lost} lost their connection")
        return cells


@asynccontextmanager
async def staged(jobs: int, seconds: float) -> AsyncIterator[Stage]:
    """A busy server, and a browser tab at nothing yet, signed in."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(busy_server(jobs))
        playwright = await stack.enter_async_context(async_playwright())
        path = chromium_path(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        stack.push_async_callback(browser.close)
        context = await browser.new_context(viewport=SCREEN)  # type: ignore[arg-type]
        stage = Stage(server, await signed_in(context, server), seconds)
        stack.push_async_callback(stage.close)
        yield stage


async def signed_in(context: BrowserContext, server: BusyServer) -> Page:
    """A tab with the probe in whatever it will open."""
    name, _, value = server.cookie.partition("=")
    await context.add_cookies([{"name": name, "value": value, "url": server.url}])
    page = await context.new_page()
    await page.add_init_script(path=PROBE)
    return page


def show_aims(cells: Sequence[Cell]) -> bool:
    """Say what is reached at 1,000 jobs and 20 tabs; whether all of it is."""
    for name, cell in zip(ADDRESSES, cells, strict=False):
        for aim, is_reached in cell.aims().items():
            print(f"aim at {AIMED_JOBS:,} jobs, {name}: {aim}: {'yes' if is_reached else 'NO'}")
    return all(all(cell.aims().values()) for cell in cells)


def _first_line(failure: BaseException) -> str:
    return f"does not live ({type(failure).__name__}: {str(failure).splitlines()[0]})"


async def measure(jobs: Sequence[int], tabs: int, seconds: float, most_usual: int) -> bool:
    """Print the whole table; whether the aims are reached, as far as they were measured."""
    reached = True
    for count in jobs:
        cells = await Round(count, tabs, seconds).product()
        if count <= most_usual:
            await Round(count, tabs, seconds).usual()
        if (count, tabs) == (AIMED_JOBS, AIMED_TABS):
            reached = bool(cells) and show_aims(cells)
    return reached


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", type=int, default=list(JOBS))
    parser.add_argument("--tabs", type=int, default=TABS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--usual", type=int, default=MOST_USUAL, metavar="JOBS", help="most jobs of the usual page")
    asked = parser.parse_args()
    allow_many_files()
    print(load())
    row(*HEADER.split(","), widths=WIDTHS)
    sys.exit(not asyncio.run(measure(asked.jobs, asked.tabs, asked.seconds, asked.usual)))


if __name__ == "__main__":
    main()
