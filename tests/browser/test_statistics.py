"""The page of the statistics against the real program: it says what REST and the command say, to everybody."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from backend.domain.statistics import MEASURES
from tests.support.axe import grave_findings
from tests.support.browser import complaints_of, resize, sign_in
from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, run_command, running, token
from ui.figures import FIGURES

GOOD, MISSING = 6, 5
CHARTS = ("throughput", "durations", "outcomes", "causes")
CONNECTED = re.compile("connected")
NUMBER = re.compile(r"^\d+(\.\d+)?(e-?\d+)?$")


@dataclass(frozen=True)
class Site:
    """The program after a night: ana's job with errors, retried in vain, and one that ben began and ended well."""

    program: Program

    def stats(self, user: str, **query: str) -> dict[str, Any]:
        """Return what REST says."""
        with api(self.program, token(self.program.data_dir, user)) as client:
            answer: dict[str, Any] = client.get("/api/stats", params=query).json()
            return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    media, data_dir = tmp_path_factory.mktemp("media"), tmp_path_factory.mktemp("data")
    clip = make_clip(media / "v0.mp4", size=(160, 90))
    for number in range(1, GOOD):
        shutil.copy(clip, media / f"v{number}.mp4")
    with running(data_dir, media_dir=media, time_zone="UTC") as program:
        jwts = {name: add_user(data_dir, name) for name in ("ana", "ben")}
        with api(program, jwts["ana"]) as client:
            ids = [f"v{number}" for number in range(GOOD)] + [f"gone{number}" for number in range(MISSING)]
            job_id = run_job(client, ids)
            client.post(f"/api/jobs/{job_id}/retry")
            until_ended(client, job_id)
        with api(program, jwts["ben"]) as client:
            run_job(client, [f"v{number}" for number in range(GOOD)])
        yield Site(program)


@pytest.fixture(scope="module")
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    opened = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", timezone_id="Asia/Kolkata"
    )
    opened.set_default_timeout(15_000)
    page = opened.new_page()
    page.goto(f"{site.program.url}/login")
    sign_in(page, "ana")
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", CONNECTED)
    page.close()
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


def run_job(client: Any, ids: list[str]) -> str:
    """Run a job over these videos to its end, and return its ID."""
    job_id = str(client.post("/api/jobs", json={"video_ids": ids, "name": "nightly.csv"}).json()["job_id"])
    until_ended(client, job_id)
    return job_id


def until_ended(client: Any, job_id: str) -> None:
    """Wait for the end of the job, as its history tells it."""
    ended = ("completed", "completed_with_errors", "failed")
    for _ in range(600):
        job = client.get(f"/api/jobs/{job_id}").json()
        if job["status"] in ended and job["current_video"] == job["total_videos"]:
            return
    raise AssertionError(f"the job does not end: {job['status']}")


def open_stats(page: Page, site: Site, query: str = "") -> None:
    page.goto(f"{site.program.url}/stats{query}")
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", CONNECTED)


def shown_figures(page: Page) -> dict[str, tuple[float | None, int]]:
    """Return value and n of each figure, as the page's hooks say."""
    found = {}
    for name in MEASURES:
        card = page.get_by_test_id(f"stat-{name}")
        value, n = card.get_attribute("data-value"), card.get_attribute("data-n")
        found[name] = (float(value) if value and NUMBER.match(value) else None, int(n or -1))
    return found


