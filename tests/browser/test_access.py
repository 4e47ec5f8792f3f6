"""Every page for everybody: axe's rules in both themes, nothing sideways on a phone, and the keyboard alone.

The pages are the program's own over real jobs in each status; a state is a page as somebody has it before them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.axe import grave_findings
from tests.support.browser import resize, sign_in, use_link
from tests.support.clips import make_clip, truncated
from tests.support.frozen_proxy import freezable_proxy
from tests.support.servers import Program, add_user, api, running, sign_in_link, token

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
LONG = "a-very-long-name-without-a-blank-" * 5
SLOW_CLIPS = tuple(f"slow-{number}" for number in range(12))
STEADY: dict[str, Any] = {"reconnect_delays_seconds": "60", "reconnect_attempts": 1, "allowed_hosts": "127.0.0.1"}
JOB_SECONDS = 30
NEWCOMER = "newcomer"


@dataclass(frozen=True)
class Scene:
    """A page at an address of the program, and the jobs that are there, by what they are for."""

    url: str
    page: Page
    jobs: Mapping[str, str]
    program: Program

    def open(self, path: str) -> Page:
        """Open a page and wait until it is connected."""
        self.page.goto(self.url + path)
        self.until_live()
        return self.page

    def open_job(self, name: str, query: str = "") -> Page:
        return self.open(f"/jobs/{self.jobs[name]}{query}")

    def until_live(self) -> None:
        expect(self.page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")

    def card(self, name: str) -> Locator:
        return self.page.locator(f'[data-testid=job-card][data-job-id="{self.jobs[name]}"]')

    def sign_in(self, name: str) -> None:
        """Sign in as another user than the administrator."""
        self.page.context.clear_cookies()
        self.page.goto(f"{self.url}/login")
        sign_in(self.page, name)
        self.until_live()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program. A page that loses it makes one attempt after a minute, so that it does not change meanwhile."""
    media, data = tmp_path_factory.mktemp("media"), tmp_path_factory.mktemp("data")
    make_clip(media / "one.mp4", size=(160, 90))
    truncated(make_clip(media / "cut_off.mp4"))
    slow = make_clip(media / f"{SLOW_CLIPS[0]}.mp4", seconds=3, size=(160, 90))
    for name in SLOW_CLIPS[1:]:
        shutil.copy(slow, media / f"{name}.mp4")
    add_user(data, NEWCOMER)
    with running(data, media_dir=media, max_running_videos=2, **STEADY) as program:
        yield program


@pytest.fixture(scope="module")
def jobs(program: Program) -> Mapping[str, str]:
    """Make a job in each status. Two of them are external jobs, so that they do not change."""
    with api(program, token(program.data_dir, "admin")) as client:
        return {
            "failed": ended(client, submit(client, "vendor-drop.csv", *(f"away-{n}" for n in range(8)))),
            "with errors": ended(client, submit(client, LONG, "one", "cut_off", "x" * 128)),
            "completed": ended(client, submit(client, "shorts.csv", "one")),
            "paused": requested(client, "pause", submit(client, "lectures.csv", *SLOW_CLIPS, max_speed=1)),
            "cancelled": requested(client, "cancel", submit(client, "unwanted.csv", *SLOW_CLIPS, max_speed=1)),
            "processing": reported(client, submit_external(client, "render-farm.csv")),
            "pending": submit_external(client, "not-begun.csv"),
        }


def submit(client: httpx.Client, name: str, *video_ids: str, **options: object) -> str:
    order = {"video_ids": video_ids, "name": name, "options": options}
    return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def submit_external(client: httpx.Client, name: str) -> str:
    order = {"video_ids": [f"v{number}" for number in range(200)], "name": name, "processor": "external"}
    return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def reported(client: httpx.Client, job_id: str) -> str:
    report = {"n": 1, "status": "processing", "current_video": 70}
    client.post(f"/api/jobs/{job_id}/progress", json=report).raise_for_status()
    return job_id


def requested(client: httpx.Client, act: str, job_id: str) -> str:
    client.post(f"/api/jobs/{job_id}/{act}").raise_for_status()
    return job_id


def ended(client: httpx.Client, job_id: str) -> str:
    deadline = time.monotonic() + JOB_SECONDS
    while client.get(f"/api/jobs/{job_id}").json()["finished_at"] is None:
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.05)
    return job_id


