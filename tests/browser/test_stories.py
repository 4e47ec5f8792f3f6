"""Nine stories that people live through with the dashboard: the program itself, real clips, Chromium.

In all of them a card never says less than before; where nothing is lost, no page reloads itself and no console says a
word.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.browser import complaints_of, sign_in
from tests.support.clips import make_clip
from tests.support.frozen_proxy import freezable_proxy
from tests.support.recorder import Record, record_pages
from tests.support.servers import Program, add_user, api, running

SETTINGS: Mapping[str, Any] = {
    "max_running_videos": 3,
    "reconnect_delays_seconds": "0.3",
    "reconnect_attempts": 1000,
    "allowed_hosts": "127.0.0.1",
}
DESK: Any = {"width": 1280, "height": 800}
CLIPS = tuple(f"clip-{number}" for number in range(10))
SLOW, FAST = 1, 10  # times real time; a clip is a second long
PATIENCE = 30_000
LEAST_STEPS = 4
NOT_FOUND = "No file for this ID in the media directory"
RED = "rgb(192, 32, 54)"
HELD = "Not connected: available again after reconnecting"


@dataclass(frozen=True)
class Tab:
    """A page, and what somebody sees there."""

    page: Page
    complaints: list[str]

    @property
    def banner(self) -> Locator:
        return self.page.get_by_test_id("connection-banner")

    @property
    def history(self) -> Locator:
        return self.page.get_by_test_id("history-row")

    @property
    def record(self) -> Record:
        return Record.of(self.page)

    def card(self, job_id: str) -> Locator:
        return self.page.locator(f'[data-testid=job-card][data-job-id="{job_id}"]')

    def bar(self, job_id: str) -> Locator:
        return self.card(job_id).get_by_role("progressbar")

    def until_live(self) -> None:
        """Wait until the page is connected, and mark it, so that a later reload is noticed."""
        expect(self.banner).to_have_attribute("data-state", "connected", timeout=PATIENCE)
        self.page.evaluate("window.isAsItWas = true")

    def until_moving(self, job_id: str) -> None:
        expect(self.card(job_id).locator(".status")).to_have_text("processing", timeout=PATIENCE)
        expect(self.bar(job_id)).not_to_have_attribute("aria-valuenow", "0", timeout=PATIENCE)

    def until_completed(self, job_id: str, *, videos: int) -> None:
        """Wait until the card says so. Its progress must never have gone back."""
        expect(self.card(job_id).locator(".status")).to_have_text("completed", timeout=PATIENCE)
        expect(self.card(job_id)).to_contain_text(f"{videos} / {videos}")
        expect(self.bar(job_id)).to_have_attribute("aria-valuenow", "100")
        assert self.record.setbacks(job_id) == []

    def must_have_seen_steps(self, job_id: str) -> None:
        assert len(self.record.cards(job_id)) >= LEAST_STEPS

    def must_find_in_history(self, job_id: str, words: str) -> None:
        """Search History for the ID. It must find one row, which contains these words."""
        self.search_history(job_id)
        expect(self.history).to_have_count(1)
        expect(self.history).to_have_attribute("data-job-id", job_id)
        expect(self.history).to_contain_text(words)

    def search_history(self, words: str) -> None:
        self.page.get_by_role("link", name="History").first.click()
        self.page.get_by_test_id("job-search").fill(words)

    def must_not_have_reloaded(self) -> None:
        assert self.page.evaluate("window.isAsItWas")

    def must_be_undisturbed(self) -> None:
        """Check that the page was never reloaded or disconnected, and that its console is empty."""
        self.must_not_have_reloaded()
        assert self.record.states in ("connected", "connecting > connected")
        assert self.complaints == []


@dataclass(frozen=True)
class Person:
    """A user of the program, no administrator, signed in at a browser of their own."""

    program: Program
    jwt: str
    context: BrowserContext

    def submit(self, *video_ids: str, name: str, speed: float = SLOW) -> str:
        """Make a job, and return its ID."""
        order = {"video_ids": video_ids, "name": name, "options": {"max_speed": speed}}
        with api(self.program, self.jwt) as client:
            return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])

    def act(self, action: str, job_id: str) -> None:
        """Request `action` ("pause", "resume", …) for a job."""
        with api(self.program, self.jwt) as client:
            client.post(f"/api/jobs/{job_id}/{action}").raise_for_status()

    @contextmanager
    def tab(self, path: str = "/", *, port: int | None = None) -> Iterator[Tab]:
        """Open a page and wait until it is connected. `port`: that of a proxy before the program."""
        with closing(self.context.new_page()) as page:
            tab = Tab(page, complaints_of(page))
            page.goto(f"http://127.0.0.1:{port or self.program.port}{path}")
            tab.until_live()
            yield tab


@contextmanager
def recorded(browser: Browser) -> Iterator[BrowserContext]:
    """Open a browser of its own whose pages are recorded."""
    with closing(browser.new_context(viewport=DESK, color_scheme="light")) as context:
        context.set_default_timeout(PATIENCE)
        record_pages(context)
        yield context


@contextmanager
def signed_in(browser: Browser, program: Program, name: str) -> Iterator[Person]:
    """Add a user, and sign the user in at a browser."""
    jwt = add_user(program.data_dir, name)
    with recorded(browser) as context:
        with closing(context.new_page()) as page:
            page.goto(f"{program.url}/login")
            sign_in(page, name)
            Tab(page, []).until_live()
        yield Person(program, jwt, context)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    media = tmp_path_factory.mktemp("media")
    first = make_clip(media / f"{CLIPS[0]}.mp4")
    for name in CLIPS[1:]:
        shutil.copy(first, media / f"{name}.mp4")
    return media


@pytest.fixture(scope="module")
def program(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("data"), media_dir=media, **SETTINGS) as program:
        yield program


@pytest.fixture(scope="module")
def ana(browser: Browser, program: Program) -> Iterator[Person]:
    with signed_in(browser, program, "ana") as ana:
        yield ana


def test_several_jobs_at_once_move_side_by_side(ana: Person) -> None:
    """They are long enough to overlap on the page, however late a busy machine submits the last one."""
    with ana.tab() as tab:
        jobs = {ana.submit(*CLIPS[:videos], name=f"{videos} videos"): videos for videos in (8, 9, 10)}
        for job_id, videos in jobs.items():
            tab.until_completed(job_id, videos=videos)
        seen = [[run.cards[job_id] for job_id in jobs] for run in tab.record.runs if jobs.keys() <= run.cards.keys()]
        assert any(all(card.status == "processing" and 0 < card.percent < 100 for card in cards) for cards in seen)
        tab.must_be_undisturbed()


def test_success_from_the_sign_in_to_history(ana: Person, browser: Browser, tmp_path: Path) -> None:
    nightly = tmp_path / "nightly.csv"
    nightly.write_text("video_id;title\n" + "".join(f"{name};Title of {name}\n" for name in CLIPS[:4]))
    with recorded(browser) as context:
        page = context.new_page()
        tab = Tab(page, complaints_of(page))
        page.goto(f"{ana.program.url}/lists")
        sign_in(page, "ana")
        page.set_input_files("input[type=file]", nightly)
        expect(page.get_by_text("4 of 4 found")).to_be_visible()
        page.get_by_test_id("upload-start").click()
        opened = page.get_by_role("link", name="Open the job")
        job_id = str(opened.get_attribute("href")).rpartition("/")[2]
        page.get_by_role("link", name="Dashboard").first.click()
        tab.until_completed(job_id, videos=4)
        expect(tab.card(job_id)).to_contain_text("nightly.csv")
        tab.must_find_in_history(job_id, "nightly.csv")
        assert tab.complaints == []


def test_a_failure_shows_its_message_in_red_with_icon_and_word(ana: Person) -> None:
    with ana.tab() as tab:
        failed, mixed = ana.submit("gone-1", "gone-2", name="failing"), ana.submit("gone", *CLIPS[:2], name="mixed")
        for job_id, word in ((failed, "failed"), (mixed, "completed with errors")):
            status = tab.card(job_id).locator(".status")
            expect(status).to_have_text(word, timeout=PATIENCE)
            expect(status.locator("[data-icon]")).to_be_visible()
            message = tab.card(job_id).get_by_text(NOT_FOUND)
            expect(message).to_have_css("color", RED)
            expect(message).to_have_text(re.compile(f"^Error: {NOT_FOUND}"))
            expect(message.locator("..").locator("[data-icon=error_outline]")).to_be_visible()
            expect(tab.bar(job_id)).to_have_attribute("aria-valuenow", "100")
        expect(tab.bar(mixed)).to_have_attribute("aria-valuetext", "3 of 3, 1 failed")
        tab.must_be_undisturbed()


def test_a_connection_loss_while_processing_is_shown_and_recovered(ana: Person) -> None:
    with ExitStack() as proxies, ana.tab() as elsewhere:
        port = proxies.enter_context(freezable_proxy(ana.program.port)).port
        with ana.tab(port=port) as tab:
            job_id = ana.submit(*CLIPS[:8], name="cut off from it")
            tab.until_moving(job_id)
            proxies.close()
            expect(tab.banner).to_contain_text(re.compile(r"Reconnecting.* of 1000, in \d+ s\. Values are from"))
            expect(tab.card(job_id)).to_contain_text(re.compile(r"\d s old"))
            expect(tab.card(job_id).get_by_role("button", name="Pause")).to_have_attribute("title", HELD)
            left_at = tab.record.cards(job_id)[-1]
            expect(elsewhere.bar(job_id)).not_to_have_attribute("aria-valuenow", str(left_at.percent))
            assert left_at.status == "processing"
            assert tab.record.cards(job_id)[-1] == left_at
            proxies.enter_context(freezable_proxy(ana.program.port, port=port))
            expect(tab.banner).to_contain_text(re.compile(r"Back, \d+ updates? applied"), timeout=PATIENCE)
            tab.until_completed(job_id, videos=8)
            tab.must_not_have_reloaded()
            assert tab.record.states.endswith("connected > reconnecting > connected")
        elsewhere.must_be_undisturbed()


def test_a_page_refresh_while_processing_continues(ana: Person) -> None:
    with ana.tab() as tab:
        job_id = ana.submit(*CLIPS, name="refreshed")
        tab.until_moving(job_id)
        tab.page.reload()
        tab.until_live()
        assert tab.record.runs[-1].cards[job_id].status == "processing"
        tab.until_completed(job_id, videos=len(CLIPS))
        tab.must_not_have_reloaded()
        assert tab.complaints == []


def test_several_tabs_show_the_same_job_move(ana: Person) -> None:
    with ana.tab() as first, ana.tab() as second:
        job_id = ana.submit(*CLIPS[:6], name="in many tabs")
        ana.act("pause", job_id)  # a tab may take longer to open than the job takes
        with ana.tab(f"/jobs/{job_id}") as third:
            bar = third.page.get_by_test_id("job-header").get_by_role("progressbar")
            expect(bar).not_to_have_attribute("aria-valuetext", "6 of 6")
            ana.act("resume", job_id)
            for tab in (first, second):
                expect(tab.card(job_id)).to_contain_text(job_id[:8])
                tab.until_completed(job_id, videos=6)
                tab.must_have_seen_steps(job_id)
            expect(bar).to_have_attribute("aria-valuetext", "6 of 6")
            for tab in (first, second, third):
                tab.must_be_undisturbed()


def test_nothing_is_missing_after_a_server_restart_while_processing(
    browser: Browser, media: Path, tmp_path: Path
) -> None:
    settings = {"media_dir": media, **SETTINGS}
    with ExitStack() as lives:
        program = lives.enter_context(running(tmp_path, **settings))
        ana = lives.enter_context(signed_in(browser, program, "ana"))
        tab = lives.enter_context(ana.tab())
        job_id = ana.submit(*CLIPS, name="survivor")
        tab.until_moving(job_id)
        program.kill()
        expect(tab.banner).to_have_attribute("data-state", "reconnecting", timeout=PATIENCE)
        expect(tab.card(job_id).locator(".status")).to_have_text("processing")
        lives.enter_context(running(tmp_path, port=program.port, **settings))
        expect(tab.banner).to_have_attribute("data-state", "connected", timeout=PATIENCE)
        tab.until_completed(job_id, videos=len(CLIPS))
        assert not tab.record.popup_was_seen
        tab.page.goto(f"{program.url}/jobs/{job_id}?show=all")
        rows = tab.page.get_by_test_id("video-row")
        expect(rows).to_have_text([re.compile(f"{name}.*completed", re.DOTALL) for name in CLIPS])


def test_a_completed_job_leaves_the_dashboard_after_its_time_and_stays_in_history(
    browser: Browser, media: Path, tmp_path: Path
) -> None:
    settings = {"media_dir": media, **SETTINGS, "completed_job_ttl_seconds": 3, "cleanup_interval_seconds": 0.2}
    with ExitStack() as last:
        program = last.enter_context(running(tmp_path, **settings))
        ana = last.enter_context(signed_in(browser, program, "ana"))
        tab = last.enter_context(ana.tab())
        job_id = ana.submit(CLIPS[0], name="soon gone", speed=FAST)
        expect(tab.card(job_id)).to_contain_text("leaves in 0:0", timeout=PATIENCE)
        expect(tab.card(job_id)).to_have_count(0, timeout=PATIENCE)
        expect(tab.page.get_by_text("No active jobs")).to_be_visible()
        assert tab.record.cards(job_id)[-1].status == "completed"
        tab.must_be_undisturbed()
        tab.must_find_in_history(job_id, "completed")


def test_two_users_never_see_each_others_jobs(ana: Person, browser: Browser) -> None:
    with signed_in(browser, ana.program, "ben") as ben, ana.tab() as hers, ben.tab() as his:
        of_ana, of_ben = (person.submit(*CLIPS[:4], name="private") for person in (ana, ben))
        for tab, own, foreign in ((hers, of_ana, of_ben), (his, of_ben, of_ana)):
            tab.until_completed(own, videos=4)
            tab.must_have_seen_steps(own)
            assert tab.record.cards(foreign) == []
            tab.must_be_undisturbed()
            tab.must_find_in_history(own, "private")
            tab.search_history(foreign)
            expect(tab.page.get_by_text("No job matches")).to_be_visible()
            tab.page.goto(f"{ana.program.url}/jobs/{foreign}")
            expect(tab.page.get_by_role("heading", name="No such job")).to_be_visible()
