"""Problems and many jobs at once, in Chromium, against the real program."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from progress_dashboard.protocol import EXTERNAL
from tests.support.axe import grave_findings
from tests.support.browser import complaints_of, sign_in
from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, running

SENDER_ERROR = "The recorder answered with HTTP 503 after 12 s."
NO_FILE = "No file for this ID"
MANY = 500
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@dataclass(frozen=True)
class Site:
    """The program, with ana and ben; `media` is its media directory."""

    program: Program
    media: Path
    tokens: dict[str, str]

    def client(self, user: str) -> httpx.Client:
        return api(self.program, self.tokens[user])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    media, data_dir = tmp_path_factory.mktemp("media"), tmp_path_factory.mktemp("data")
    make_clip(media / "good.mp4", size=(160, 90))
    tokens = {name: add_user(data_dir, name) for name in ("ana", "ben", "cleo", "dora", "emil", "fay")}
    with running(data_dir, media_dir=media, time_zone="UTC") as program:
        yield Site(program, media, tokens)


@pytest.fixture
def enter(browser: Browser, site: Site) -> Iterator[Any]:
    """Return a function that opens a context for a user, and returns a signed-in page of it."""
    contexts: list[BrowserContext] = []

    def open_page(user: str, viewport: Any = WIDE) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme="light", accept_downloads=True)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{site.program.url}/login")
        sign_in(page, user)
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
        return page

    yield open_page
    for context in contexts:
        context.close()


def visit(page: Page, site: Site, path: str) -> Page:
    page.goto(site.program.url + path)
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
    return page


def beside(page: Page, site: Site, path: str) -> Page:
    """Open another tab of the same browser."""
    return visit(page.context.new_page(), site, path)


def run_job(client: httpx.Client, *video_ids: str, name: str) -> str:
    """Run a job to its end, and return its ID."""
    job_id = str(client.post("/api/jobs", json={"video_ids": video_ids, "name": name}).json()["job_id"])
    for _ in range(600):
        job = client.get(f"/api/jobs/{job_id}").json()
        if job["finished_at"] and job["current_video"] == job["total_videos"]:
            return job_id
    raise AssertionError(f"the job does not end: {job['status']}")


def report_failures(client: httpx.Client, *video_ids: str, name: str) -> str:
    """Let an external job end, with a failure of each of these videos and of no other."""
    order = {"video_ids": [*video_ids, f"{video_ids[0]}-ok"], "processor": EXTERNAL, "name": name}
    job_id = str(client.post("/api/jobs", json=order).json()["job_id"])
    reports: list[dict[str, Any]] = [
        {"n": number, "video_id": video_id, "error": SENDER_ERROR} for number, video_id in enumerate(video_ids)
    ]
    reports.append({"n": len(reports), "status": "completed_with_errors"})
    assert client.post(f"/api/jobs/{job_id}/progress", json=reports).status_code == 200
    return job_id


def problem(page: Page, words: str) -> Locator:
    return page.get_by_test_id("problem").filter(has_text=words)


def tick(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=f"Select {name}", exact=True)


def bar(page: Page) -> Locator:
    return page.get_by_test_id("bulk-bar")


def test_a_good_morning_is_empty_and_says_so(site: Site, enter: Any) -> None:
    page = enter("fay")
    complaints = complaints_of(page)
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page).to_have_url(re.compile("/problems$"))
    expect(page.get_by_role("heading", name="Problems", exact=True)).to_be_visible()
    expect(page.get_by_test_id("no-problems")).to_contain_text("No problems")
    expect(page.locator(".top").get_by_test_id("problem-count")).to_have_text("")
    links = page.locator(".top nav").get_by_role("link").all_inner_texts()
    assert links.index("History") + 1 == links.index("Problems") == links.index("Statistics") - 1
    assert complaints == []


def test_a_retry_that_mends_takes_the_cause_away_in_all_tabs(site: Site, enter: Any) -> None:
    """Two jobs miss files. They come, one click retries both, and the cause is gone, beside the link as well."""
    with site.client("ana") as client:
        for number in (1, 2):
            run_job(client, "good", f"late-{number}", name=f"nightly {number}.csv")
    first = visit(enter("ana"), site, "/problems")
    others = [beside(first, site, "/problems?period=all"), beside(first, site, "/")]
    expect(problem(first, NO_FILE)).to_contain_text("2 videos in 2 jobs")
    expect(problem(first, NO_FILE).get_by_test_id("memory")).to_contain_text("Seen in 2 jobs since")
    expect(others[1].locator(".top").get_by_test_id("problem-count")).to_have_text("1")
    for number in (1, 2):
        shutil.copy(site.media / "good.mp4", site.media / f"late-{number}.mp4")
    problem(first, NO_FILE).get_by_role("button", name="Retry in all 2 jobs").click()
    expect(first.get_by_text("Retried in 2 jobs")).to_be_visible()
    for page in (first, others[0]):
        expect(problem(page, NO_FILE)).to_have_count(0)
        expect(page.get_by_test_id("no-problems")).to_be_visible()
    expect(others[1].locator(".top").get_by_test_id("problem-count")).to_have_text("")
    with site.client("ana") as client:
        job_id = run_job(client, "late-3", name="nightly 3.csv")
        visit(first, site, "/problems")
        expect(problem(first, NO_FILE).get_by_test_id("memory")).to_contain_text(
            re.compile(r"Seen in 3 jobs since .*; a retry helped 2 of 2 times")
        )
        assert client.delete(f"/api/jobs/{job_id}").status_code == 204
    expect(first.get_by_test_id("no-problems")).to_be_visible()


def test_notes_and_claims_are_live_for_all_who_have_the_cause(site: Site, enter: Any) -> None:
    for user in ("ben", "cleo"):
        with site.client(user) as client:
            report_failures(client, f"{user}-1", name=f"{user}.csv")
    bens, cleos = (visit(enter(user), site, "/problems") for user in ("ben", "cleo"))
    expect(bens.get_by_text("are seen by everybody whose jobs have met it")).to_be_visible()
    problem(bens, SENDER_ERROR).get_by_role("button", name="I have this").click()
    expect(problem(cleos, SENDER_ERROR).get_by_test_id("claim")).to_contain_text("ben has this since")
    expect(problem(bens, SENDER_ERROR).get_by_test_id("claim")).to_contain_text("You have this since")
    problem(cleos, SENDER_ERROR).get_by_role("button", name="Note").click()
    dialog = cleos.get_by_role("dialog", name="About this cause")
    expect(dialog).to_contain_text("Everybody whose jobs meet this cause sees")
    dialog.get_by_label("Note").fill("It is replaced on Thursday.")
    dialog.get_by_label("Known until").fill(
        cleos.evaluate("new Date(Date.now() + 5 * 864e5).toISOString().slice(0, 10)")
    )
    dialog.get_by_role("button", name="Save").click()
    expect(problem(bens, SENDER_ERROR).get_by_test_id("note")).to_have_text(re.compile(r"It is replaced on Thursday\."))
    expect(problem(bens, SENDER_ERROR).get_by_test_id("known")).to_contain_text("Known until")
    expect(bens.locator(".top").get_by_test_id("problem-count")).to_have_text("")
    problem(cleos, SENDER_ERROR).get_by_role("button", name="Take it over").click()
    expect(problem(bens, SENDER_ERROR).get_by_test_id("claim")).to_contain_text("cleo has this since")
    problem(cleos, SENDER_ERROR).get_by_role("button", name="Give it back").click()
    expect(problem(bens, SENDER_ERROR).get_by_test_id("claim")).to_have_count(0)


def test_five_hundred_jobs_at_once_with_a_partial_failure(site: Site, enter: Any) -> None:
    """All that match are ticked, three are deleted by another hand meanwhile, and these are told by name."""
    page = enter("dora")
    with site.client("dora") as client:
        names = [f"camera {number:03}" for number in range(MANY)]
        with ThreadPoolExecutor(16) as threads:
            ids = list(threads.map(lambda name: report_failures(client, f"{name[7:]}-bad", name=name), names))
        expect(page.get_by_test_id("filter-all").locator("span")).to_have_text(str(MANY))
        page.get_by_test_id("job-order").select_option("name")
        tick(page, "camera 000").check()
        bar(page).get_by_role("button", name=f"Select all {MANY} that match").click()
        expect(bar(page)).to_contain_text(f"{MANY} selected")
        bar(page).get_by_role("button", name=f"Delete {MANY}").click()
        question = page.get_by_role("dialog", name=f"Delete {MANY} jobs for good?")
        expect(question).to_contain_text(f"and {MANY - 5} more")
        for job_id in ids[:3]:
            client.delete(f"/api/jobs/{job_id}")
        question.get_by_role("button", name=f"Delete {MANY}").click()
        result = page.get_by_test_id("bulk-result")
        expect(result.get_by_role("heading")).to_have_text(
            f"Deleted {MANY - 3} jobs, 3 jobs were refused", timeout=60_000
        )
        expect(result.get_by_role("listitem")).to_have_text(
            [re.compile(rf"camera 00{number} There is no such job") for number in range(3)]
        )
        result.get_by_role("button", name="Close").click()
        expect(page.get_by_role("heading", name="No active jobs")).to_be_visible()
        assert client.get("/api/jobs").json()["items"] == []
    expect(bar(page)).to_have_count(0)


def test_shift_selects_a_range_on_cards_table_and_history(site: Site, enter: Any) -> None:
    with site.client("emil") as client:
        for number in range(8):
            report_failures(client, f"e{number}", name=f"list {number}")
    page = enter("emil")
    for path in ("/?sort=name&view=cards", "/?sort=name&view=table", "/history?sort=name"):
        visit(page, site, path)
        tick(page, "list 1").click()
        tick(page, "list 5").click(modifiers=["Shift"])
        expect(bar(page)).to_contain_text("5 selected")
        tick(page, "list 3").click(modifiers=["Shift"])
        expect(bar(page)).to_contain_text("2 selected")
        bar(page).get_by_role("button", name="Clear").click()
        expect(bar(page)).to_have_count(0)
    visit(page, site, "/history?q=list")
    tick(page, "list 7").click()
    bar(page).get_by_role("button", name="Select all 8 that match").click()
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Export 8").click()
    assert len(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()) == 9
    visit(page, site, "/problems")
    problem(page, SENDER_ERROR).locator(".where summary").click()
    tick(page, "list 2").click()
    bar(page).get_by_role("button", name="Keep 1").click()
    page.get_by_role("dialog", name="Keep 1 job on the dashboard?").get_by_role("button", name="Keep 1").click()
    expect(page.get_by_text("Kept 1 job")).to_be_visible()


def test_jobs_are_selected_and_cancelled_by_keyboard_alone(site: Site, enter: Any) -> None:
    page = enter("fay")
    with site.client("fay") as client:
        for number in range(3):
            order = {"video_ids": ["k"], "processor": EXTERNAL, "name": f"waiting {number}"}
            assert client.post("/api/jobs", json=order).status_code == 201
        visit(page, site, "/?sort=name")
        expect(page.get_by_test_id("job-card")).to_have_count(3)
        for key in ("j", "x", "j", "x"):
            page.keyboard.press(key)
        expect(bar(page)).to_contain_text("2 selected")
        page.keyboard.press("b")
        expect(bar(page).get_by_role("button", name="Select all 3 that match")).to_be_focused()
        page.keyboard.press("Tab")
        expect(bar(page).get_by_role("button", name="Cancel 2")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Cancel 2 jobs?")).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Cancelled 2 jobs")).to_be_visible()
        statuses = [job["status"] for job in client.get("/api/jobs", params={"sort": "name"}).json()["items"]]
        assert statuses == ["cancelled", "cancelled", "pending"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_pages_with_ticked_jobs_are_accessible_and_fit(site: Site, enter: Any, viewport: Any) -> None:
    with site.client("cleo") as client:
        name = f"a-very-long-name-without-a-blank-{viewport['width']}-" * 4
        report_failures(client, f"long-{viewport['width']}", name=name[:180])
    page = enter("cleo", viewport)
    for path in ("/?view=cards", "/?view=table", "/history", "/problems?period=all"):
        visit(page, site, path)
        if path.startswith("/problems"):
            page.get_by_test_id("problem").locator(".where summary").first.click()
        page.get_by_role("checkbox", name=re.compile("^Select ")).first.check()
        expect(bar(page)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert grave_findings(page) == [], path
        page.emulate_media(color_scheme="light")
    bar(page).get_by_role("button", name=re.compile("^Delete")).click()
    assert grave_findings(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("Note")).first.click()
    assert grave_findings(page) == []
