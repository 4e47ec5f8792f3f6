"""Notifications where people meet them: the bell on every page, the browser's own, and the line about the time away."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from backend.clock import to_millis
from tests.support.axe import grave_findings
from tests.support.browser import resize
from tests.support.databases import change, rows
from tests.support.keyboard import Keyboard
from tests.support.notified_browser import NotifiedBrowser, notified_browser, until_live
from tests.support.servers import Program, add_user, api, running, token

ANA, BEN, BOSS = "ana", "ben", "boss"
PHONE = {"width": 360, "height": 740}
NO_FILE = "No file for this ID in the media directory"
MINUTE_SECONDS, HOURS_AWAY = 60, 14
PATIENCE_SECONDS = 15


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    data = tmp_path_factory.mktemp("data")
    for name in (ANA, BEN):
        add_user(data, name)
    add_user(data, BOSS, admin=True)
    with running(data) as program:
        yield program


class Sender:
    """A user who runs external jobs: they end as the test says."""

    def __init__(self, program: Program, name: str) -> None:
        self._client = api(program, token(program.data_dir, name))

    def submit(self, name: str, videos: int = 4) -> str:
        order = {"name": name, "video_ids": [f"v{n}" for n in range(videos)], "processor": "external"}
        return str(self._post("/api/jobs", order)["job_id"])

    def end(self, job_id: str, *, failed: int = 0, videos: int = 4) -> None:
        """Let a job end; so many of its videos have failed."""
        reports: list[dict[str, Any]] = [
            {"n": n, "video_id": f"v{n}", **({"error": NO_FILE} if n < failed else {"current_video": n + 1})}
            for n in range(videos)
        ]
        self._post(f"/api/jobs/{job_id}/progress", [*reports, {"n": videos, "status": _end_of(failed, videos)}])

    def fail(self, *names: str) -> list[str]:
        """Let a job of each name fail, and return their IDs."""
        ids = [self.submit(name) for name in names]
        for job_id in ids:
            self.end(job_id, failed=4)
        return ids

    def close(self) -> None:
        self._client.close()

    def _post(self, path: str, content: object) -> Any:
        return self._client.post(path, json=content).raise_for_status().json()


def _end_of(failed: int, videos: int) -> str:
    return "completed" if not failed else "failed" if failed == videos else "completed_with_errors"


@pytest.fixture
def ana(program: Program) -> Iterator[Sender]:
    """Return a user whose bell is read."""
    sender = Sender(program, ANA)
    change(program.data_dir, "DELETE FROM notification")
    yield sender
    sender.close()


@pytest.fixture
def tabs(browser: Browser, program: Program) -> Iterator[NotifiedBrowser]:
    """Return the browser of Ana, whose consoles must stay quiet."""
    with notified_browser(browser, program, ANA) as person:
        yield person
        assert person.complaints == []


def bell(page: Page) -> Locator:
    return page.get_by_test_id("bell")


def entries(page: Page) -> Locator:
    return page.get_by_test_id("notification")


def tell_me(page: Page, job_id: str) -> Locator:
    return page.locator(f'[data-testid=job-card][data-job-id="{job_id}"]').get_by_test_id("tell-me")


def expect_unread(number: int, *pages: Page) -> None:
    for page in pages:
        expect(bell(page)).to_have_attribute("data-unread", str(number), timeout=PATIENCE_SECONDS * 1000)


def expect_shown(person: NotifiedBrowser, number: int) -> None:
    """Wait until the browser has shown so many notifications."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(person.shown) < number:
        assert time.monotonic() < deadline, person.shown
        person.context.pages[0].wait_for_timeout(20)


def allow(person: NotifiedBrowser) -> None:
    """Allow the browser's notifications, on a page that is closed again."""
    page = person.open("/notifications")
    page.get_by_role("button", name="Allow notifications").click()
    expect(page.get_by_test_id("browser-notifications")).to_have_attribute("data-state", "on")
    page.close()


def test_the_permission_is_asked_for_on_a_click_only(tabs: NotifiedBrowser, ana: Sender) -> None:
    for path in ("/", "/history", "/lists", "/stats", "/notifications"):
        page = tabs.open(path)
    ana.fail("asked.csv")
    expect_unread(1, *tabs.context.pages)
    assert (tabs.asked, tabs.shown) == (0, [])
    page.get_by_role("button", name="Allow notifications").click()
    expect(page.get_by_test_id("browser-notifications")).to_have_attribute("data-state", "on")
    assert tabs.asked == 1


