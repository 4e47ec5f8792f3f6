"""The README's clients for browsers, on pages of another origin: the stock React hook, and a plain WebSocket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, Page, WebSocket

from backend.clock import SystemClock
from tests.support.accounts import PASSWORD, open_office
from tests.support.chaos_proxy import ChaosProxy, Habits, bad_line
from tests.support.client_pages import build, lay_out, served
from tests.support.senders import Order, Sender, planned
from tests.support.servers import Program, api, free_port, running
from tests.support.received import Told, reported

CUTS = 10
CUTTING = Habits(life_bytes=(500, 60_000), silenced=0.0, bytes_at_once=8_192, delay_seconds=0.002)
SLOW_MS = 60_000
QUICK = (0.02, 0.05, 0.1)  # seconds between attempts
DELAYS = (3, 6, 12, 24, 30, 30, 30, 30, 30, 30)  # what the README's examples wait
MARGIN_SECONDS = 1
PING_AFTER_SECONDS = 29  # of silence, and a look at it every few seconds
UP_TO_DATE = """positions => boards.every(jobs => jobs.gaps.size === 0
    && Object.entries(positions).every(([id, seq]) => jobs.newest.get(id)?.seq === seq))"""
COUNT_CLOSES = """window.closes = 0;
    window.WebSocket = class extends WebSocket {
      constructor(...given) {
        super(...given);
        this.addEventListener("close", () => window.closes += 1);
      }
    };"""
WHAT_THEY_KNOW = "() => boards.map(jobs => [Object.fromEntries(jobs.newest), [...jobs.errors.values()]])"


@dataclass
class RequestContext:
    """An open page of a client, and every socket that it ever asked for."""

    page: Page
    sockets: list[WebSocket] = field(default_factory=list)

    def opened(self, socket: WebSocket) -> None:
        self.sockets.append(socket)

    def until_cut(self, times: int) -> None:
        """Return when so many of its connections were lost and another one is begun."""
        while len(self.sockets) <= times:
            self.page.wait_for_event("websocket", timeout=SLOW_MS)

    def until_closed(self) -> None:
        """Return when the page has heard that its newest socket is closed."""
        self.page.wait_for_function("sockets => window.closes >= sockets", arg=len(self.sockets), timeout=SLOW_MS)

    def until_it_knows(self, told: Told) -> None:
        self.page.wait_for_function(UP_TO_DATE, arg=told.positions, timeout=SLOW_MS)

    @property
    def boards(self) -> list[Told]:
        """What each part of the page was told."""
        known: list[tuple[dict[str, Any], list[dict[str, Any]]]] = self.page.evaluate(WHAT_THEY_KNOW)
        return [Told(newest, {error["seq"]: error for error in errors}) for newest, errors in known]


@dataclass(frozen=True)
class Ground:
    """A server's data with a user, and the origin that serves the clients' pages."""

    portal: BlockingPortal
    data_dir: Path
    jwt: str
    origin: str

    @contextmanager
    def server(self, port: int | None = None) -> Iterator[Program]:
        settings: dict[str, Any] = {"allowed_hosts": "127.0.0.1", "allowed_origins": self.origin}
        with running(self.data_dir, port=port, **settings) as program:
            yield program

    @contextmanager
    def line(self, program: Program, habits: Habits = CUTTING) -> Iterator[ChaosProxy]:
        with self.portal.wrap_async_context_manager(bad_line(program.port, habits, seed="stock")) as line:
            yield line

    def calm(self, line: ChaosProxy) -> None:
        self.portal.call(line.calm)

    @contextmanager
    def reporting(self, program: Program, orders: Sequence[Order]) -> Iterator[None]:
        """All that is to be said of these jobs is reported while the block runs, and was at its end."""
        said = self.portal.start_task_soon(_report, program.url, self.jwt, orders)
        yield
        said.result(SLOW_MS / 1000)

    def visit(
        self, page: Page, name: str, port: int, *, token: str = "", delays: Sequence[float] = ()
    ) -> RequestContext:
        """Open a client's page; without `delays` it waits as the README's example does."""
        visit = RequestContext(page)
        page.on("websocket", visit.opened)
        query = {"server": f"http://127.0.0.1:{port}", "token": token or self.jwt}
        query |= {"delays": ",".join(map(str, delays))} if delays else {}
        page.goto(f"{self.origin}/{name}.html?{urlencode(query)}")
        return visit


async def _report(url: str, jwt: str, orders: Sequence[Order]) -> None:
    headers = {"Authorization": f"Bearer {jwt}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
        await Sender(http, on_acknowledged=lambda _: None).work_off(orders)


async def _token(data_dir: Path) -> str:
    with open_office(data_dir, SystemClock()) as office:
        user = await office.accounts.add_user("ana", PASSWORD)
        return await office.accounts.issue_token(user, lifetime_seconds=86_400)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clients")
    lay_out(directory)
    return directory


@pytest.fixture(scope="module")
def stock(pages: Path) -> str:
    """The page with the registry's packages."""
    build(pages)
    return "stock"


