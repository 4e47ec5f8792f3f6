"""The README's clients for browsers, on pages of another origin: the stock React hook, and a plain WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, Page, WebSocket
from playwright.sync_api import TimeoutError as TooLate

from backend.clock import SystemClock
from tests.support.accounts import PASSWORD, open_account_store
from tests.support.chaos_proxy import ChaosProxy, ProxyPolicy, chaos_proxy
from tests.support.client_pages import build, lay_out, served
from tests.support.received import Received, reported_failures
from tests.support.senders import Order, Sender, plan_order
from tests.support.servers import Program, api, free_port, running

CUTS = 10
CUTTING = ProxyPolicy(bytes_before_end=(500, 60_000), silenced=0.0, piece_bytes=8_192, delay_seconds=0.002)
SLOW_MS = 60_000
QUIET_MS = 2_000
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
KNOWN = "() => boards.map(jobs => [Object.fromEntries(jobs.newest), [...jobs.errors.values()]])"


@dataclass
class ClientPage:
    """An open page of a client, and every socket that it has opened."""

    page: Page
    sockets: list[WebSocket] = field(default_factory=list)

    def opened(self, socket: WebSocket) -> None:
        self.sockets.append(socket)

    def until_cut(self, times: int, cut: Callable[[], None]) -> None:
        """Return when this number of connections is lost and another one has been started.

        `cut` cuts the present one when nothing more is sent through it, as on a machine whose page is slow.
        """
        while len(self.sockets) <= times:
            try:
                self.page.wait_for_event("websocket", timeout=QUIET_MS)
            except TooLate:
                cut()

    def until_closed(self) -> None:
        """Return when the page knows that its newest socket is closed."""
        self.page.wait_for_function("sockets => window.closes >= sockets", arg=len(self.sockets), timeout=SLOW_MS)

    def until_up_to_date(self, expected: Received) -> None:
        self.page.wait_for_function(UP_TO_DATE, arg=expected.positions, timeout=SLOW_MS)

    @property
    def boards(self) -> list[Received]:
        """The updates that each part of the page has received."""
        known: list[tuple[dict[str, Any], list[dict[str, Any]]]] = self.page.evaluate(KNOWN)
        return [Received(newest, {error["seq"]: error for error in errors}) for newest, errors in known]


@dataclass(frozen=True)
class Installation:
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
    def proxy(self, program: Program, policy: ProxyPolicy = CUTTING) -> Iterator[ChaosProxy]:
        with self.portal.wrap_async_context_manager(chaos_proxy(program.port, policy, seed="stock")) as proxy:
            yield proxy

    def calm(self, proxy: ChaosProxy) -> None:
        self.portal.call(proxy.calm)

    @contextmanager
    def reporting(self, program: Program, orders: Sequence[Order]) -> Iterator[None]:
        """Send all reports on these jobs while the block runs. At its end all of them have been sent."""
        report = self.portal.start_task_soon(_report, program.url, self.jwt, orders)
        yield
        report.result(SLOW_MS / 1000)

    def open_page(
        self, page: Page, name: str, port: int, *, token: str = "", delays: Sequence[float] = ()
    ) -> ClientPage:
        """Open a client's page; without `delays` it waits as the README's example does."""
        client = ClientPage(page)
        page.on("websocket", client.opened)
        query = {"server": f"http://127.0.0.1:{port}", "token": token or self.jwt}
        query |= {"delays": ",".join(map(str, delays))} if delays else {}
        page.goto(f"{self.origin}/{name}.html?{urlencode(query)}")
        return client


async def _report(url: str, jwt: str, orders: Sequence[Order]) -> None:
    headers = {"Authorization": f"Bearer {jwt}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
        await Sender(http, on_acknowledged=lambda _: None).send_all(orders)


async def _token(data_dir: Path) -> str:
    with open_account_store(data_dir, SystemClock()) as account_store:
        user = await account_store.accounts.add_user("ana", PASSWORD)
        return await account_store.accounts.issue_token(user, lifetime_seconds=86_400)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clients")
    lay_out(directory)
    return directory


@pytest.fixture(scope="module")
def stock(pages: Path) -> str:
    """Build the page with the packages of the registry."""
    build(pages)
    return "stock"


@pytest.fixture(scope="module")
def installation(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    data_dir = tmp_path_factory.mktemp("data")
    with start_blocking_portal() as portal, served(pages) as origin:
        yield Installation(portal, data_dir, portal.call(_token, data_dir), origin)


@pytest.fixture(scope="module")
def program(installation: Installation) -> Iterator[Program]:
    with installation.server() as program:
        yield program


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(SLOW_MS)
    context.add_init_script(COUNT_CLOSES)
    yield context.new_page()
    context.close()


def check(client: ClientPage, server: Program, installation: Installation, orders: Sequence[Order]) -> None:
    """Check that every part of the page ends equal to the API, and to the reports of the senders."""
    with api(server, installation.jwt) as http:
        expected = Received.from_api(http)
    client.until_up_to_date(expected)
    for board in client.boards:
        assert board == expected
        for order in orders:
            assert reported_failures(order).items() <= board.failures(order).items()


def test_the_stock_hook_ends_equal_to_the_api_after_ten_cuts(
    page: Page, installation: Installation, program: Program, stock: str
) -> None:
    rng = Random(6)
    orders = [plan_order(f"cut-{number}", ends=number > 0, rng=rng) for number in range(6)]
    with installation.proxy(program) as proxy:
        with installation.reporting(program, orders):
            client = installation.open_page(page, stock, proxy.port, delays=QUICK)
            client.until_cut(CUTS, partial(installation.portal.call, proxy.cut_open))
        installation.calm(proxy)
        check(client, program, installation, orders)
        assert proxy.cut >= CUTS
        assert [socket.is_closed() for socket in client.sockets].count(False) == 1  # both parts share it


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_a_bad_token_is_refused_once_and_not_tried_again(
    page: Page, installation: Installation, program: Program, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    with installation.proxy(program) as proxy:
        installation.calm(proxy)
        page.clock.install()
        client = installation.open_page(page, name, proxy.port, token="no-token")
        client.until_closed()
        page.clock.fast_forward("10:00")  # whatever the page waited for would be done
        page.evaluate(
            "url => new Promise(resolve => { new WebSocket(url).onopen = resolve })",
            f"ws://127.0.0.1:{proxy.port}/api/ws/progress?token={installation.jwt}",
        )
        assert proxy.connections == 2  # the refused one, and this


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_a_server_that_stays_away_is_tried_ten_times_with_growing_delays(
    page: Page, installation: Installation, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    page.clock.install()
    client = installation.open_page(page, name, free_port())
    for attempts, delay in enumerate(DELAYS, start=1):
        client.until_closed()
        page.clock.fast_forward(1000 * (delay - MARGIN_SECONDS))
        assert len(client.sockets) == attempts
        with page.expect_websocket():
            page.clock.fast_forward(1000 * MARGIN_SECONDS)
    client.until_closed()
    page.clock.fast_forward("10:00")
    assert len(client.sockets) == 1 + len(DELAYS)


@pytest.mark.parametrize("name", ["stock", "plain"])
def test_pings_keep_a_quiet_connection_open(
    page: Page, installation: Installation, program: Program, name: str, request: pytest.FixtureRequest
) -> None:
    if name == "stock":
        request.getfixturevalue("stock")
    page.clock.install()
    client = installation.open_page(page, name, program.port)
    with api(program, installation.jwt) as http:
        client.until_up_to_date(Received.from_api(http))
    for _ in range(3):
        with client.sockets[0].expect_event("framereceived", lambda frame: frame == "pong"):
            page.clock.fast_forward(1000 * PING_AFTER_SECONDS)
    assert len(client.sockets) == 1
    assert not client.sockets[0].is_closed()