def test_three_tabs_show_one_notification_and_a_click_opens_the_job(tabs: NotifiedBrowser, ana: Sender) -> None:
    allow(tabs)
    pages = [tabs.open(path) for path in ("/", "/history", "/lists")]
    tabs.hide(*pages)
    (job_id,) = ana.fail("three-tabs.csv")
    expect_unread(1, *pages)
    expect_shown(tabs, 1)
    assert tabs.titles() == ["three-tabs.csv: 4 of 4 failed"]
    teller = next(page for page in pages if page.evaluate("shown.length"))
    teller.evaluate("shown[0].onclick()")
    expect(teller).to_have_url(f"{tabs.program.url}/jobs/{job_id}")
    expect_unread(0, *pages)
    assert len(tabs.shown) == 1


def test_nothing_is_shown_while_a_tab_is_visible(tabs: NotifiedBrowser, ana: Sender) -> None:
    allow(tabs)
    hidden, visible = tabs.open("/history"), tabs.open("/lists")
    tabs.hide(hidden)
    ana.fail("seen.csv")
    expect_unread(1, hidden, visible)
    tabs.hide(visible)
    ana.fail("not-seen.csv")
    expect_shown(tabs, 1)
    assert tabs.titles() == ["not-seen.csv: 4 of 4 failed"]


def test_many_at_once_become_one_notification(tabs: NotifiedBrowser, ana: Sender) -> None:
    allow(tabs)
    page = tabs.open("/history")
    tabs.hide(page)
    ana.fail(*(f"many-{number}.csv" for number in range(8)))
    expect_unread(8, page)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (tabs.shown and tabs.titles()[-1] == "8 notifications: 8 failed"):
        assert time.monotonic() < deadline, tabs.titles()
        page.wait_for_timeout(20)
    singly = [title for title in tabs.titles() if "notifications:" not in title]
    assert len(singly) <= 3
    assert {one["tag"] for one in tabs.shown if "notifications:" in one["title"]} == {"several"}


def test_what_was_there_before_is_not_shown_again(tabs: NotifiedBrowser, ana: Sender) -> None:
    ana.fail("earlier.csv")
    allow(tabs)
    page = tabs.open("/history")
    tabs.hide(page)
    page.reload()
    until_live(page)
    tabs.hide(page)
    ana.fail("later.csv")
    expect_shown(tabs, 1)
    assert tabs.titles() == ["later.csv: 4 of 4 failed"]


def test_tell_me_when_it_ends_is_the_same_in_all_tabs(tabs: NotifiedBrowser, ana: Sender) -> None:
    job_id = ana.submit("tell-me.csv")
    first, second, own = tabs.open(), tabs.open(), tabs.open(f"/jobs/{job_id}")
    expect(tell_me(first, job_id)).to_have_attribute("aria-pressed", "false")
    tell_me(first, job_id).click()
    for button in (tell_me(first, job_id), tell_me(second, job_id), own.get_by_test_id("tell-me")):
        expect(button).to_have_attribute("aria-pressed", "true")
    assert tabs.asked == 1
    first.reload()
    expect(tell_me(first, job_id)).to_have_attribute("aria-pressed", "true")
    own.get_by_test_id("tell-me").click()
    expect(tell_me(second, job_id)).to_have_attribute("aria-pressed", "false")
    tell_me(second, job_id).click()
    expect(own.get_by_test_id("tell-me")).to_have_attribute("aria-pressed", "true")
    own.close()
    ana.end(job_id)
    expect_unread(1, first, second)
    bell(first).click()
    expect(entries(first)).to_have_attribute("data-event", "completed")
    expect(first.get_by_test_id("tell-me")).to_have_count(0)


def test_bells_agree_over_tabs_and_users(
    tabs: NotifiedBrowser, browser: Browser, program: Program, ana: Sender
) -> None:
    pages = [tabs.open(path) for path in ("/", "/history", "/stats")]
    with notified_browser(browser, program, BEN) as ben, notified_browser(browser, program, BOSS) as boss:
        others = [ben.open("/"), boss.open("/")]
        first, second = ana.fail("one.csv", "two.csv")
        expect_unread(2, *pages)
        bell(pages[1]).click()
        expect(entries(pages[1])).to_have_count(2)
        newest = entries(pages[1]).first
        expect(newest.get_by_role("link")).to_have_attribute("href", re.compile(f"/jobs/({first}|{second})"))
        newest.get_by_role("link").click()
        expect(pages[1]).to_have_url(re.compile("/jobs/"))
        expect_unread(1, *pages)
        bell(pages[2]).click()
        pages[2].get_by_role("button", name="Mark all as read").click()
        expect_unread(0, *pages)
        expect_unread(0, *others)
        for page in others:
            bell(page).click()
            expect(page.get_by_text("Nothing yet.")).to_be_visible()


