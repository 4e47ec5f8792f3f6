"""What all pages have: keys, the list of them, the round trip in the corner, one voice, and room on large screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import complaints_of, resize, use_link
from tests.support.servers import Program, api, running, token

NAMES = ("zebra.csv", "yak.csv", "xerus.csv")
VOICES = "[role=status], [role=log], [aria-live=polite]"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    data = tmp_path_factory.mktemp("data")
    with running(data) as program, api(program, token(data, "admin")) as client:
        for name in NAMES[::-1]:
            order = {"name": name, "video_ids": ["one"], "processor": "external"}
            client.post("/api/jobs", json=order).raise_for_status()
        yield program


@dataclass(frozen=True)
class Reader:
    """Somebody signed in, at a page whose console stays quiet."""

    program: Program
    page: Page

    def open(self, path: str) -> None:
        self.page.goto(self.program.url + path)
        self.until_live()

    def until_live(self) -> None:
        expect(self.page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, content: str) -> None:
        """Choose a file on Lists."""
        file = {"name": "list.csv", "mimeType": "text/csv", "buffer": content.encode()}
        self.page.set_input_files("input[type=file]", file)  # type: ignore[arg-type]

    @property
    def help(self) -> Locator:
        return self.page.get_by_role("dialog", name="Keyboard shortcuts")

    @property
    def search(self) -> Locator:
        return self.page.get_by_test_id("job-search")

    @property
    def width(self) -> int:
        """Of the whole page, with what can only be scrolled to."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


@pytest.fixture(scope="module")
def session(browser: Browser, program: Program) -> Iterator[Reader]:
    with closing(browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")) as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        use_link(page, program.sign_in_link())
        yield Reader(program, page)


@pytest.fixture
def reader(session: Reader) -> Iterator[Reader]:
    page = session.page.context.new_page()
    complaints = complaints_of(page)
    yield Reader(session.program, page)
    page.close()
    assert complaints == []


def test_g_and_a_letter_lead_to_the_pages(reader: Reader) -> None:
    reader.open("/")
    for letter, path in (("l", "/lists"), ("h", "/history"), ("d", "/")):
        reader.press("g", letter)
        expect(reader.page).to_have_url(reader.program.url + path)
        reader.until_live()


def test_a_slash_searches_and_is_not_typed(reader: Reader) -> None:
    reader.open("/history")
    reader.press("/", "y", "a", "k")
    expect(reader.search).to_have_value("yak")
    expect(reader.page.get_by_test_id("history-row")).to_have_count(1)
    expect(reader.page.get_by_test_id("live-region")).to_contain_text("1 job.")


def test_shortcuts_do_nothing_while_the_user_types(reader: Reader) -> None:
    reader.open("/history")
    reader.search.focus()
    reader.press(*"glut?")
    expect(reader.search).to_have_value("glut?")
    expect(reader.help).not_to_be_visible()
    expect(reader.page.locator("html")).to_have_attribute("data-choice", "auto")
    expect(reader.page).to_have_url(re.compile("/history"))


def test_keys_with_a_modifier_are_left_to_the_browser(reader: Reader) -> None:
    reader.open("/history")
    reader.press("Alt+u", "Control+/", "Alt+t")
    expect(reader.page.locator("html")).to_have_attribute("data-choice", "auto")
    expect(reader.search).not_to_be_focused()
    expect(reader.page).to_have_url(re.compile("/history$"))


def test_the_list_of_keys_has_what_works_on_this_page(reader: Reader) -> None:
    for path, works in (("/lists", False), ("/history", True)):
        reader.open(path)
        reader.press("?")
        expect(reader.help.get_by_role("row", name="This list ?")).to_be_visible()
        for words in ("Search /", "Next job j", "Open the job Enter"):
            expect(reader.help.get_by_role("row", name=words)).to_have_count(int(works))
        reader.press("Escape")
        expect(reader.help).not_to_be_visible()


def test_single_keys_can_be_switched_off_and_on_without_them(reader: Reader) -> None:
    reader.open("/history")
    reader.press("?")
    reader.help.get_by_role("checkbox").uncheck()
    reader.help.get_by_role("button", name="Close").click()
    reader.press("?", "t", "j", "u")
    expect(reader.help).not_to_be_visible()
    expect(reader.page.locator("html")).to_have_attribute("data-choice", "auto")
    reader.page.get_by_label("Account: admin").click()
    reader.page.get_by_role("button", name="Keyboard shortcuts").click()
    reader.help.get_by_role("checkbox").check()
    reader.press("Escape")
    expect(reader.page.get_by_label("Account: admin")).to_be_focused()
    reader.press("?")
    expect(reader.help).to_be_visible()


def test_u_leads_to_lists_and_there_chooses_a_file(reader: Reader) -> None:
    reader.page.on("filechooser", lambda _: None)  # from here on Chromium tells of it, in place of its own dialog
    reader.open("/history")
    reader.press("u")
    expect(reader.page).to_have_url(re.compile("/lists"))
    reader.until_live()
    with reader.page.expect_event("filechooser"):
        reader.press("u")


def test_j_and_k_move_through_history_and_enter_opens(reader: Reader) -> None:
    reader.open("/history")
    names = reader.page.get_by_test_id("history-row").get_by_role("link")
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("j", 2), ("k", 1)):
        reader.press(key)
        expect(names.nth(place)).to_be_focused()
    reader.press("Enter")
    expect(reader.page.get_by_role("heading", name=NAMES[1])).to_be_visible()


