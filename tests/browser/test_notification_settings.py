"""The page of settings: what one is told of, when not, in this browser, and on which channels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from backend.notifications.apprise import MISSING
from tests.support.axe import grave_findings
from tests.support.browser import complaints_of, resize, sign_in
from tests.support.databases import change
from tests.support.keyboard import Keyboard
from tests.support.notified_browser import DESK, until_live
from tests.support.servers import Program, add_user, running
from tests.support.threaded_receiver import SECRET_PATH, ThreadedReceiver, receiver

ANA, BOSS = "ana", "boss"
MASKED = re.compile(r"http://127\.0\.0\.1:\d+/…")
SMALL = "all => all.filter(one => one.offsetHeight && one.offsetHeight < 44).map(one => one.outerHTML)"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    data = tmp_path_factory.mktemp("data")
    add_user(data, ANA)
    add_user(data, BOSS, admin=True)
    with running(data, notify_private_addresses="true") as program:
        yield program


@dataclass
class Reader:
    """The page of settings of a user, whose console must stay quiet."""

    program: Program
    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/notifications") -> None:
        self.page.goto(self.program.url + path)
        until_live(self.page)

    def event(self, words: str) -> Locator:
        return self.page.locator(".told-events").get_by_role("checkbox", name=re.compile(words))

    def channel(self, name: str) -> Locator:
        return self.page.locator(f'[data-testid=channel][data-channel="{name}"]')

    def fill_in(self, url: str, name: str, *, adder: str = "add-channel") -> None:
        """Fill in the form for a new webhook."""
        self.page.get_by_test_id(adder).click()
        self.page.get_by_test_id("channel-url").fill(url)
        self.page.get_by_test_id("channel-name").fill(name)

    def add(self, url: str, name: str, *, adder: str = "add-channel") -> None:
        """Add a webhook and wait until it is there."""
        self.fill_in(url, name, adder=adder)
        self.page.get_by_test_id("save-channel").click()
        expect(self.channel(name)).to_be_visible()


def reader_of(browser: Browser, program: Program, name: str) -> Iterator[Reader]:
    with closing(browser.new_context(viewport=DESK, color_scheme="light")) as context:  # type: ignore[arg-type]
        context.set_default_timeout(15_000)
        page = context.new_page()
        reader = Reader(program, page, complaints_of(page))
        page.goto(f"{program.url}/login")
        sign_in(page, name)
        until_live(page)
        reader.open()
        yield reader
        assert reader.complaints == []


@pytest.fixture(autouse=True)
def _nothing_stored(program: Program) -> None:
    for table in ("channel", "notification_settings"):
        change(program.data_dir, f"DELETE FROM {table}")


@pytest.fixture
def ana(browser: Browser, program: Program) -> Iterator[Reader]:
    """Return the page of a user."""
    yield from reader_of(browser, program, ANA)


@pytest.fixture
def boss(browser: Browser, program: Program) -> Iterator[Reader]:
    """Return the page of an administrator."""
    yield from reader_of(browser, program, BOSS)


@pytest.fixture
def receiving() -> Iterator[ThreadedReceiver]:
    with receiver() as taken:
        yield taken


def test_chosen_events_are_saved_and_shown_again(ana: Reader) -> None:
    expect(ana.event("^Failed|^failed")).to_be_checked()
    expect(ana.event("All videos are ok")).not_to_be_checked()
    ana.event("All videos are ok").check()
    expect(ana.page.get_by_text("Saved")).to_be_visible()
    expect(ana.page.get_by_text("These are the usual ones.")).to_be_hidden()
    ana.open()
    expect(ana.event("All videos are ok")).to_be_checked()
    ana.page.get_by_role("button", name="Back to the usual ones").click()
    expect(ana.event("All videos are ok")).not_to_be_checked()
    expect(ana.page.get_by_text("These are the usual ones.")).to_be_visible()


def test_quiet_hours_are_saved_with_their_zone_and_shown_again(ana: Reader) -> None:
    page = ana.page
    page.get_by_test_id("quiet").check()
    page.get_by_label("From").fill("21:30")
    page.get_by_label("to", exact=True).fill("06:15")
    page.get_by_role("combobox", name="in the zone").select_option("Asia/Kolkata")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved")).to_be_visible()
    ana.open()
    for label, value in (("From", "21:30"), ("to", "06:15")):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.get_by_role("combobox", name="in the zone")).to_have_value("Asia/Kolkata")
    page.get_by_test_id("quiet").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_hidden()
    ana.open()
    expect(page.get_by_test_id("quiet")).not_to_be_checked()


def test_what_is_typed_stays_while_the_page_is_brought_up_to_date(ana: Reader, program: Program) -> None:
    ana.page.get_by_test_id("quiet").check()
    ana.page.get_by_label("From").fill("20:00")
    ana.fill_in("https://hooks.example.org/x", "typing")
    with_other = ana.page.context.new_page()
    other = Reader(program, with_other)
    other.open()
    other.event("All videos are ok").check()
    expect(ana.event("All videos are ok")).to_be_checked()
    expect(ana.page.get_by_label("From")).to_have_value("20:00")
    expect(ana.page.get_by_test_id("channel-name")).to_have_value("typing")


def test_a_channel_is_tried_before_it_is_saved(ana: Reader, receiving: ThreadedReceiver) -> None:
    ana.fill_in(receiving.url, "Hook")
    ana.page.get_by_test_id("test-channel").click()
    expect(ana.page.locator(".answer")).to_contain_text("Sent: the receiver took it.")
    assert len(receiving.bodies) == 1
    expect(ana.page.get_by_test_id("channel")).to_have_count(0)
    receiving.status = 403
    ana.page.get_by_test_id("test-channel").click()
    expect(ana.page.get_by_role("alert")).to_contain_text("403")
    ana.page.get_by_test_id("save-channel").click()
    expect(ana.channel("Hook")).to_contain_text("Nothing sent yet")


def test_a_saved_address_is_masked_and_in_no_page_source(ana: Reader, receiving: ThreadedReceiver) -> None:
    ana.page.get_by_test_id("add-channel").click()
    ana.page.get_by_test_id("channel-url").fill(receiving.url)
    ana.page.get_by_test_id("channel-name").fill("Masked")
    ana.page.get_by_test_id("channel-secret").fill("hidden-signing-key")
    ana.page.get_by_test_id("save-channel").click()
    expect(ana.channel("Masked")).to_contain_text(MASKED)
    shown = ana.page.content()
    answer = ana.page.goto(f"{ana.program.url}/notifications")
    assert answer is not None
    until_live(ana.page)
    ana.page.get_by_role("button", name="Change: Masked").click()
    for source in (shown, answer.text(), ana.page.content()):
        assert SECRET_PATH not in source
        assert "hidden-signing-key" not in source
    assert ana.page.get_by_test_id("channel-url").input_value() == ""


def test_a_channel_is_changed_switched_and_removed(ana: Reader, receiving: ThreadedReceiver) -> None:
    ana.add(receiving.url, "Old name")
    ana.page.get_by_role("button", name="Change: Old name").click()
    ana.page.get_by_test_id("channel-name").fill("New name")
    ana.page.get_by_label("Those that you are told of").uncheck()
    ana.page.get_by_role("checkbox", name="faster than usual", exact=True).check()
    ana.page.get_by_test_id("save-channel").click()
    expect(ana.channel("New name")).to_contain_text("faster than usual")
    ana.page.get_by_role("button", name="Send a test: New name").click()
    expect(ana.page.locator(".answer")).to_contain_text("Sent: the receiver took it.")
    assert len(receiving.bodies) == 1
    ana.page.get_by_role("switch", name="On: New name").uncheck()
    expect(ana.channel("New name")).to_have_attribute("data-enabled", "false")
    ana.open()
    expect(ana.page.get_by_role("switch", name="On: New name")).not_to_be_checked()
    ana.page.get_by_role("button", name="Remove: New name").click()
    question = ana.page.get_by_role("dialog", name="Remove this channel?")
    question.get_by_role("button", name="Leave it").click()
    expect(ana.channel("New name")).to_be_visible()
    ana.page.get_by_role("button", name="Remove: New name").click()
    question.get_by_role("button", name="Remove").click()
    expect(ana.channel("New name")).to_have_count(0)


def test_an_address_that_may_not_be_called_is_refused_in_words(ana: Reader) -> None:
    ana.fill_in("ftp://files.example.org/", "Wrong")
    ana.page.get_by_test_id("save-channel").click()
    expect(ana.page.get_by_role("alert")).to_contain_text(re.compile(r"http|address", re.IGNORECASE))
    expect(ana.page.get_by_test_id("channel-url")).to_have_value("ftp://files.example.org/")
    expect(ana.page.get_by_test_id("channel")).to_have_count(0)


def test_channels_for_all_are_the_administrators(boss: Reader, ana: Reader, receiving: ThreadedReceiver) -> None:
    boss.page.get_by_test_id("add-for-all").click()
    boss.page.get_by_test_id("channel-url").fill(receiving.url)
    boss.page.get_by_test_id("channel-name").fill("Team")
    boss.page.get_by_test_id("only-name").fill("nightly.csv")
    boss.page.get_by_test_id("only-owner").select_option(ANA)
    boss.page.get_by_test_id("only-processor").select_option("probe")
    boss.page.get_by_test_id("save-channel").click()
    for words in ("only lists named nightly.csv", "only jobs of ana", "only processor probe"):
        expect(boss.channel("Team")).to_contain_text(words)
    expect(ana.page.get_by_test_id("add-channel")).to_be_visible()
    ana.open()
    expect(ana.page.get_by_test_id("add-for-all")).to_have_count(0)
    expect(ana.channel("Team")).to_have_count(0)
    expect(ana.event("disk is nearly full")).to_have_count(0)
    expect(boss.event("disk is nearly full")).to_be_checked()


def test_without_the_extra_the_page_says_what_to_install(
    browser: Browser, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['apprise'] = None\n", encoding="utf-8")
    data = tmp_path_factory.mktemp("data")
    add_user(data, ANA)
    with running(data, python_path=tmp_path) as program:
        for reader in reader_of(browser, program, ANA):
            reader.page.get_by_test_id("add-channel").click()
            missing = reader.page.locator(".channel-form .warn")
            expect(missing).to_have_count(0)
            reader.page.get_by_test_id("channel-kind").select_option("apprise")
            expect(missing).to_contain_text(MISSING)


def test_the_page_says_where_browsers_allow_notifications(ana: Reader) -> None:
    state = ana.page.get_by_test_id("browser-notifications")
    assert state.get_attribute("data-state") in ("default", "denied", "on")
    ana.page.add_init_script("Object.defineProperty(window, 'isSecureContext', { get: () => false })")
    ana.open()
    expect(state).to_have_attribute("data-state", "insecure")
    expect(state).to_contain_text("Browsers allow notifications on localhost and over HTTPS only")


def test_the_keyboard_alone_adds_a_channel(ana: Reader, receiving: ThreadedReceiver) -> None:
    keys = Keyboard(ana.page)
    keys.activate(ana.page.get_by_test_id("add-channel"))
    expect(ana.page.get_by_test_id("channel-kind")).to_be_focused()
    keys.go_to(ana.page.get_by_test_id("channel-url"))
    ana.page.keyboard.type(receiving.url)
    keys.activate(ana.page.get_by_test_id("save-channel"))
    expect(ana.page.get_by_test_id("channel")).to_have_count(1)
    expect(ana.page.get_by_test_id("add-channel")).to_be_focused()


def test_the_page_is_accessible_and_fits_a_phone(boss: Reader, receiving: ThreadedReceiver) -> None:
    boss.add(receiving.url, "a-very-long-name-without-a-blank-" * 3)
    boss.add(receiving.url, "For all", adder="add-for-all")
    boss.page.get_by_test_id("quiet").check()
    boss.page.get_by_test_id("add-for-all").click()
    boss.page.get_by_label("The usual ones").uncheck()
    assert grave_findings(boss.page) == []
    for width in (360, 700, 1024):
        resize(boss.page, width)
        assert boss.page.evaluate("document.documentElement.scrollWidth") <= width
    resize(boss.page, 360)
    targets = "main button, main select, main label.option, main input:not([type=checkbox])"
    assert boss.page.locator(targets).evaluate_all(SMALL) == []
