"""Lists, job and History in a real browser against the real program."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Position, WebSocketRoute, expect

from tests.support.browser import complaints_of, resize, sign_in, use_link
from tests.support.clips import make_clip, truncated
from tests.support.servers import Program, add_user, api, running, token

MARKUP = "<img src=x onerror=document.title='broken'><b>bold</b>{{ 7 * 7 }}"
LONG = "a-very-long-name-without-a-blank-" * 6
SLOW_CLIPS = tuple(f"slow-{number}" for number in range(30))
SLOW = 20_000
SIGNED_IN = re.compile(r"/(\?.*)?$")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    media = tmp_path_factory.mktemp("media")
    for name in ("one", "two", "three"):
        make_clip(media / f"{name}.mp4", size=(160, 90))
    slow = make_clip(media / f"{SLOW_CLIPS[0]}.mp4", seconds=2, size=(160, 90))
    for name in SLOW_CLIPS[1:]:
        shutil.copy(slow, media / f"{name}.mp4")
    truncated(make_clip(media / "cut_off.mp4"))
    with running(tmp_path_factory.mktemp("data"), media_dir=media) as program:
        yield program


@pytest.fixture(scope="module")
def jwt(program: Program) -> str:
    """Return the administrator's token."""
    return token(program.data_dir, "admin")


@pytest.fixture(scope="module")
def context(browser: Browser, program: Program) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", timezone_id="Asia/Kolkata"
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    use_link(page, program.sign_in_link())
    expect(page).to_have_url(SIGNED_IN)
    page.close()
    yield context
    context.close()


@dataclass
class SignedInPage:
    """A signed-in page of the program."""

    program: Program
    page: Page
    jwt: str

    def open(self, path: str) -> None:
        self.page.goto(self.program.url + path)
        expect(self.page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")

    def choose(self, name: str, content: str | bytes) -> None:
        """Pick a file on Lists."""
        data = content.encode() if isinstance(content, str) else content
        self.page.set_input_files("input[type=file]", {"name": name, "mimeType": "text/csv", "buffer": data})

    def submit(self, *video_ids: str, name: str, **options: object) -> str:
        """Make a job over the API, and return its ID."""
        with api(self.program, self.jwt) as client:
            order = {"video_ids": video_ids, "name": name, "options": options}
            answer = client.post("/api/jobs", json=order)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["job_id"])

    def submit_external(self, *video_ids: str) -> str:
        """Make an external job, and return its ID."""
        with api(self.program, self.jwt) as client:
            order = {"video_ids": video_ids, "name": "external", "processor": "external"}
            return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])

    def report_failures(self, job_id: str, errors: Mapping[str, str], *, n: int) -> None:
        """Report failed videos of an external job: video ID -> error. `n` must rise from one call to the next."""
        reports = [{"n": n + at, "video_id": name, "error": error} for at, (name, error) in enumerate(errors.items())]
        with api(self.program, self.jwt) as client:
            client.post(f"/api/jobs/{job_id}/progress", json=reports).raise_for_status()

    def finished(self, job_id: str) -> str:
        """Wait until the job has ended, and return its ID."""
        with api(self.program, self.jwt) as client:
            deadline = time.monotonic() + 30
            while client.get(f"/api/jobs/{job_id}").json()["finished_at"] is None:
                assert time.monotonic() < deadline, "the job did not end"
                time.sleep(0.05)
        return job_id

    def request(self, job_id: str, action: str) -> None:
        """Request an action over the API."""
        with api(self.program, self.jwt) as client:
            client.post(f"/api/jobs/{job_id}/{action}").raise_for_status()

    def delete(self, job_id: str) -> None:
        """Delete the job over the API."""
        with api(self.program, self.jwt) as client:
            client.delete(f"/api/jobs/{job_id}").raise_for_status()

    def jobs_named(self, name: str) -> int:
        with api(self.program, self.jwt) as client:
            return len(client.get("/api/jobs", params={"q": name}).json()["items"])

    def card(self, job_id: str, page: Page | None = None) -> Locator:
        return (page or self.page).locator(f'[data-testid=job-card][data-job-id="{job_id}"]')

    def choose_action(self, place: Locator, action: str) -> None:
        """Choose an action from the menu of a card or a job's page."""
        place.get_by_role("button", name="More actions").click()
        place.get_by_role("menuitem", name=action).click()

    @property
    def preview(self) -> Locator:
        return self.page.get_by_test_id("upload-preview")

    def tab(self, title: str) -> Locator:
        """Return a tab of a job's page."""
        return self.page.get_by_role("tab", name=title)

    @property
    def causes(self) -> Locator:
        return self.page.get_by_test_id("job-cause")

    @property
    def rows(self) -> Locator:
        return self.page.get_by_test_id("video-row")

    @property
    def history(self) -> Locator:
        return self.page.get_by_test_id("history-row")


class PageConnection:
    """The connection between a page that is opened later and the server. A test can cut it for a while."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._routes: list[WebSocketRoute] = []
        self._is_cut = False
        page.route_web_socket(re.compile("_nicegui_ws"), self._connect)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the connection while the block runs, and wait until the page is connected again."""
        banner = self._page.get_by_test_id("connection-banner")
        self._is_cut = True
        for route in self._routes:
            route.close()
        self._routes.clear()
        expect(banner).to_have_attribute("data-state", "reconnecting")
        yield
        self._is_cut = False
        self._page.evaluate("dispatchEvent(new Event('online'))")
        expect(banner).to_have_attribute("data-state", "connected")

    def _connect(self, route: WebSocketRoute) -> None:
        if self._is_cut:
            route.close()
        else:
            self._routes += [route, route.connect_to_server()]


@pytest.fixture
def app(context: BrowserContext, program: Program, jwt: str) -> Iterator[SignedInPage]:
    """Open a page whose browser console must stay quiet."""
    page = context.new_page()
    complaints = complaints_of(page)
    yield SignedInPage(program, page, jwt)
    page.close()
    assert complaints == []