@pytest.fixture(scope="module")
def context(browser: Browser, program: Program) -> Iterator[BrowserContext]:
    """Open a browser in which the administrator is signed in."""
    with closing(browser.new_context(viewport=DESK, color_scheme="light")) as context:  # type: ignore[arg-type]
        context.set_default_timeout(15_000)
        page = context.new_page()
        use_link(page, program.sign_in_link())
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
        page.close()
        yield context


def sign_in_page(scene: Scene) -> None:
    scene.page.context.clear_cookies()
    scene.page.goto(f"{scene.url}/jobs/{scene.jobs['failed']}")
    expect(scene.page.get_by_label("Password")).to_be_visible()


def refused_sign_in(scene: Scene) -> None:
    sign_in_page(scene)
    scene.page.get_by_label("Username").fill("nobody")
    scene.page.get_by_label("Password").fill("nothing like it")
    scene.page.get_by_role("button", name="Sign in").click()
    expect(scene.page.get_by_role("alert")).to_be_visible()


def sign_in_by_link(scene: Scene) -> None:
    scene.page.context.clear_cookies()
    scene.page.goto(sign_in_link(scene.program, NEWCOMER))
    expect(scene.page.get_by_text("This link signs you in as newcomer.")).to_be_visible()


def used_link(scene: Scene) -> None:
    scene.page.goto(f"{scene.url}/link?token=used")
    expect(scene.page.get_by_role("heading", name="This link is not valid")).to_be_visible()


def no_such_job(scene: Scene) -> None:
    scene.open("/jobs/never-was")


def no_such_page(scene: Scene) -> None:
    scene.page.goto(f"{scene.url}/never-was")


def dashboard(scene: Scene) -> None:
    scene.open("/")
    expect(scene.page.get_by_test_id("job-card")).to_have_count(len(scene.jobs))
    for name in ("paused", "cancelled"):
        expect(scene.card(name)).to_have_attribute("data-status", name)


def table_of_jobs(scene: Scene) -> None:
    scene.open("/?view=table")
    expect(scene.page.get_by_role("table", name="Jobs").get_by_test_id("job-card")).to_have_count(len(scene.jobs))


def filtered_dashboard(scene: Scene) -> None:
    scene.open("/?show=failed&sort=newest&q=vendor")
    expect(scene.page.get_by_test_id("job-card")).to_have_count(1)


def nothing_on_the_dashboard_matches(scene: Scene) -> None:
    scene.open("/?q=never-was")
    expect(scene.page.get_by_text("Nothing matches")).to_be_visible()


def empty_dashboard(scene: Scene) -> None:
    scene.sign_in(NEWCOMER)
    expect(scene.page.get_by_text("No active jobs")).to_be_visible()


def menu_of_a_card(scene: Scene) -> None:
    dashboard(scene)
    scene.card("processing").get_by_role("button", name="More actions").click()
    expect(scene.page.get_by_role("menu")).to_be_visible()


def question_before_cancelling(scene: Scene) -> None:
    menu_of_a_card(scene)
    scene.page.get_by_role("menuitem", name="Cancel").click()
    expect(scene.page.get_by_role("dialog")).to_be_visible()


def account_menu(scene: Scene) -> None:
    scene.open("/")
    scene.page.get_by_label("Account: admin").click()
    expect(scene.page.get_by_role("button", name="Sign out")).to_be_visible()