@pytest.fixture(scope="module")
def ground(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    data_dir = tmp_path_factory.mktemp("data")
    with start_blocking_portal() as portal, served(pages) as origin:
        yield Ground(portal, data_dir, portal.call(_token, data_dir), origin)


@pytest.fixture(scope="module")
def program(ground: Ground) -> Iterator[Program]:
    with ground.server() as program:
        yield program


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(SLOW_MS)
    context.add_init_script(COUNT_CLOSES)
    yield context.new_page()
    context.close()


def check(visit: RequestContext, server: Program, ground: Ground, orders: Sequence[Order]) -> None:
    """Every part of the page ends equal to the API, and to what the senders said."""
    with api(server, ground.jwt) as http:
        told = Told.by(http)
    visit.until_it_knows(told)
    for board in visit.boards:
        assert board == told
        for order in orders:
            assert reported(order).items() <= board.failures(order).items()


def test_the_stock_hook_over_a_line_that_is_cut_ten_times_ends_equal_to_the_api(
    page: Page, ground: Ground, program: Program, stock: str
) -> None:
    chance = Random(6)
    orders = [planned(f"cut-{number}", ends=number > 0, chance=chance) for number in range(6)]
    with ground.line(program) as line:
        with ground.reporting(program, orders):
            visit = ground.visit(page, stock, line.port, delays=QUICK)
            visit.until_cut(CUTS)
        ground.calm(line)
        check(visit, program, ground, orders)
        assert line.cut >= CUTS
        assert [socket.is_closed() for socket in visit.sockets].count(False) == 1  # both parts share it


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_a_bad_token_is_refused_once_and_not_tried_again(
    page: Page, ground: Ground, program: Program, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    with ground.line(program) as line:
        ground.calm(line)
        page.clock.install()
        visit = ground.visit(page, name, line.port, token="no-token")
        visit.until_closed()
        page.clock.fast_forward("10:00")  # whatever the page waited for would be done
        page.evaluate(
            "url => new Promise(heard => { new WebSocket(url).onopen = heard })",
            f"ws://127.0.0.1:{line.port}/api/ws/progress?token={ground.jwt}",
        )
        assert line.connections == 2  # the refused one, and this


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_a_server_that_stays_away_is_tried_ten_times_ever_later(
    page: Page, ground: Ground, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    page.clock.install()
    visit = ground.visit(page, name, free_port())
    for attempts, delay in enumerate(DELAYS, start=1):
        visit.until_closed()
        page.clock.fast_forward(1000 * (delay - MARGIN_SECONDS))
        assert len(visit.sockets) == attempts
        with page.expect_websocket():
            page.clock.fast_forward(1000 * MARGIN_SECONDS)
    visit.until_closed()
    page.clock.fast_forward("10:00")
    assert len(visit.sockets) == 1 + len(DELAYS)


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_a_quiet_line_is_kept_open_by_pings(
    page: Page, ground: Ground, program: Program, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    page.clock.install()
    visit = ground.visit(page, name, program.port)
    with api(program, ground.jwt) as http:
        visit.until_it_knows(Told.by(http))
    for _ in range(3):
        with visit.sockets[0].expect_event("framereceived", lambda frame: frame == "pong"):
            page.clock.fast_forward(1000 * PING_AFTER_SECONDS)
    assert len(visit.sockets) == 1
    assert not visit.sockets[0].is_closed()
