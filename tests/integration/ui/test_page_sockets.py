"""A NiceGUI page behind the security middleware, attacked from sockets and used in a browser.

Each test fails without its defence.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import aiohttp
import httpx
import pytest
import socketio  # type: ignore[import-untyped]
from playwright.async_api import Page, async_playwright
from sqlalchemy import text

from backend.accounts.accounts import Accounts
from backend.clock import SystemClock
from backend.domain.auth import User
from tests.support.accounts import PASSWORD, SECRET, AccountStore, open_account_store
from tests.support.browser import FLAGS, shell_path
from tests.support.secured_app import SECRET_OF_A_FAULT
from tests.support.servers import TLS, ServerProcess, serving

ASSETS = f"/_nicegui/{version('nicegui')}"
HTML = "text/html"
SOON_SECONDS = 5.0
NOTICED_SECONDS = 2.5  # sessions are checked every second


@dataclass
class Site:
    """The server process, its output, and its accounts, which a test changes from outside like a command."""

    server: ServerProcess
    account_store: AccountStore

    @property
    def accounts(self) -> Accounts:
        return self.account_store.accounts

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def output(self) -> str:
        return self.server.output

    async def until(self, holds: Callable[[], bool], seconds: float = SOON_SECONDS) -> bool:
        """Return True if `holds` becomes True in that time."""
        end = time.monotonic() + seconds
        while not (done := holds()) and time.monotonic() < end:  # noqa: ASYNC110  it happens in another process
            await asyncio.sleep(0.02)
        return done

    def browser(self, cookie: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a client that sends this session's cookie from a page of the site."""
        sent = {"origin": self.url, "accept": HTML} | headers
        cookies = {f"dash_{self.port}": cookie} if cookie else None
        return httpx.AsyncClient(base_url=self.url, headers=sent, cookies=cookies, verify=TLS)


@dataclass(frozen=True)
class Tab:
    """What a built page sent to its browser, which is enough to drive it."""

    page_id: str
    elements: dict[str, dict[str, Any]]

    def click(self, label: str = "Press") -> dict[str, Any]:
        """Return the message of a click on the button."""
        return self.message(lambda element: element.get("props", {}).get("label") == label, [])

    def typed(self, value: str) -> dict[str, Any]:
        """Return the message of typing a value."""
        return self.message(lambda element: element.get("tag") == "nicegui-input", [json.dumps(value)])

    def message(self, matches: Callable[[dict[str, Any]], bool], args: list[str]) -> dict[str, Any]:
        number, element = next((key, element) for key, element in self.elements.items() if matches(element))
        listener = element["events"][0]["listener_id"]
        return {"id": int(number), "client_id": self.page_id, "listener_id": listener, "args": args}

    @property
    def upload_address(self) -> str:
        return str(next(e["props"]["url"] for e in self.elements.values() if "url" in e.get("props", {})))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data_dir = tmp_path_factory.mktemp("guarded")
    with (
        open_account_store(data_dir, SystemClock(), jwt_secret=SECRET) as account_store,
        serving("tests.support.guarded_page", str(data_dir)) as server,
    ):
        yield Site(server, account_store)


@pytest.fixture
async def ana(site: Site) -> User:
    return await site.accounts.add_user(f"ana-{time.monotonic_ns()}", PASSWORD)


@pytest.fixture
async def ben(site: Site) -> User:
    return await site.accounts.add_user(f"ben-{time.monotonic_ns()}", PASSWORD)


async def open_tab(site: Site, cookie: str) -> Tab:
    """Return a page of the session's user, built but not yet connected."""
    async with site.browser(cookie) as browser:
        page = (await browser.get("/")).text
    elements = re.search(r"parseElements\(String\.raw`(.*?)`\)", page, re.DOTALL)
    page_id = re.search(r"'client_id': '([^']+)'", page)
    assert elements
    assert page_id
    return Tab(page_id[1], json.loads(html.unescape(elements[1])))


@asynccontextmanager
async def socket_of(site: Site, cookie: str, page_id: str, **headers: str) -> AsyncIterator[socketio.AsyncClient]:
    """Connect a client that ignores the page's orders: it has no `open` listener and does not reconnect."""
    sent = {"Origin": site.url, "Cookie": f"dash_{site.port}={cookie}"} | headers
    address = f"{site.url}/?{handshake_of(page_id)}"
    async with aiohttp.ClientSession() as session:  # a client's own session stays open when it is refused
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        await client.connect(address, headers=sent, transports=["websocket"], socketio_path="/_nicegui_ws/socket.io")
        try:
            yield client
        finally:
            await client.disconnect()