def test_a_job_that_is_looked_at_needs_no_reading(tabs: NotifiedBrowser, ana: Sender) -> None:
    job_id = ana.submit("looked-at.csv")
    page = tabs.open(f"/jobs/{job_id}")
    ana.end(job_id, failed=1)
    expect(page.locator(".head .status").first).to_have_text("completed with errors")
    bell(page).click()
    expect(entries(page)).to_have_attribute("data-read", "true")
    expect_unread(0, page)


def test_titles_of_tabs_carry_the_state(tabs: NotifiedBrowser, ana: Sender) -> None:
    dashboard, history = tabs.open("/"), tabs.open("/history")
    ana.fail("title.csv")
    expect(history).to_have_title("(1) History")
    expect(dashboard).to_have_title(re.compile(r"^! Dashboard$|^\(\d+ %\) Dashboard$"))
    bell(history).click()
    history.get_by_role("button", name="Mark all as read").click()
    expect(history).to_have_title("History")


def be_away(program: Program, hours: float) -> datetime:
    """Let all users have been here last so many hours ago; return when."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    change(
        program.data_dir, "UPDATE notification_settings SET away_since = NULL, last_seen_at = :at", at=to_millis(since)
    )
    return since


def seen(program: Program) -> int:
    """Return how many users were here within the last minute."""
    least = to_millis(datetime.now(UTC) - timedelta(seconds=MINUTE_SECONDS))
    found = rows(program.data_dir, "SELECT count(*) AS n FROM notification_settings WHERE last_seen_at > :at", at=least)
    return int(found[0].n)


def until_seen(page: Page, program: Program) -> None:
    page.mouse.move(200, 300)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not seen(program):
        assert time.monotonic() < deadline, "nobody was seen"
        page.wait_for_timeout(50)


def test_who_comes_back_is_told_what_happened_meanwhile(tabs: NotifiedBrowser, program: Program, ana: Sender) -> None:
    change(program.data_dir, "UPDATE notification_settings SET away_since = NULL")
    page = tabs.open()
    expect(page.get_by_test_id("away")).to_have_count(0)
    until_seen(page, program)
    page.close()
    be_away(program, hours=HOURS_AWAY)
    job_id = ana.submit("night.csv")
    ana.end(job_id, failed=1)
    first, second = tabs.open(), tabs.open()
    for page in (first, second):
        expect(page.get_by_test_id("away")).to_contain_text(re.compile(r"Since .+: \d+ jobs? ended, .* ok, \d+ cause"))
    line = first.get_by_test_id("away")
    for link, path in (("ended", "/history?from="), ("ok", "/stats?from="), ("cause", "/problems")):
        expect(line.get_by_role("link", name=re.compile(link))).to_have_attribute("href", re.compile(re.escape(path)))
    line.get_by_role("link", name=re.compile("ended")).click()
    expect(first.get_by_test_id("history-row").filter(has_text="night.csv")).to_have_count(1)
    first.goto(program.url)
    first.get_by_role("button", name="Got it").click()
    for page in (first, second):
        expect(page.get_by_test_id("away")).to_have_count(0)
    first.reload()
    until_live(first)
    expect(first.get_by_test_id("away")).to_have_count(0)


def test_the_keyboard_alone_is_enough_for_the_bell(tabs: NotifiedBrowser, ana: Sender) -> None:
    running_job = ana.submit("keys-running.csv")
    ana.fail("keys.csv")
    page = tabs.open("/")
    expect_unread(1, page)
    keys = Keyboard(page)
    keys.press("n")
    menu = page.get_by_role("dialog", name="Notifications")
    expect(menu).to_be_visible()
    keys.activate(menu.get_by_role("button", name="Mark all as read"))
    expect_unread(0, page)
    keys.go_to(menu.get_by_role("link", name="Settings of notifications"))
    keys.press("Escape")
    expect(menu).to_be_hidden()
    expect(bell(page)).to_be_focused()
    keys.press("/")
    page.keyboard.type("keys-running")
    keys.activate(tell_me(page, running_job))
    expect(tell_me(page, running_job)).to_have_attribute("aria-pressed", "true")
    ana.end(running_job)


@pytest.mark.parametrize("path", ["/", "/history", "/notifications"])
def test_the_open_menu_is_accessible_and_fits_a_phone(tabs: NotifiedBrowser, ana: Sender, path: str) -> None:
    ana.fail("a-very-long-name-without-a-blank-" * 5, "short.csv")
    page = tabs.open(path)
    expect_unread(2, page)
    bell(page).click()
    assert grave_findings(page) == []
    resize(page, **PHONE)
    page.keyboard.press("Escape")
    bell(page).click()
    box = page.get_by_role("dialog", name="Notifications").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    small = "all => all.filter(one => one.offsetHeight && one.offsetHeight < 44).map(one => one.outerHTML)"
    assert page.locator(".bell, .bell-menu button, .bell-menu a").evaluate_all(small) == []
