"""The page of the machines, over machines that the test invents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.axe import grave_findings
from tests.support.browser import complaints_of, resize, sign_in
from tests.support.databases import change
from tests.support.machines_app import post_machines
from tests.support.servers import ServerProcess, add_user, serving

APP = "tests.support.machines_app"
BOSS, DEPUTY, ANA = "boss", "deputy", "ana"
BACK_SECONDS = 20  # a page whose user has another role is closed within a second, and connects again
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
LONG = "a-machine-with-a-very-long-name-that-nobody-wants-to-read-aloud"
MISSING = "The media directory /srv/videos is missing; mount it on this machine."
ALPHA: dict[str, Any] = {"name": "alpha", "running": 5, "processors": ["probe", "thumbnails"]}
BETA: dict[str, Any] = {"name": "beta", "node": "rack-7", "running": 2, "slots": 4}


@dataclass
class Site:
    """The program, and the page of a user in it."""

    server: ServerProcess
    data_dir: Path
    page: Page
    complaints: list[str] = field(default_factory=list)

    def post(self, *machines: dict[str, Any]) -> None:
        post_machines(self.data_dir, machines)

    def open(self, path: str = "/machines") -> None:
        self.page.goto(self.server.url + path)
        expect(self.page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")

    def row(self, name: str) -> Locator:
        return self.page.locator(f'[data-machine="{name}"]')

    def slots(self, name: str) -> Locator:
        return self.page.get_by_label(f"Slots of {name}")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("machines") / "data"
    for name in (BOSS, DEPUTY):
        add_user(directory, name, admin=True)
    add_user(directory, ANA)
    return directory


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[ServerProcess]:
    post_machines(data_dir, [])
    with serving(APP, str(data_dir)) as server:
        yield server


@pytest.fixture(scope="module")
def context(browser: Browser, server: ServerProcess) -> Iterator[BrowserContext]:
    with closing(browser.new_context(viewport=DESK, color_scheme="light")) as context:  # type: ignore[arg-type]
        context.set_default_timeout(15_000)
        page = context.new_page()
        signed_in(page, server, BOSS)
        page.close()
        yield context


@pytest.fixture
def site(context: BrowserContext, server: ServerProcess, data_dir: Path) -> Iterator[Site]:
    """Open an administrator's page, whose console must stay quiet, with two machines."""
    page = context.new_page()
    site = Site(server, data_dir, page, complaints_of(page))
    site.post(ALPHA, BETA)
    yield site
    page.close()
    assert site.complaints == []


def signed_in(page: Page, server: ServerProcess, name: str) -> None:
    page.goto(f"{server.url}/login")
    sign_in(page, name)
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")


def test_each_machine_has_a_row_with_what_it_does(site: Site) -> None:
    site.open("/")
    site.page.get_by_role("navigation", name="Pages").get_by_role("link", name="Machines").first.click()
    expect(site.page.get_by_role("table", name="Machines").get_by_test_id("machine")).to_have_count(2)
    expect(site.page.get_by_text("2 machines, 7 of 12 slots taken.")).to_be_visible()
    for name, facts in {"alpha": ("working", "5", "probe, thumbnails"), "beta": ("on rack-7", "working", "2")}.items():
        for words in (*facts, "0.1.0", "now"):
            expect(site.row(name)).to_contain_text(words)
    expect(site.slots("beta")).to_have_value("4")


def test_the_page_follows_the_machines_without_a_reload(site: Site) -> None:
    site.open()
    site.page.evaluate("window.isTheSame = true")
    expect(site.row("alpha")).to_have_attribute("data-state", "working")
    lost = {**ALPHA, "is_connected": False, "last_seen": "2026-01-31T14:02:00+00:00"}
    site.post(lost, {**BETA, "resting": MISSING, "running": 0}, {"name": "gamma", "running": 1, "slots": 1})
    expect(site.row("gamma")).to_contain_text("1")
    expect(site.row("alpha")).to_have_attribute("data-state", "not connected")
    expect(site.row("alpha").locator("time")).to_have_attribute("datetime", "2026-01-31T14:02:00.000Z")
    expect(site.row("alpha").get_by_role("button")).to_have_count(0)
    expect(site.row("beta")).to_contain_text("at rest")
    expect(site.row("beta")).to_contain_text(MISSING)
    expect(site.page.get_by_text("2 machines, 1 of 5 slots taken, 1 not connected.")).to_be_visible()
    assert site.page.evaluate("window.isTheSame")


def test_a_machine_drains_and_takes_work_again(site: Site) -> None:
    site.open()
    site.page.get_by_role("button", name="Drain: beta").click()
    expect(site.page.get_by_text("beta starts no further videos; 2 running videos end")).to_be_visible()
    expect(site.row("beta")).to_have_attribute("data-state", "draining")
    expect(site.row("alpha")).to_have_attribute("data-state", "working")
    site.page.get_by_role("button", name="Take work again: beta").click()
    expect(site.page.get_by_text("beta takes videos again")).to_be_visible()
    expect(site.row("beta")).to_have_attribute("data-state", "working")