def list_of_keys(scene: Scene) -> None:
    history(scene)
    scene.page.keyboard.press("?")
    expect(scene.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


def lists(scene: Scene) -> None:
    scene.open("/lists")


def pasting(scene: Scene) -> None:
    lists(scene)
    scene.page.get_by_role("button", name="paste IDs").click()


def preview_of_a_list(scene: Scene) -> None:
    lists(scene)
    choose(scene.page, f"video_id,{LONG}\none,{LONG}\none,again\n{'y' * 128},\nn/a,\n")
    expect(scene.page.get_by_test_id("upload-preview")).to_be_visible()


def refused_list(scene: Scene) -> None:
    lists(scene)
    choose(scene.page, "title,owner\nx,y\n")
    expect(scene.page.get_by_test_id("upload-error")).to_be_visible()


def choose(page: Page, content: str) -> None:
    page.set_input_files(
        "input[type=file]", {"name": f"{LONG}.csv", "mimeType": "text/csv", "buffer": content.encode()}
    )


def failed_job(scene: Scene) -> None:
    scene.open_job("failed")
    expect(scene.page.get_by_test_id("job-cause")).to_be_visible()


def video_with_its_trace(scene: Scene) -> None:
    scene.open_job("with errors", "?show=all")
    scene.page.get_by_test_id("video-row").nth(1).get_by_role("button").click()
    details = scene.page.get_by_test_id("video-details")
    details.get_by_text("Stack trace").click()
    expect(details.locator("pre")).to_be_visible()


def causes_with_a_trace(scene: Scene) -> None:
    scene.open_job("with errors")
    cause = scene.page.get_by_test_id("job-cause").first
    cause.get_by_text("Stack trace").click()
    expect(cause.locator("pre")).to_be_visible()


def timeline_on_a_phone(scene: Scene) -> None:
    resize(scene.page, **PHONE)
    scene.open_job("with errors")
    scene.page.get_by_role("tab", name="Timeline").click()
    expect(scene.page.get_by_test_id("job-timeline")).to_be_visible()


def running_job(scene: Scene) -> None:
    scene.open_job("processing")


def history(scene: Scene) -> None:
    scene.open("/history")
    expect(scene.page.get_by_test_id("history-row")).to_have_count(len(scene.jobs))


def nothing_in_history(scene: Scene) -> None:
    scene.open("/history?q=never-was")
    expect(scene.page.get_by_text("No job matches")).to_be_visible()


def machines(scene: Scene) -> None:
    scene.open("/machines")
    expect(scene.page.get_by_test_id("machine")).to_have_count(1)


STATES: tuple[Callable[[Scene], None], ...] = (
    *(sign_in_page, refused_sign_in, sign_in_by_link, used_link, no_such_job, no_such_page),
    *(dashboard, table_of_jobs, filtered_dashboard, nothing_on_the_dashboard_matches, empty_dashboard),
    *(menu_of_a_card, question_before_cancelling, account_menu),
    *(lists, pasting, preview_of_a_list, refused_list),
    *(failed_job, causes_with_a_trace, video_with_its_trace, timeline_on_a_phone, running_job),
    *(history, nothing_in_history, list_of_keys, machines),
)
LOST: tuple[Callable[[Scene], None], ...] = (dashboard, table_of_jobs, failed_job, history, machines)


@pytest.fixture(scope="module", params=STATES, ids=lambda state: state.__name__.replace("_", " "))
def page(
    request: pytest.FixtureRequest, context: BrowserContext, program: Program, jobs: Mapping[str, str]
) -> Iterator[Page]:
    """Open a page in one of the states, and restore the administrator's session afterwards."""
    kept = context.cookies()
    with closing(context.new_page()) as page:
        request.param(Scene(program.url, page, jobs, program))
        yield page
    context.clear_cookies()
    context.add_cookies(kept)  # type: ignore[arg-type]


def test_axe_finds_nothing_serious_in_either_theme(page: Page) -> None:
    assert grave_findings(page) == []


def test_a_sign_in_link_works_without_scripts(browser: Browser, program: Program) -> None:
    with closing(browser.new_context(java_script_enabled=False, viewport=PHONE)) as context:  # type: ignore[arg-type]
        page, link = context.new_page(), sign_in_link(program, NEWCOMER)
        for _ in range(2):
            page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        assert page.url == f"{program.url}/"
        assert [cookie["name"] for cookie in context.cookies()] == [f"dash_{program.port}"]
        page.goto(link)
        expect(page.get_by_role("heading", name="This link is not valid")).to_be_visible()


def test_axe_finds_what_is_wrong(context: BrowserContext) -> None:
    with closing(context.new_page()) as page:
        page.set_content(
            '<html lang="en"><title>Bad</title><main><button></button><p style="color: #bbb">Faint</p></main>'
        )
        found = grave_findings(page)
    assert [finding.split(":")[0] for finding in found] == [
        "light, critical, button-name",
        "light, serious, color-contrast",
        "dark, serious, color-contrast",
    ]


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    resize(page, **PHONE)
    assert width_of(page) <= PHONE["width"]


@pytest.mark.parametrize("state", LOST, ids=lambda state: state.__name__.replace("_", " "))
def test_a_page_without_its_server_is_as_accessible(
    context: BrowserContext, program: Program, jobs: Mapping[str, str], state: Callable[[Scene], None]
) -> None:
    with closing(context.new_page()) as page:
        with freezable_proxy(program.port) as proxy:
            state(Scene(f"http://127.0.0.1:{proxy.port}", page, jobs, program))
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "reconnecting")
        assert grave_findings(page) == []
        resize(page, **PHONE)
        assert width_of(page) <= PHONE["width"]


def width_of(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))