def test_the_page_rest_and_the_command_say_the_same(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    shown = shown_figures(page)
    rest = site.stats("ana", period="24h")
    command = run_command(*("stats", "--period", "24h", "--json", "--owner", "ana"), data_dir=site.program.data_dir)
    said = json.loads(command.stdout)
    exact = [name for name in MEASURES if not name.endswith("_per_hour")]  # time goes on between two questions
    exact.remove("slots_busy")
    assert {name: shown[name] for name in exact} == {
        name: (rest["figures"][name]["value"], rest["figures"][name]["n"]) for name in exact
    }
    assert {name: said["figures"][name] for name in exact} == {name: rest["figures"][name] for name in exact}
    assert said["causes"] == rest["causes"]
    assert shown["videos"] == (GOOD + MISSING, GOOD + MISSING)
    assert shown["success_rate"][0] == pytest.approx(GOOD / (GOOD + MISSING))
    assert shown["retries"][0] == MISSING


def test_the_command_writes_a_table(site: Site) -> None:
    done = run_command("stats", "--period", "24h", data_dir=site.program.data_dir)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("24 hours: ")
    assert re.search(rf"^Videos done +{2 * GOOD + MISSING} +{2 * GOOD + MISSING}", done.stdout, re.MULTILINE)
    assert re.search(r"^Success rate +[0-9.]+ %", done.stdout, re.MULTILINE)
    assert "Commonest causes" in done.stdout
    assert max(map(len, lines)) <= 100


def test_the_command_refuses_in_one_sentence(site: Site) -> None:
    done = run_command("stats", "--period", "year", data_dir=site.program.data_dir)
    assert done.returncode == 1
    assert done.stderr == "period must be one of night, 24h, 7d, 30d, 90d.\n"


def test_a_user_is_not_asked_whose_jobs(page: Page, site: Site) -> None:
    open_stats(page, site)
    expect(page.get_by_role("heading", name="Statistics")).to_be_visible()
    expect(page.get_by_label("Owner")).to_have_count(0)
    open_stats(page, site, "?owner=ben")
    expect(page.get_by_test_id("stats-refused")).to_contain_text("Only an administrator")


def test_too_few_is_said(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    wait = page.get_by_test_id("stat-wait_p50")
    expect(wait).to_contain_text("too few")
    expect(wait).to_contain_text("n = 1 job")


def test_each_figure_says_what_it_means(page: Page, site: Site) -> None:
    """Also to those who have no pointer for its title."""
    open_stats(page, site, "?period=24h")
    for name, words in FIGURES.items():
        expect(page.get_by_test_id(f"stat-{name}")).to_contain_text(words.meaning)


def test_a_period_that_runs_ends_now(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    expect(page.locator(".span")).to_contain_text("to now,")
    open_stats(page, site, "?from=2020-02-02&to=2020-02-04")
    expect(page.locator(".span")).not_to_contain_text("now")


def test_filters_are_in_the_address(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    page.get_by_label("Processor").select_option("external")
    page.get_by_label("Name of a list").fill("nightly.csv")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/stats?*processor=external*")
    assert "name=nightly.csv" in page.url
    assert "period=24h" in page.url
    expect(page.get_by_test_id("stat-videos")).to_have_attribute("data-n", "0")
    page.get_by_test_id("period-30d").click()
    page.wait_for_url("**/stats?*period=30d*")
    assert "processor=external" in page.url
    page.get_by_role("link", name="Reset").click()
    page.wait_for_url("**/stats")


def test_a_range_of_days_is_that_of_the_readers_zone(page: Page, site: Site) -> None:
    """The reader is in Kolkata, the server in London: a day begins there at half past six in the evening."""
    open_stats(page, site)
    first, last = page.get_by_test_id("from-day"), page.get_by_test_id("to-day")
    first.fill("2020-02-02")
    last.fill("2020-02-03")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/stats?*from=*")
    asked = parse_qs(urlsplit(page.url).query, keep_blank_values=True)
    assert (asked["from"], asked["to"]) == (["2020-02-01T18:30:00.000Z"], ["2020-02-03T18:30:00.000Z"])
    assert asked.keys() == {"from", "to", "processor", "name"}
    assert (first.input_value(), last.input_value()) == ("2020-02-02", "2020-02-03")
    expect(page.get_by_test_id("stat-videos")).to_have_attribute("data-n", "0")
    open_stats(page, site, "?from=2031-01-01")
    expect(page.get_by_test_id("stats-refused")).to_contain_text("in the past")


def test_a_day_has_what_ended_in_it(page: Page, site: Site) -> None:
    now = site.stats("ana")["to"]
    open_stats(page, site)
    day = page.evaluate(f"new Date('{now}').toLocaleDateString('sv')")
    page.get_by_test_id("from-day").fill(day)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/stats?*from=*")
    expect(page.get_by_test_id("stat-videos")).to_have_attribute("data-n", str(GOOD + MISSING))


def test_the_chosen_tab_and_lines_stay_with_another_period(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    page.get_by_role("tab", name="Durations").click()
    legend = page.get_by_role("tabpanel").locator("svg text", has_text="50 % up to")
    legend.click()
    page.wait_for_url("**lines=p50+p95*")
    for leave in (page.get_by_test_id("period-30d"), page.get_by_role("button", name="Show")):
        leave.click()
        page.wait_for_url("**period=30d*lines=p50+p95*")
        expect(page.get_by_role("tab", name="Durations")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", CONNECTED)


@pytest.mark.parametrize("chart", ["throughput", "durations", "outcomes"])
def test_the_start_of_the_server_is_marked(page: Page, site: Site, chart: str) -> None:
    """Whichever lines are shown."""
    open_stats(page, site, f"?period=24h&tab={chart}&lines=p50")
    panel = page.get_by_role("tabpanel")
    expect(panel.locator("svg text", has_text="started").first).to_be_visible()
    panel.get_by_text("The numbers as a table").click()
    expect(panel.locator("tbody td", has_text="started").first).to_be_visible()


@pytest.mark.parametrize("chart", CHARTS)
def test_each_chart_is_drawn_and_has_its_numbers_as_a_table(page: Page, site: Site, chart: str) -> None:
    complaints, others = complaints_of(page), list[str]()
    page.on("request", lambda request: others.append(request.url))
    open_stats(page, site, f"?period=24h&tab={chart}")
    panel = page.get_by_role("tabpanel")
    expect(panel.locator("svg")).to_be_visible()
    expect(panel.locator("svg text", has_text=re.compile(r"\d|No file")).first).to_be_visible()
    expect(panel.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"\w+ .+"))
    panel.get_by_text("The numbers as a table").click()
    rows = panel.locator("tbody tr")
    assert rows.count() == (1 if chart == "causes" else len(site.stats("ana", period="24h")["bins"]))
    assert complaints == []
    mine = urlsplit(site.program.url).netloc
    assert {urlsplit(url).netloc for url in others if not url.startswith("data:")} == {mine}


def test_the_table_has_the_times_of_the_readers_zone(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    page.get_by_text("The numbers as a table").first.click()
    expect(page.locator("th", has_text="From").first).to_contain_text("GMT+5:30")


@pytest.mark.parametrize("chart", CHARTS)
def test_the_numbers_are_downloaded_as_csv(page: Page, site: Site, chart: str, tmp_path: Path) -> None:
    open_stats(page, site, f"?period=24h&tab={chart}")
    with page.expect_download() as started:
        page.get_by_test_id(f"csv-{chart}").click()
    started.value.save_as(tmp_path / "file.csv")
    lines = (tmp_path / "file.csv").read_text(encoding="utf-8-sig").splitlines()
    rest = site.stats("ana", period="24h")
    assert len(lines) == 1 + (len(rest["causes"]) if chart == "causes" else len(rest["bins"]))
    if chart == "outcomes":
        assert sum(int(line.split(",")[2]) for line in lines[1:]) == rest["figures"]["videos"]["n"]


def test_tabs_are_moved_through_with_the_keyboard(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h")
    page.get_by_role("tab", name="Throughput").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Durations")).to_be_focused()
    assert "tab=durations" in page.url
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/history")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/stats")


def test_the_lines_that_were_chosen_are_shown_again(page: Page, site: Site) -> None:
    open_stats(page, site, "?period=24h&tab=durations")
    legend = page.get_by_role("tabpanel").locator("svg text", has_text="50 % up to")
    legend.click()
    page.wait_for_url("**lines=p50+p95*")
    page.reload()
    expect(page.get_by_role("tabpanel").locator('svg path[stroke="var(--completed)"]').first).to_be_attached()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_has_no_serious_finding_of_axe(page: Page, site: Site, width: int) -> None:
    resize(page, width, 800)
    open_stats(page, site, "?period=24h")
    page.get_by_text("The numbers as a table").first.click()
    assert grave_findings(page) == []


def test_a_phone_needs_no_sideways_scrolling(page: Page, site: Site) -> None:
    resize(page, 360)
    for tab in CHARTS:
        open_stats(page, site, f"?period=24h&tab={tab}")
        expect(page.get_by_role("tabpanel").locator("svg").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll("main a, main button, main select, main input:not([type=hidden])")]
        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 43.5)
        .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert small == []