def test_a_machine_gets_fewer_slots_and_impossible_numbers_are_refused(site: Site) -> None:
    site.open()
    site.slots("alpha").fill("3")
    site.slots("alpha").press("Enter")
    expect(site.page.get_by_text("alpha: 3 videos at once from now on")).to_be_visible()
    expect(site.row("alpha")).to_contain_text("of 8")
    site.slots("alpha").fill("0")
    site.slots("alpha").press("Enter")
    expect(site.page.get_by_text("slots must be from 1 to 1,024")).to_be_visible()
    expect(site.slots("alpha")).to_have_value("3")


def test_what_is_typed_stays_while_the_machines_move(site: Site) -> None:
    site.open()
    site.slots("alpha").press_sequentially("7")
    typed = site.slots("alpha").input_value()
    site.post({**ALPHA, "running": 6}, BETA)
    expect(site.page.get_by_text("2 machines, 8 of 12 slots taken.")).to_be_visible()
    expect(site.slots("alpha")).to_have_value(typed)
    expect(site.slots("alpha")).to_be_focused()
    site.slots("alpha").press("Escape")
    expect(site.slots("alpha")).to_have_value("8")


def test_all_machines_together_have_a_limit(site: Site) -> None:
    site.open()
    together = site.page.get_by_label("at once on all machines together, at most")
    together.fill("6")
    together.press("Enter")
    expect(site.page.get_by_text("6 videos at once from now on")).to_be_visible()
    site.open()
    expect(together).to_have_value("6")


def test_without_machines_the_page_says_how_to_start_one(site: Site) -> None:
    site.post()
    site.open()
    expect(site.page.get_by_role("heading", name="No machine is connected")).to_be_visible()
    expect(site.page.get_by_text("main.py worker")).to_be_visible()
    site.post(ALPHA)
    expect(site.row("alpha")).to_be_visible()
    expect(site.page.get_by_role("heading", name="No machine is connected")).to_be_hidden()


def test_the_keyboard_alone_is_enough(site: Site) -> None:
    site.open("/history")
    for key in "gm":
        site.page.keyboard.press(key)
    expect(site.page).to_have_url(f"{site.server.url}/machines")
    expect(site.slots("alpha")).to_be_visible()
    site.slots("alpha").focus()
    site.page.keyboard.press("Tab")
    expect(site.page.get_by_role("button", name="Drain: alpha")).to_be_focused()
    site.page.keyboard.press("Enter")
    expect(site.page.get_by_role("button", name="Take work again: alpha")).to_be_focused()
    site.page.keyboard.press("Tab")
    expect(site.slots("beta")).to_be_focused()


@pytest.mark.parametrize("number", [0, 1, 20])
def test_however_many_machines_there_are_the_page_is_accessible(site: Site, number: int) -> None:
    states: list[dict[str, Any]] = [{}, {"is_draining": True}, {"resting": MISSING}, {"is_connected": False}]
    site.post(*({"name": f"{LONG}-{n}", "node": LONG, "cap": 3, **states[n % 4]} for n in range(number)))
    site.open()
    expect(site.page.get_by_test_id("machine")).to_have_count(number)
    assert grave_findings(site.page) == []
    for width in (360, 700, 1024):
        resize(site.page, width)
        assert site.page.evaluate("document.documentElement.scrollWidth") <= width
    resize(site.page, **PHONE)
    small = "all => all.filter(one => one.offsetHeight && one.offsetHeight < 44).map(one => one.outerHTML)"
    assert site.page.locator("main button, main input").evaluate_all(small) == []


def test_other_users_have_neither_the_link_nor_the_page(browser: Browser, server: ServerProcess, site: Site) -> None:
    with closing(browser.new_context(viewport=DESK)) as context:  # type: ignore[arg-type]
        page = context.new_page()
        signed_in(page, server, ANA)
        expect(page.get_by_role("link", name="History").first).to_be_visible()
        assert page.locator('a[href="/machines"]').count() == 0
        answer = page.goto(f"{server.url}/machines")
        assert answer is not None
        expect(page.get_by_role("heading", name="Only an administrator can see the machines.")).to_be_visible()
        assert (answer.status, "alpha" in answer.text(), page.get_by_test_id("machine").count()) == (403, False, 0)
        assert grave_findings(page) == []


def test_a_former_administrator_no_longer_sees_machines(browser: Browser, server: ServerProcess, site: Site) -> None:
    with closing(browser.new_context(viewport=DESK)) as context:  # type: ignore[arg-type]
        page = context.new_page()
        signed_in(page, server, DEPUTY)
        page.goto(f"{server.url}/machines")
        expect(page.locator('[data-machine="alpha"]')).to_be_visible()
        change(site.data_dir, 'UPDATE "user" SET is_admin = false WHERE name = :name', name=DEPUTY)
        refusal = page.get_by_role("heading", name="Only an administrator can see the machines.")
        expect(refusal).to_be_visible(timeout=BACK_SECONDS * 1000)
        expect(page.locator('[data-machine="alpha"]')).to_be_hidden()
        site.post({"name": "secret-machine"})
        site.open()
        expect(site.row("secret-machine")).to_be_visible()
        assert "secret-machine" not in page.content()