def test_a_double_click_on_start_makes_one_job_and_leads_to_it(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("double.csv", "video_id,title\none,First\ntwo,Second\n")
    app.page.get_by_test_id("upload-start").dblclick()
    app.page.get_by_test_id("upload-started").get_by_role("link", name="Open the job").click()
    expect(app.page.get_by_role("heading", name="double.csv")).to_be_visible()
    assert app.jobs_named("double.csv") == 1


def test_the_preview_says_what_happens_to_each_row(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("mixed.csv", "title;id\nFirst;one\nAgain;one\nBad;n/a\nAway;nowhere\n")
    expect(app.preview).to_contain_text("4 rows · UTF-8 · semicolon · IDs in the column id")
    expect(app.preview).to_contain_text(re.compile("2 ready.*1 duplicate, taken once.*1 not an ID", re.DOTALL))
    expect(app.preview).to_contain_text("1 of 2 found in")
    expect(app.preview).to_contain_text("DASHBOARD_MEDIA_DIR")
    verdicts = app.preview.locator("tbody tr td:last-child").all_inner_texts()
    assert [verdict.strip() for verdict in verdicts] == [
        "ready",
        "duplicate of line 2",
        'not an ID: "/" is not allowed',
        "no file in the media directory",
    ]


def test_the_preview_says_what_was_decided_and_offers_the_other_columns(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("studio.csv", "Export of Monday\nid,title,url\n1,Cats,https://youtu.be/dQw4w9WgXcQ\nTotal,,\n")
    expect(app.preview).to_contain_text("IDs in the column url")
    expect(app.preview).to_contain_text("The header is on line 2; the line “Export of Monday” above it is passed over.")
    expect(app.preview).to_contain_text("The IDs come from url, not from id.")
    columns = app.preview.get_by_role("combobox", name="IDs from the column")
    expect(columns.locator("option")).to_have_text(["id", "title", "url"])
    expect(columns).to_have_value("2")
    columns.select_option("title")
    expect(app.preview).to_contain_text("IDs in the column title")
    expect(app.preview.locator("td.mono").first).to_have_text("Cats")
    app.page.get_by_test_id("upload-start").click()
    app.page.get_by_test_id("upload-started").get_by_role("link", name="Open the job").click()
    expect(app.page.get_by_role("main")).to_contain_text("Cats")


def test_columns_that_compete_can_be_chosen_from(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("two.csv", "id,video\nab,Cats\ncd,Dogs\n")
    expect(app.page.get_by_test_id("upload-error")).to_contain_text("could hold the video IDs (id, video)")
    app.page.get_by_test_id("column-choice").get_by_role("combobox").select_option("id")
    expect(app.preview.locator("td.mono")).to_have_text(["ab", "cd"])
    expect(app.page.get_by_test_id("upload-error")).to_have_count(0)


def test_a_column_without_ids_is_refused_and_the_preview_stays(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("notes.csv", "video_id,note\nabc,two words\n")
    columns = app.preview.get_by_role("combobox", name="IDs from the column")
    columns.select_option("note")
    expect(app.page.get_by_text("No valid video ID in 1 row")).to_be_visible()
    expect(app.preview).to_contain_text("IDs in the column video_id")
    expect(app.preview.get_by_role("combobox", name="IDs from the column")).to_have_value("0")


def test_problem_rows_can_be_downloaded_with_their_lines(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("problems.csv", "video_id\none\none\n=1+1\n")
    with app.page.expect_download() as download:
        app.page.get_by_role("button", name="problem rows").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines == [
        "line,video_id,problem",
        "3,one,duplicate of line 2",
        """4,'=1+1,"not an ID: ""="" is not allowed\"""",
    ]


def test_the_template_is_an_accepted_list(app: SignedInPage) -> None:
    app.open("/lists")
    with app.page.expect_download() as download:
        app.page.get_by_role("button", name="Template").click()
    app.choose("template.csv", Path(download.value.path()).read_bytes())
    expect(app.preview).to_contain_text("2 ready")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x00\x01" * 500, "The file is not text"),
        (b"", "The file is empty"),
        (b"title,owner\nx,y\n", "No ID column"),
    ],
    ids=["binary", "empty", "no ID column"],
)
def test_a_file_that_is_no_list_is_refused_and_the_next_is_accepted(
    app: SignedInPage, content: bytes, sentence: str
) -> None:
    app.open("/lists")
    app.choose("wrong.csv", content)
    expect(app.page.get_by_test_id("upload-error")).to_contain_text(f"Not accepted. {sentence}")
    app.choose("right.csv", "one\n")
    expect(app.preview).to_contain_text("1 ready")
    expect(app.page.get_by_test_id("upload-error")).to_have_count(0)
    assert app.jobs_named("wrong.csv") == 0


def drop(page: Page, *paths: Path, text: str = "") -> None:
    """Drop files and folders, or a text, on the upload zone, as the system does it."""
    box = page.locator(".drop").bounding_box()
    assert box is not None
    items = [{"mimeType": "text/plain", "data": text}] if text else []
    data = {"items": items, "files": [str(path) for path in paths], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data}
        devtools.send("Input.dispatchDragEvent", event)
    devtools.detach()


def test_what_cannot_be_dropped_is_refused_in_one_sentence(app: SignedInPage, tmp_path: Path) -> None:
    folder, one, two = tmp_path / "lists", tmp_path / "one.csv", tmp_path / "two.csv"
    folder.mkdir()
    for file in (one, two):
        file.write_text("one\n")
    app.open("/lists")
    error = app.page.get_by_test_id("upload-error")
    drop(app.page, folder)
    expect(error).to_contain_text("That is a folder: drop the CSV file that is in it.")
    drop(app.page, one, two)
    expect(error).to_contain_text("Choose one file at a time: each file becomes a job of its own.")
    drop(app.page, folder, one)
    expect(error).to_contain_text("That is a folder")
    drop(app.page, one)
    expect(app.preview).to_contain_text("1 ready")
    expect(error).to_have_count(0)


def test_a_refused_drop_is_said_while_ids_are_pasted_too(app: SignedInPage, tmp_path: Path) -> None:
    app.open("/lists")
    app.page.get_by_role("button", name="paste IDs").click()
    drop(app.page, tmp_path)
    expect(app.page.get_by_test_id("upload-error")).to_contain_text("That is a folder")


def test_a_dropped_text_is_read_as_pasted_ids(app: SignedInPage) -> None:
    app.open("/lists")
    drop(app.page, text="one\ntwo\n")
    expect(app.preview).to_contain_text("2 ready")
    expect(app.preview).to_contain_text("Pasted IDs")


@pytest.mark.parametrize("name", ['my "best" list.csv', "100%.csv", "list", "list.mp4", "Übung 🎬.csv"])
def test_a_list_is_named_as_its_file_whatever_that_is(app: SignedInPage, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("one\n")
    app.open("/lists")
    app.page.set_input_files("input[type=file]", tmp_path / name)
    expect(app.preview).to_contain_text("1 ready")
    expect(app.preview).to_contain_text(name)
    assert app.page.locator("input[type=file]").get_attribute("accept") is None


def test_a_file_over_the_limit_is_refused_before_it_is_sent(app: SignedInPage, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    large.write_bytes(b"one\n" * (5 * 2**20 + 1))
    sent = []
    app.page.on("request", lambda request: sent.append(request.method))
    app.open("/lists")
    app.page.set_input_files("input[type=file]", large)
    expect(app.page.get_by_test_id("upload-error")).to_contain_text(
        "Not accepted. The file is larger than 20 MiB: split it into several files."
    )
    assert "POST" not in sent


def test_pasted_ids_are_a_list_like_a_file(app: SignedInPage) -> None:
    app.open("/lists")
    app.page.get_by_role("button", name="paste IDs").click()
    app.page.get_by_role("textbox").fill("one\nhttps://youtu.be/dQw4w9WgXcQ\n")
    app.page.get_by_role("button", name="Check these IDs").click()
    expect(app.preview.locator("td.mono")).to_have_text(["one", "dQw4w9WgXcQ"])


def test_a_dropped_file_is_a_list_like_a_chosen_one(app: SignedInPage) -> None:
    app.open("/lists")
    dropped = app.page.evaluate_handle(
        "() => { const held = new DataTransfer(); held.items.add(new File(['one\\n'], 'dropped.csv')); return held }"
    )
    app.page.dispatch_event(".drop", "drop", {"dataTransfer": dropped})
    expect(app.preview.get_by_role("heading")).to_have_text("dropped.csv")


def test_a_hundred_thousand_rows_do_not_block_the_server(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("many.csv", "video_id,title\n" + "".join(f"id{n:06d},Title {n}\n" for n in range(100_000)))
    waits = []
    while not app.page.get_by_test_id("upload-start").is_visible():
        began = time.monotonic()
        assert app.page.request.get(f"{app.program.url}/healthz").ok
        waits.append(time.monotonic() - began)
    expect(app.preview).to_contain_text("100,000 ready")
    assert max(waits) < 2.0


def test_the_job_page_moves_to_the_end_by_itself_and_keeps_the_opened_row(app: SignedInPage) -> None:
    job_id = app.submit("one", "cut_off", "two", "absent", "three", name="moving")
    app.open(f"/jobs/{job_id}?show=all")
    app.rows.filter(has_text="three").get_by_role("button").click()
    header = app.page.get_by_test_id("job-header")
    expect(header.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "5 of 5, 2 failed")
    expect(app.page.locator("main .head .status")).to_have_text("completed with errors")
    expect(header.get_by_role("group", name="5 videos: 3 ok, 2 failed")).to_be_visible()
    details = app.page.get_by_test_id("video-details")
    expect(details).to_contain_text("160 × 90")
    poster = details.get_by_role("img")
    expect(poster).to_have_js_property("complete", True)
    assert poster.evaluate("picture => picture.naturalWidth") > 0
    expect(app.page).to_have_title("! moving")


def test_a_job_with_failures_opens_on_its_errors_in_three_layers(app: SignedInPage) -> None:
    app.open(f"/jobs/{app.finished(app.submit('one', 'cut_off', name='failing'))}")
    expect(app.tab("Errors")).to_have_text("Errors 1")
    expect(app.tab("Videos")).to_have_text("Videos 2")
    expect(app.tab("Errors")).to_have_attribute("aria-selected", "true")
    expect(app.page.get_by_test_id("job-videos")).to_be_hidden()
    expect(app.causes).to_contain_text("Error: File is cut off")
    expect(app.causes).to_contain_text("Caused by the file: fix it, then retry.")
    expect(app.causes.locator("pre")).to_be_hidden()
    app.causes.get_by_text("Stack trace").click()
    expect(app.causes.locator("pre")).to_contain_text("Traceback")


def test_a_job_without_failures_opens_on_its_videos_and_says_that_none_failed(app: SignedInPage) -> None:
    app.open(f"/jobs/{app.finished(app.submit('one', name='fine'))}")
    expect(app.tab("Videos")).to_have_attribute("aria-selected", "true")
    expect(app.rows).to_have_count(1)
    app.tab("Errors").click()
    expect(app.page.get_by_text("No video has failed.")).to_be_visible()


def test_a_deep_link_in_a_cold_tab_leads_through_the_sign_in_to_a_job_whose_card_is_gone(
    app: SignedInPage, browser: Browser
) -> None:
    with api(app.program, add_user(app.program.data_dir, "carol")) as client:
        job_id = client.post("/api/jobs", json={"video_ids": ["absent"], "name": "of carol"}).json()["job_id"]
        app.finished(job_id)
        assert not client.post(f"/api/jobs/{job_id}/dismiss").json()["on_dashboard"]
    address = f"{app.program.url}/jobs/{job_id}?tab=videos&show=failed&q=abs"
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        sign_in(page, "carol")
        expect(page).to_have_url(address)
        expect(page.get_by_test_id("video-row")).to_contain_text("absent")
        expect(page.get_by_role("heading", name="of carol")).to_be_visible()


def test_the_cards_link_to_its_failures_leads_to_the_failed_videos(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", "cut_off", "two", name="linked"))
    app.open("/")
    app.card(job_id).get_by_role("link", name="1 failed").click()
    expect(app.rows).to_have_count(1)
    expect(app.rows).to_have_attribute("data-status", "failed")


def test_the_chosen_tab_is_in_the_address_and_keys_lead_from_tab_to_tab(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", "cut_off", name="tabs"))
    app.open(f"/jobs/{job_id}")
    app.tab("Errors").focus()
    app.page.keyboard.press("ArrowRight")
    expect(app.tab("Videos")).to_be_focused()
    expect(app.page).to_have_url(f"{app.program.url}/jobs/{job_id}?tab=videos")
    expect(app.page.get_by_role("tabpanel", name="Videos 2")).to_be_visible()
    app.page.reload()
    expect(app.rows).to_have_count(2)
    app.tab("Videos").press("End")
    expect(app.causes).to_be_visible()
    app.page.reload()
    expect(app.causes).to_be_visible()
    assert app.page.get_by_role("tab", selected=False).evaluate_all("tabs => tabs.map(tab => tab.tabIndex)") == [-1]


def test_the_timeline_is_beside_the_tabs_or_the_third_tab_on_a_phone(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", name="aside"))
    app.open(f"/jobs/{job_id}?tab=timeline")
    timeline, header = app.page.get_by_test_id("job-timeline"), app.page.get_by_test_id("job-header")
    expect(timeline).to_contain_text("Completed")
    expect(app.page.get_by_role("tab")).to_have_count(2)
    right, left = timeline.bounding_box(), header.bounding_box()
    assert right
    assert left
    assert (right["y"], right["x"] > left["x"] + left["width"]) == (left["y"], True)
    resize(app.page, 800, 700)
    expect(app.tab("Timeline")).to_have_attribute("aria-selected", "true")
    expect(app.rows).to_be_hidden()
    app.tab("Timeline").press("Home")
    expect(timeline).to_be_hidden()
    expect(app.rows).to_be_visible()


def test_what_is_open_and_focused_stays_so_while_other_videos_fail(app: SignedInPage) -> None:
    clips = SLOW_CLIPS[:4]
    job_id = app.submit("cut_off", "absent-0", *clips[:2], "absent-1", *clips[2:], "absent-2", name="live", max_speed=1)
    app.open(f"/jobs/{job_id}?tab=errors")
    first = app.causes.filter(has_text="cut_off")
    first.get_by_text("Stack trace").click()
    copy = first.get_by_role("button", name="Copy", exact=True)
    copy.focus()
    expect(app.causes.filter(has_text="absent-0")).to_contain_text("and 2 more", timeout=SLOW)
    expect(app.page.locator("main .head .status")).to_have_text("completed with errors")
    expect(first.get_by_role("button", name="Retry 1")).to_be_visible()
    expect(copy).to_be_focused()
    expect(first.locator("pre")).to_be_visible()


def test_a_cause_leads_to_its_example_among_all_videos(app: SignedInPage) -> None:
    job_id = app.finished(app.submit(*(f"absent{n:03d}" for n in range(55)), "cut_off", name="example"))
    app.open(f"/jobs/{job_id}")
    app.causes.get_by_role("button", name="cut_off").click()
    expect(app.tab("Videos")).to_have_attribute("aria-selected", "true")
    expect(app.page).to_have_url(f"{app.program.url}/jobs/{job_id}?tab=videos&after=49")
    expect(app.rows.filter(has_text="cut_off").get_by_role("button", expanded=True)).to_be_focused()
    expect(app.page.get_by_test_id("video-details")).to_contain_text("Error: File is cut off")


@pytest.mark.parametrize("clipboard", ["undefined", "{ writeText: () => Promise.reject(new Error('refused')) }"])
def test_a_cause_with_its_trace_and_the_job_id_are_copied_over_plain_http_too(
    app: SignedInPage, clipboard: str
) -> None:
    job_id = app.finished(app.submit("absent", name="copied"))
    app.page.add_init_script(f"Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard} }})")
    app.page.add_init_script("addEventListener('copy', () => { window.copied = String(getSelection()) })")
    app.open(f"/jobs/{job_id}")
    app.page.get_by_role("button", name="Copy the job ID").click()
    expect(app.page.get_by_role("button", name="Copied", exact=True)).to_be_focused()
    assert app.page.evaluate("window.copied") == job_id
    app.causes.get_by_role("button", name="Copy: not found").click()
    expect(app.causes.get_by_role("button", name="Copied: not found")).to_be_visible()
    sentence, affected, trace = re.split("\n+", app.page.evaluate("window.copied"), maxsplit=2)
    assert sentence == "No file for this ID in the media directory"
    assert affected == "1 of 1 video of copied, for example absent"
    assert trace.startswith("Traceback")


def test_what_cannot_be_copied_says_so(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("cut_off", name="not copied"))
    app.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    app.page.add_init_script("document.execCommand = () => false")
    app.open(f"/jobs/{job_id}")
    app.page.get_by_role("button", name="Copy the job ID").click()
    expect(app.page.get_by_role("button", name="Not copied", exact=True)).to_be_visible()
    app.causes.get_by_role("button", name="Copy: cut off").click()
    expect(app.causes.get_by_role("button", name="Not copied: cut off")).to_have_text("Not copied")
    app.causes.get_by_text("Stack trace").click()
    app.causes.get_by_role("button", name="Copy", exact=True).click()
    expect(app.causes.get_by_role("button", name="Not copied", exact=True)).to_be_visible()
    expect(app.page.get_by_role("button", name="Copy the job ID")).to_be_visible()


def test_a_cause_that_becomes_common_joins_the_shown_ones(app: SignedInPage) -> None:
    causes = {f"video-{letter}": f"The codec {letter} is unknown" for letter in ascii_lowercase[:21]}
    again = {f"again-{number}": causes["video-u"] for number in range(3)}
    job_id = app.submit_external(*causes, *again, "to-come")
    app.report_failures(job_id, causes, n=1)
    app.open(f"/jobs/{job_id}?tab=errors")
    expect(app.causes).to_have_count(20)
    expect(app.page.get_by_text("and 1 more cause")).to_be_visible()
    app.report_failures(job_id, again, n=100)
    expect(app.causes).to_have_count(21)
    expect(app.causes.first).to_contain_text("codec a")
    expect(app.causes.last).to_contain_text(re.compile("codec u.*and 3 more", re.DOTALL))
    expect(app.page.get_by_text("more cause")).to_be_hidden()


def test_a_page_of_very_many_causes_says_that_there_may_be_more(app: SignedInPage) -> None:
    codecs = islice(map("".join, product(ascii_lowercase, repeat=2)), 201)
    causes = {f"video-{codec}": f"The codec {codec} is unknown" for codec in codecs}
    job_id = app.submit_external(*causes, "to-come")
    app.report_failures(job_id, causes, n=1)
    app.open(f"/jobs/{job_id}?tab=errors")
    expect(app.page.get_by_text("and at least 180 more causes")).to_be_visible()


def test_several_causes_are_retried_together_and_the_button_counts_them(browser: Browser, tmp_path: Path) -> None:
    for name in SLOW_CLIPS[:2]:
        make_clip(tmp_path / f"{name}.mp4", seconds=3, size=(160, 90))
    hasty: dict[str, Any] = {"media_dir": tmp_path, "video_timeout_seconds": 1, "video_retries": 0}
    with running(tmp_path / "data", **hasty) as program, browser.new_context() as context:
        page = context.new_page()
        use_link(page, program.sign_in_link())
        expect(page).to_have_url(SIGNED_IN)
        app = SignedInPage(program, page, token(program.data_dir, "admin"))
        job_id = app.finished(app.submit("away-1", "away-2", "away-3", *SLOW_CLIPS[:2], name="several", max_speed=1))
        app.open(f"/jobs/{job_id}")
        together = page.get_by_test_id("retry-causes")
        expect(together).to_have_text("Retry 2 of 5: 2 timed out")
        app.causes.filter(has_text="Took longer").get_by_role("checkbox", checked=True).uncheck()
        expect(together).to_have_text("Select what to retry")
        expect(together).to_be_disabled()
        for box in app.causes.get_by_role("checkbox").all():
            box.check()
        expect(together).to_have_text("Retry 5 of 5: 3 not found, 2 timed out")
        together.click()
        expect(page.get_by_text("Attempt 2: 5 videos queued")).to_be_visible()
        expect(page.locator("main .identity")).to_contain_text("attempt 2")


def test_a_retry_says_how_many_unfinished_videos_it_includes(app: SignedInPage) -> None:
    job_id = app.submit("absent", *SLOW_CLIPS, name="undone", max_speed=1)
    app.open(f"/jobs/{job_id}?tab=errors")
    expect(app.causes).to_be_visible()
    app.choose_action(app.page.locator("main .head"), "Cancel")
    app.page.get_by_role("button", name="Cancel the job").click()
    expect(app.causes.get_by_role("button", name=re.compile(r"Retry 1 and \d+ not done so far"))).to_be_visible()


def test_the_usual_times_are_below_the_rate_with_their_sample_size(app: SignedInPage) -> None:
    header = app.page.get_by_test_id("job-header")
    app.open(f"/jobs/{app.finished(app.submit(*SLOW_CLIPS[:5], name='timed', max_speed=2))}")
    expect(header).to_contain_text(re.compile(r"/ min\s*p50 [\d.]+ s, p95 [\d.]+ s"))
    expect(header.get_by_title(re.compile("Half of 5 videos took up to"))).to_be_visible()
    app.open(f"/jobs/{app.finished(app.submit(*SLOW_CLIPS[:4], name='too few', max_speed=2))}")
    expect(header).to_contain_text("4 / 4")
    expect(header.get_by_text("p50")).to_be_hidden()


def test_the_page_of_an_ended_job_is_sent_nothing_as_time_passes(app: SignedInPage) -> None:
    ended, waiting = app.finished(app.submit("one", "two", name="still")), app.submit_external("one")
    sent: list[str] = []
    app.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sent.append(str(frame))))
    app.open(f"/jobs/{ended}")
    with app.page.context.new_page() as other:
        other.goto(f"{app.program.url}/jobs/{waiting}")
        time_taken = other.get_by_test_id("job-header").get_by_text(re.compile(r"^\d+ s$"))
        for _ in range(3):
            expect(time_taken).not_to_have_text(time_taken.inner_text())
    assert sent
    of_all_pages = ("nicegui-bell", "problem-count")  # what is told of other jobs meanwhile
    of_the_job = [frame for frame in sent if not any(name in frame for name in of_all_pages)]
    assert [frame for frame in of_the_job if '["update"' in frame or '["run_javascript"' in frame] == []


def test_the_filter_of_a_jobs_videos_is_in_the_address(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", "cut_off", "two", name="shared view"))
    app.open(f"/jobs/{job_id}")
    app.tab("Videos").click()
    app.page.get_by_role("searchbox", name="Video ID or error").fill("tw")
    expect(app.rows).to_have_count(1)
    expect(app.page).to_have_url(f"{app.program.url}/jobs/{job_id}?tab=videos&q=tw")
    app.page.reload()
    expect(app.rows).to_contain_text(["two"])
    expect(app.page.get_by_role("searchbox")).to_have_value("tw")
    app.page.get_by_role("searchbox").fill("IS CUT")
    expect(app.rows).to_contain_text(["cut_off"])
    app.page.get_by_test_id("show-completed").click()
    expect(app.page.get_by_text("No completed video has that ID, or an error with these words.")).to_be_visible()


def test_a_long_list_of_videos_comes_in_pages(app: SignedInPage) -> None:
    job_id = app.submit(*(f"absent{n:03d}" for n in range(60)), name="paged")
    app.open(f"/jobs/{job_id}?show=all")
    expect(app.rows).to_have_count(50)
    app.page.get_by_role("button", name="Next").click()
    expect(app.page.get_by_text("51 to 60 of 60")).to_be_visible()
    app.page.get_by_role("button", name="Previous").click()
    expect(app.page.get_by_text("1 to 50 of 60")).to_be_visible()


def test_a_click_on_a_failed_cell_opens_its_video(app: SignedInPage) -> None:
    app.open(f"/jobs/{app.finished(app.submit('one', 'cut_off', 'two', name='pressed'))}?show=completed&q=on")
    expect(app.rows).to_have_count(1)
    second = Position(x=150, y=8)
    cells = app.page.get_by_test_id("heat-strip").locator("canvas")
    cells.hover(position=second)
    expect(app.page.get_by_test_id("heat-told")).to_have_text("Video 2, failed: cut_off")
    cells.click(position=second)
    expect(app.page.get_by_test_id("video-details")).to_contain_text("Error: File is cut off")
    expect(app.page.get_by_role("searchbox")).to_have_value("")
    expect(app.rows).to_have_count(3)


def test_the_strip_follows_single_videos_and_many_at_once(app: SignedInPage) -> None:
    videos = [f"video-{number}" for number in range(40)]
    job_id = app.submit_external(*videos)
    app.open(f"/jobs/{job_id}")
    for failed in (1, 30):
        app.report_failures(job_id, dict.fromkeys(videos[:failed], "Cut off"), n=failed)
        name = f"40 videos: {failed} failed, {40 - failed} to come, or not reported"
        expect(app.page.get_by_role("group", name=name)).to_be_visible()
    app.page.get_by_role("group", name="40 videos").press("End")
    expect(app.page.get_by_test_id("heat-told")).to_have_text("Video 40, to come, or not reported: video-39")
    app.page.keyboard.press("Home")
    expect(app.page.get_by_test_id("heat-told")).to_have_text("Video 1, failed: video-0")


def test_the_keyboard_leads_from_a_cell_to_a_video_on_another_page(app: SignedInPage) -> None:
    job_id = app.finished(app.submit(*(f"absent{n:03d}" for n in range(60)), name="by keys"))
    app.open(f"/jobs/{job_id}?show=all")
    expect(app.rows).to_have_count(50)
    app.page.get_by_role("group", name="60 videos: 60 failed").focus()
    for key in ("End", "ArrowLeft"):
        app.page.keyboard.press(key)
    expect(app.page.get_by_test_id("heat-told")).to_have_text("Video 59, failed: absent058")
    app.page.keyboard.press("Enter")
    expect(app.page.get_by_text("51 to 60 of 60")).to_be_visible()
    expect(app.rows.filter(has_text="absent058").get_by_role("button", expanded=True)).to_be_focused()


def test_a_job_is_paused_resumed_and_cancelled_from_its_card_in_two_tabs_at_once(app: SignedInPage) -> None:
    job_id = app.submit(*SLOW_CLIPS, name="controlled", max_speed=0.5)  # 4 s each, in which "Pausing" is seen
    app.open("/")
    other = app.page.context.new_page()
    other.goto(app.program.url)
    expect(app.card(job_id).locator(".now")).to_contain_text("slow-")
    app.card(job_id).get_by_role("button", name="Pause").click()
    expect(app.card(job_id, other).get_by_text(re.compile(r"Pausing after \d videos?…"))).to_be_visible()
    for page in (app.page, other):
        expect(app.card(job_id, page)).to_have_attribute("data-status", "paused")
    app.card(job_id, other).get_by_role("button", name="Resume").click()
    for page in (app.page, other):
        expect(app.card(job_id, page)).to_have_attribute("data-status", "processing")
    app.choose_action(app.card(job_id), "Cancel")
    app.page.get_by_role("button", name="Cancel the job").click()
    for page in (app.page, other):
        expect(app.card(job_id, page)).to_have_attribute("data-status", "cancelled")
        expect(app.card(job_id, page).get_by_role("button", name=re.compile(r"Retry \d"))).to_be_visible()
    other.close()


def test_a_job_is_kept_and_dismissed_from_its_card_and_stays_in_history(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", name="kept"))
    app.open("/")
    app.card(job_id).get_by_role("button", name="Keep").click()
    expect(app.card(job_id).locator(".leaving")).to_contain_text("kept")
    app.card(job_id).get_by_role("button", name="Dismiss").click()
    expect(app.card(job_id)).to_have_count(0)
    app.open(f"/jobs/{job_id}")
    expect(app.page.get_by_role("heading", name="kept")).to_be_visible()


def test_the_failures_of_one_cause_are_retried_and_a_video_lists_its_attempts(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", "cut_off", "away-1", "away-2", name="causes"))
    app.open(f"/jobs/{job_id}")
    expect(app.causes).to_have_count(2)
    expect(app.causes.first).to_contain_text(re.compile("2.*No file for this ID.*away-1.*and 1 more", re.DOTALL))
    app.causes.first.get_by_role("button", name="Retry 2: not found").click()
    expect(app.page.locator("main .identity")).to_contain_text("attempt 2")
    app.tab("Videos").click()
    app.rows.filter(has_text="away-2").get_by_role("button").click()
    attempts = app.page.get_by_role("list", name="Attempts").get_by_role("listitem")
    expect(attempts).to_contain_text(["Attempt 1: failed", "Attempt 2: failed"])
    app.page.get_by_role("button", name="Retry this video").click()
    expect(attempts).to_contain_text(["Attempt 1", "Attempt 2", "Attempt 3: failed"])
    attempts.nth(1).get_by_text("Stack trace").click()
    expect(attempts.nth(1).locator("pre")).to_contain_text("Traceback")
    expect(attempts.nth(0).locator("pre")).to_be_hidden()


def test_a_deleted_job_leads_to_the_dashboard_and_other_tabs_say_that_it_is_gone(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("absent", name="unwanted"))
    app.open(f"/jobs/{job_id}")
    other = app.page.context.new_page()
    other.goto(f"{app.program.url}/jobs/{job_id}")
    expect(other.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
    head = app.page.locator("main .head")
    app.choose_action(head, "Dismiss")
    expect(app.page.get_by_text("Dismissed; the job stays in History")).to_be_visible()
    app.choose_action(head, "Delete")
    expect(app.page.get_by_role("dialog")).to_contain_text("gone for good")
    app.page.get_by_role("button", name="Delete for good").click()
    expect(other.get_by_role("heading", name="This job is gone")).to_be_visible()
    expect(other.get_by_test_id("live-region")).to_contain_text("This job is gone. “unwanted” was deleted")
    expect(app.page).to_have_url(f"{app.program.url}/")
    expect(app.card(job_id)).to_have_count(0)
    other.close()


def test_a_page_that_was_away_shows_what_happened_to_its_job_meanwhile(app: SignedInPage) -> None:
    job_id, connection = app.finished(app.submit("one", "cut_off", name="away")), PageConnection(app.page)
    app.open(f"/jobs/{job_id}?tab=timeline")
    app.page.evaluate("window.isTheSame = true")
    with connection.cut():
        app.request(job_id, "retry")
        app.finished(job_id)
        app.request(job_id, "dismiss")
    expect(app.page.locator("main .identity")).to_contain_text("attempt 2")
    expect(app.page.get_by_test_id("job-timeline")).to_contain_text("Attempt 2: 1 video")
    assert app.page.evaluate("window.isTheSame")


def test_a_page_that_was_away_says_that_its_job_was_deleted_meanwhile(app: SignedInPage) -> None:
    job_id, connection = app.finished(app.submit("one", name="deleted meanwhile")), PageConnection(app.page)
    app.open(f"/jobs/{job_id}")
    with connection.cut():
        app.delete(job_id)
    expect(app.page.get_by_role("heading", name="This job is gone")).to_be_visible()


def test_history_that_was_away_shows_how_a_job_ended_that_has_left_meanwhile(app: SignedInPage) -> None:
    job_id, connection = app.submit_external("one"), PageConnection(app.page)
    app.open("/history")
    row = app.page.locator(f'[data-job-id="{job_id}"]')
    expect(row).to_have_attribute("data-status", "pending")
    with connection.cut():
        app.request(job_id, "cancel")
        app.request(job_id, "dismiss")
    expect(row).to_have_attribute("data-status", "cancelled")


def test_administrators_change_how_many_videos_run_at_once(app: SignedInPage) -> None:
    app.open("/machines")
    field = app.page.get_by_label("videos at once, at most")
    before = field.input_value()
    field.fill("0")
    field.press("Enter")
    expect(app.page.get_by_text("slots must be from 1 to 1,024")).to_be_visible()
    expect(field).to_have_value(before)
    field.fill("3")
    field.press("Enter")
    expect(app.page.get_by_text(re.compile("[0-9]+ videos? at once from now on"))).to_be_visible()
    expected = field.input_value()
    app.open("/machines")
    expect(field).to_have_value(expected)
    field.fill(before)
    field.press("Enter")


def test_a_drained_machine_is_named_by_what_waits_for_it(app: SignedInPage) -> None:
    app.open("/machines")
    app.page.get_by_role("button", name="Drain").click()
    machine = app.page.get_by_test_id("machine")
    expect(machine).to_have_attribute("data-state", "draining")
    reason = f"Waiting for a worker: {machine.get_attribute('data-machine')} is draining"
    job_id = app.submit("one", "two", name="waits for a machine")
    app.open("/")
    expect(app.card(job_id)).to_contain_text(reason)
    app.open(f"/jobs/{job_id}")
    expect(app.page.get_by_test_id("job-message")).to_contain_text(reason)
    app.open("/machines")
    app.page.get_by_role("button", name="Take work again").click()
    expect(machine).to_have_attribute("data-state", "working")
    app.open(f"/jobs/{app.finished(job_id)}")
    app.rows.first.get_by_role("button").click()
    expect(app.page.get_by_test_id("video-details").locator("dt", has_text="Ran on")).to_be_visible()


def test_a_missing_job_and_another_users_job_look_the_same(
    app: SignedInPage, browser: Browser, program: Program
) -> None:
    job_id = app.submit("one", name="private")
    add_user(program.data_dir, "bob")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{program.url}/login")
        sign_in(page, "bob")
        expect(page).to_have_url(SIGNED_IN)
        seen = []
        for address in (f"/jobs/{job_id}", "/jobs/never-was"):
            answer = page.goto(program.url + address)
            expect(page.get_by_role("heading", name="No such job")).to_be_visible()
            seen.append((answer and answer.status, page.get_by_role("main").inner_text()))
    assert seen[0] == seen[1]
    assert seen[0][0] == 404


def test_history_finds_by_name_video_and_error_and_keeps_the_search_in_the_address(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("cut_off", "findable-video", name="Findable Name"))
    app.open("/history")
    for words in ("findable n", "findable-v", job_id[:13]):
        app.page.get_by_role("searchbox").fill(words)
        expect(app.history).to_have_count(1)
        expect(app.history).to_have_attribute("data-job-id", job_id)
    app.page.get_by_role("searchbox").fill("is cut off")
    expect(app.history.first).to_contain_text("Error: File is cut off")
    app.page.get_by_label("Status").select_option("completed")
    expect(app.page.get_by_text("No job matches")).to_be_visible()
    expect(app.page).to_have_url(f"{app.program.url}/history?q=is+cut+off&status=completed")


def test_history_is_filtered_in_the_address_and_its_export_with_it(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("filtered-1", name="filtered list"))
    app.open("/history?q=filtered+list&processor=probe&owner=admin")
    expect(app.history).to_have_count(1)
    expect(app.history).to_have_attribute("data-job-id", job_id)
    export = app.page.get_by_role("link", name="Export CSV")
    expect(export).to_have_attribute("href", "/api/jobs/export.csv?q=filtered+list&owner=admin&processor=probe")
    app.page.get_by_label("Duration").select_option("Over 6 h")
    expect(app.page.get_by_role("heading", name="No job matches")).to_be_visible()
    expect(app.page).to_have_url(re.compile("min_seconds=21600"))
    app.page.get_by_label("Duration").select_option("Any duration")
    expect(app.history).to_have_count(1)
    app.page.get_by_test_id("from-day").fill("2100-01-01")
    expect(app.page.get_by_role("heading", name="No job matches")).to_be_visible()
    app.page.get_by_test_id("from-day").fill("2020-01-01")
    expect(app.history).to_have_count(1)
    expect(app.page).to_have_url(re.compile("from=20"))
    app.page.reload()
    expect(app.page.get_by_test_id("from-day")).to_have_value("2020-01-01")
    expect(app.history).to_have_count(1)


def test_a_list_says_before_its_start_how_long_it_will_take(app: SignedInPage) -> None:
    """By the results of the job before it; nothing is said of a list without files."""
    clips = SLOW_CLIPS[:8]
    app.finished(app.submit(*clips, name="earlier"))
    app.open("/lists")
    app.choose("again.csv", "video_id\n" + "\n".join(clips))
    expect(app.page.get_by_test_id("list-outlook")).to_contain_text("8 videos")
    expect(app.page.get_by_test_id("list-outlook")).to_contain_text("earlier videos)")
    app.choose("nothing.csv", "video_id\nno-such-file")
    expect(app.page.get_by_test_id("upload-preview")).to_contain_text("nothing.csv")
    expect(app.page.get_by_test_id("list-outlook")).to_have_count(0)


def test_a_jobs_page_says_what_was_said_and_what_came_true(app: SignedInPage) -> None:
    nights = [app.finished(app.submit(*SLOW_CLIPS[:6], name=name, max_speed=1)) for name in ("first", "second")]
    app.open(f"/jobs/{nights[1]}")
    expect(app.page.get_by_test_id("job-forecasts")).to_contain_text(
        re.compile(r"we said .*; it was .* \(off by \d+ %\)")
    )


def test_history_finds_names_in_any_case_and_spelling(app: SignedInPage) -> None:
    names = ("ÜBUNG with words", "U\u0308bung with words", "Червоний with words")
    jobs = [app.submit("one", name=name) for name in names]
    app.open("/history")
    for words in ("übung with", "ÜBUNG WITH", "u\u0308bung with"):
        app.page.get_by_role("searchbox").fill(words)
        expect(app.history).to_have_count(2)
        assert {row.get_attribute("data-job-id") for row in app.history.all()} == set(jobs[:2])
    app.page.get_by_role("searchbox").fill("червоний with")
    expect(app.history).to_have_count(1)
    expect(app.history).to_have_attribute("data-job-id", jobs[2])


def test_a_new_job_appears_in_history_and_ends_there(app: SignedInPage) -> None:
    earlier = app.finished(app.submit("one", name="earlier"))
    app.open("/history")
    expect(app.history.first).to_have_attribute("data-job-id", earlier)
    job_id = app.submit("one", "two", name="meanwhile")
    row = app.page.locator(f'[data-job-id="{job_id}"]')
    expect(row).to_have_attribute("data-status", "completed")
    expect(app.page.locator(f'[data-job-id="{earlier}"]')).to_have_count(1)
    row.get_by_role("link", name="meanwhile").click()
    expect(app.page).to_have_url(f"{app.program.url}/jobs/{job_id}")


def test_times_are_in_the_readers_time_zone_and_name_it(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", name="zoned"))
    app.open(f"/jobs/{job_id}")
    expect(app.page.get_by_test_id("job-header").locator("time").last).to_contain_text("GMT+5:30")
    app.open("/history")
    expect(app.page.get_by_role("columnheader", name="Created, GMT+5:30")).to_be_visible()


def test_markup_in_a_list_is_shown_as_text(app: SignedInPage) -> None:
    app.open("/lists")
    app.choose("markup.csv", f"video_id,{MARKUP}\none,{MARKUP}\n{MARKUP},x\n")
    expect(app.preview.get_by_role("columnheader", name=MARKUP)).to_be_visible()
    app.page.get_by_label("Name of the job").fill(MARKUP)
    app.page.get_by_test_id("upload-start").click()
    app.page.get_by_role("link", name="Open the job").click()
    expect(app.page.get_by_role("heading", name=MARKUP)).to_be_visible()
    app.rows.get_by_role("button").click()
    expect(app.page.get_by_test_id("video-details").locator("dt", has_text=MARKUP)).to_be_visible()
    app.open("/history")
    expect(app.history.first).to_contain_text(MARKUP)
    expect(app.page).to_have_title(re.compile(r"^(\(\d+\) )?History$"))
    assert app.page.locator("main img, main b >> text=bold").count() == 0


def test_no_page_is_wider_than_a_phone_and_targets_are_large_enough(app: SignedInPage) -> None:
    job_id = app.finished(app.submit("one", "cut_off", "x" * 128, name=LONG))
    resize(app.page, 360)
    small = "all => all.filter(one => one.offsetHeight && one.offsetHeight < 44).map(one => one.outerHTML)"
    for path in ("/lists", f"/jobs/{job_id}?show=all", f"/jobs/{job_id}?tab=errors", "/history", "/machines"):
        app.open(path)
        if path == "/lists":
            app.choose(f"{LONG}.csv", f"video_id,{LONG}\none,{LONG}\n{'y' * 128},\nn/a,\n")
            expect(app.preview).to_be_visible()
        elif "errors" in path:
            expect(app.causes.first).to_be_visible()
        elif path not in ("/history", "/machines"):
            app.rows.nth(1).get_by_role("button").click()
            app.page.get_by_test_id("video-details").get_by_text("Stack trace").click()
        assert app.page.evaluate("document.documentElement.scrollWidth") <= 360, path
        targets = app.page.locator("main button, main .btn, main select, main summary, main a.name")
        assert targets.evaluate_all(small) == [], path