def test_the_theme_chosen_with_t_applies_to_the_sign_in_too(reader: Reader, browser: Browser) -> None:
    reader.open("/")
    reader.press("t", "t")
    expect(reader.page.locator("html")).to_have_attribute("data-theme", "dark")
    theme = [cookie for cookie in reader.page.context.cookies() if cookie["name"] == "theme"]
    with closing(browser.new_context(color_scheme="light")) as stranger:
        stranger.add_cookies(theme)  # type: ignore[arg-type]
        page = stranger.new_page()
        page.goto(reader.program.url)
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        expect(page.locator("body")).to_have_css("background-color", "rgb(14, 19, 25)")
        assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('14px Roboto'))")
    reader.press("t")


def test_the_corner_shows_the_latency_to_the_server(reader: Reader) -> None:
    reader.open("/lists")
    expect(reader.page.get_by_test_id("connection-banner")).to_contain_text(re.compile(r"Connected\s*· \d+ ms"))


@pytest.mark.parametrize("path", ["/", "/lists", "/history", "/jobs/{job_id}", "/notifications"])
def test_a_page_has_one_polite_live_region(reader: Reader, path: str) -> None:
    reader.open("/history")
    job_id = reader.page.get_by_test_id("history-row").first.get_attribute("data-job-id")
    reader.open(path.format(job_id=job_id))
    expect(reader.page.locator(VOICES)).to_have_count(1)


@pytest.mark.parametrize(("path", "width", "least"), [("/", 2560, 2100), ("/history", 3840, 3200)])
def test_large_screens_are_used_and_their_type_is_larger(reader: Reader, path: str, width: int, least: int) -> None:
    resize(reader.page, width, width * 9 // 16)
    reader.open(path)
    heading = reader.page.get_by_role("heading", level=1)
    head, box = reader.page.locator(".lead").bounding_box(), heading.bounding_box()
    assert head is not None
    assert box is not None
    assert head["width"] > least
    assert box["height"] > 30
    assert reader.width <= width


def test_a_refused_or_discarded_list_leaves_the_advice(reader: Reader) -> None:
    reader.open("/lists")
    advice = reader.page.get_by_role("heading", name="What a list looks like")
    reader.choose("video_id\none\n")
    expect(advice).not_to_be_visible()
    reader.page.get_by_role("button", name="Discard").click()
    expect(advice).to_be_visible()
    reader.choose("video_id\n")
    expect(reader.page.get_by_test_id("upload-error")).to_be_visible()
    expect(advice).to_be_visible()


def test_history_that_cannot_be_read_says_why_and_how_to_go_on(reader: Reader) -> None:
    reader.open("/history?q=%00")
    expect(reader.page.get_by_role("heading", name="History cannot be shown")).to_be_visible()
    expect(reader.page.get_by_text("must be readable text")).to_be_visible()
    reader.page.get_by_role("link", name="Show all jobs").click()
    expect(reader.page.get_by_test_id("history-row")).to_have_count(len(NAMES))