def handshake_of(page_id: str) -> str:
    return f"client_id={page_id}&implicit_handshake=true&tab_id=t&document_id=d&next_message_id=0"


def polling_address(page_id: str) -> str:
    return f"/_nicegui_ws/socket.io/?EIO=4&transport=polling&{handshake_of(page_id)}"


async def start_polling(browser: httpx.AsyncClient, page_id: str) -> str:
    """Connect like a browser whose WebSockets a proxy blocks. Returns the ID of the connection."""
    opened = await browser.get(polling_address(page_id))
    engine_id = str(json.loads(opened.text[1:])["sid"])
    assert (await browser.post(f"{polling_address(page_id)}&sid={engine_id}", content="40")).status_code == 200
    assert (await browser.get(f"{polling_address(page_id)}&sid={engine_id}")).text.startswith("40")
    return engine_id


def packet(message: dict[str, Any]) -> str:
    """Return a message as the transport carries it."""
    return "42" + json.dumps(["event", message])


async def test_a_click_reaches_the_page_as_its_user(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket:
        await socket.emit("event", tab.click())
        assert await site.until(lambda: f"click by {ana.name}, admin: False" in site.output)


async def test_long_polling_works_as_well(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with site.browser(cookie) as browser:
        engine_id = await start_polling(browser, tab.page_id)
        await browser.post(f"{polling_address(tab.page_id)}&sid={engine_id}", content=packet(tab.click()))
        assert await site.until(lambda: f"click by {ana.name}" in site.output)


async def test_typed_texts_arrive_in_order(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket:
        for number in range(40):
            await socket.emit("event", tab.typed(f"{number}"))
        assert await site.until(lambda: f"typed 39 by {ana.name}" in site.output)
    assert re.findall(rf"typed (\d+) by {ana.name}", site.output) == [str(number) for number in range(40)]


async def test_another_users_session_cannot_connect_to_a_page(site: Site, ana: User, ben: User) -> None:
    tab = await open_tab(site, await site.accounts.open_session(ana))
    with pytest.raises(socketio.exceptions.ConnectionError):
        async with socket_of(site, await site.accounts.open_session(ben), tab.page_id):
            pass


@pytest.mark.parametrize("event", ["event", "handshake", "log", "javascript_response", "ack"])
async def test_another_users_socket_cannot_send_for_a_page(site: Site, ana: User, ben: User, event: str) -> None:
    anas = await site.accounts.open_session(ana)
    tab = await open_tab(site, anas)
    bens = await site.accounts.open_session(ben)
    own = await open_tab(site, bens)
    forged = {**tab.click(), "tab_id": "t", "document_id": "d", "level": "error", "message": f"forged for {ana.name}"}
    async with socket_of(site, anas, tab.page_id), socket_of(site, bens, own.page_id) as foreign:
        await foreign.emit(event, forged | {"request_id": "r", "next_message_id": 0})
        await foreign.emit("event", tab.click())
        await foreign.emit("event", own.click())  # in order: the others have been handled before this one
        assert await site.until(lambda: f"click by {ben.name}" in site.output)
    assert f"click by {ana.name}" not in site.output
    assert f"forged for {ana.name}" not in site.output


async def test_another_users_polling_cannot_write_into_a_connection(site: Site, ana: User, ben: User) -> None:
    anas, bens = [await site.accounts.open_session(user) for user in (ana, ben)]
    tab, own = await open_tab(site, anas), await open_tab(site, bens)
    async with site.browser(anas) as browser, site.browser(bens) as foreign:
        engine_id = await start_polling(browser, tab.page_id)
        forged = f"{polling_address(own.page_id)}&sid={engine_id}"
        statuses = [
            (await foreign.post(forged, content=packet(tab.click()))).status_code,
            (await foreign.get(forged)).status_code,
        ]
        await browser.post(f"{polling_address(tab.page_id)}&sid={engine_id}", content=packet(tab.typed("done")))
        assert await site.until(lambda: f"typed done by {ana.name}" in site.output)
    assert statuses == [403, 403]
    assert f"click by {ana.name}" not in site.output


@pytest.mark.parametrize("headers", [{"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}, {"Cookie": "a=b"}])
async def test_a_foreign_page_or_an_unknown_user_cannot_connect(site: Site, ana: User, headers: dict[str, str]) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    with pytest.raises(socketio.exceptions.ConnectionError):
        async with socket_of(site, cookie, tab.page_id, **headers):
            pass


async def test_a_revoked_tab_that_ignores_the_server_has_no_effect(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket:
        await site.accounts.end_session(cookie)
        await socket.emit("event", tab.click())
        assert await site.until(lambda: not socket.connected)
    assert f"click by {ana.name}" not in site.output
    with pytest.raises(socketio.exceptions.ConnectionError):
        async with socket_of(site, cookie, tab.page_id):
            pass


@pytest.mark.parametrize("how", ["sign-out", "password", "disabled", "role"])
async def test_a_tab_that_sends_nothing_is_closed_too(site: Site, ana: User, how: str) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket:
        match how:
            case "sign-out":
                async with site.browser(cookie) as browser:
                    await browser.post("/logout")
            case "password":
                await site.accounts.set_password(ana.name, "another horse")
            case "disabled":
                await site.accounts.disable(ana.name)
            case "role":
                await make_admin(site, ana)
        assert await site.until(lambda: not socket.connected, NOTICED_SECONDS)


async def test_other_tabs_stay_open_when_one_session_ends(site: Site, ana: User, ben: User) -> None:
    anas, bens = [await site.accounts.open_session(user) for user in (ana, ben)]
    tab, own = await open_tab(site, anas), await open_tab(site, bens)
    async with socket_of(site, anas, tab.page_id) as ending, socket_of(site, bens, own.page_id) as staying:
        await site.accounts.end_session(anas)
        assert await site.until(lambda: not ending.connected, NOTICED_SECONDS)
        assert staying.connected


async def test_a_new_role_counts_from_the_next_click(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket:
        await make_admin(site, ana)
        await socket.emit("event", tab.click())
        assert await site.until(lambda: f"click by {ana.name}" in site.output)
    assert f"click by {ana.name}, admin: True" in site.output


async def make_admin(site: Site, user: User) -> None:
    change = text('UPDATE "user" SET is_admin = TRUE WHERE id = :id').bindparams(id=user.id)
    await site.account_store.database.write(lambda connection: connection.execute(change))


async def test_an_upload_goes_only_to_the_pages_own_user(site: Site, ana: User, ben: User) -> None:
    cookie = await site.accounts.open_session(ana)
    address = (await open_tab(site, cookie)).upload_address
    small, large = {"file": ("a.csv", b"x")}, {"file": ("a.csv", bytes(22 * 1024 * 1024))}
    async with site.browser(cookie) as own, site.browser(await site.accounts.open_session(ben)) as foreign:
        statuses = [(await who.post(address, files=small)).status_code for who in (foreign, own)]
        statuses.append((await own.post(address, files=large)).status_code)
    async with site.browser() as unknown:
        statuses.append((await unknown.post(address, files=small)).status_code)
    assert statuses == [403, 200, 413, 401]
    assert site.output.count(f"upload by {ana.name}") == 1


async def test_without_a_session_the_server_builds_no_page(site: Site) -> None:
    paths = ["/", "/nope", f"{ASSETS}/nope", f"{ASSETS}/resources/x", "/_nicegui_ws/", "/favicon.ico/x"]
    async with site.browser() as unknown:
        before = (await unknown.get("/healthz")).json()
        for number in range(50):
            await asyncio.gather(*(unknown.get(f"{path}?{number}") for path in paths))
        assert (await unknown.get("/healthz")).json() <= before


@pytest.mark.parametrize("path", ["/broken", "/broken-late"])
async def test_a_failed_page_shows_a_number_but_no_exception(site: Site, ana: User, path: str) -> None:
    async with site.browser(await site.accounts.open_session(ana)) as browser:
        answer = await browser.get(path)
    assert answer.status_code == 500
    assert SECRET_OF_A_FAULT not in answer.text
    number = re.findall(r"the number ([0-9a-f]{8})", answer.text)
    assert await site.until(lambda: f"number={number[0]}" in site.output)


async def test_a_missing_job_or_page_answers_404_in_words(site: Site, ana: User) -> None:
    async with site.browser(await site.accounts.open_session(ana)) as browser:
        job, page = await browser.get("/gone"), await browser.get("/no/such/page")
    assert [job.status_code, page.status_code] == [404, 404]
    assert "There is no such job" in job.text
    assert "There is nothing at this address" in page.text


async def test_no_secret_and_no_forged_line_is_logged(site: Site, ana: User) -> None:
    cookie = await site.accounts.open_session(ana)
    tab = await open_tab(site, cookie)
    async with socket_of(site, cookie, tab.page_id) as socket, site.browser() as browser:
        forged = {"client_id": tab.page_id, "level": "error", "message": "x\n2026-01-31 ERROR forged\x1b[2J"}
        await socket.emit("log", forged)
        await browser.get("/link?token=the-link-token")
        await browser.get("/healthz", headers={"authorization": "Bearer the-token"})
        assert await site.until(lambda: "forged" in site.output and "/link?token=" in site.output)
        secrets = [tab.page_id, socket.eio.sid, cookie, "the-link-token", "the-token", "\x1b"]
    assert [secret for secret in secrets if secret in site.output] == []
    assert not re.search(r"^2026-01-31", site.output, re.MULTILINE)


# In a browser


@asynccontextmanager
async def chromium(site: Site, complaints: list[str]) -> AsyncIterator[Page]:
    """Open a tab that records the errors in its console and each request to another host."""
    async with async_playwright() as playwright:
        path = shell_path(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        own = (site.url, "data:")
        page.on("request", lambda sent: None if sent.url.startswith(own) else complaints.append(sent.url))
        yield page
        await browser.close()


async def send_sign_in(page: Page, name: str, password: str) -> None:
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def sign_in(site: Site, page: Page, user: User) -> None:
    await page.goto(site.url)
    await send_sign_in(page, user.name, PASSWORD)
    await page.get_by_text(f"Signed in as {user.name}").wait_for()


@pytest.mark.browser
async def test_a_user_works_and_signs_in_again_after_the_session_ended(site: Site, ana: User) -> None:
    complaints: list[str] = []
    async with chromium(site, complaints) as page:
        await sign_in(site, page, ana)
        await page.get_by_role("button", name="Press").click()
        assert await site.until(lambda: f"click by {ana.name}" in site.output)
        await page.get_by_role("button", name="Refused").click()
        await page.get_by_text("There is no such job").wait_for()
        assert complaints == []
        await site.accounts.set_password(ana.name, "another horse")
        await page.get_by_text("your session has ended").first.wait_for(timeout=10_000)
        await page.get_by_role("link", name="Sign in").click()
        await send_sign_in(page, ana.name, "another horse")
        await page.get_by_text(f"Signed in as {ana.name}").wait_for()
        await page.get_by_text("Connected").first.wait_for()


@pytest.mark.browser
async def test_an_injected_script_does_not_run(site: Site, ana: User) -> None:
    complaints: list[str] = []
    async with chromium(site, complaints) as page:
        await sign_in(site, page, ana)
        await page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = 1";
                document.body.append(script);
                const image = document.createElement("div");
                image.innerHTML = '<img src="data:," onerror="window.ran = 2">';
                document.body.append(image);
            }"""
        )
        await page.get_by_role("button", name="Press").click()
        assert await page.evaluate("window.ran ?? null") is None
    assert any("Content Security Policy" in complaint for complaint in complaints)


@pytest.mark.browser
async def test_the_documentation_needs_no_other_server(site: Site) -> None:
    complaints: list[str] = []
    async with chromium(site, complaints) as page:
        await page.goto(f"{site.url}/docs")
        await page.get_by_text("/api/auth/token", exact=True).wait_for()
        await page.get_by_text("/api/auth/token", exact=True).click()
        await page.get_by_role("button", name="Try it out").wait_for()
    assert complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_sign_in_fits_a_phone_in_both_themes(site: Site, scheme: str) -> None:
    complaints: list[str] = []
    async with chromium(site, complaints) as page:
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size({"width": 360, "height": 640})
        await page.goto(f"{site.url}/login")
        await send_sign_in(page, "nobody", "not the password")
        await page.get_by_role("alert").wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert (
            await page.evaluate("getComputedStyle(document.body).backgroundColor")
            == {
                "light": "rgb(245, 246, 248)",
                "dark": "rgb(14, 19, 25)",
            }[scheme]
        )
        heights = [
            box["height"]
            for box in [await page.locator(".act, input:visible").nth(n).bounding_box() for n in range(3)]
            if box
        ]
        assert min(heights) >= 44
    assert [complaint for complaint in complaints if "401" not in complaint] == []
