"""Whoever loses the dashboard gets it back: stories in Chromium, of servers, lines, laptops and sessions that go away.

`tests/browser/test_connection.py` tells them with short times, `python -m tests.acceptance.connection [name part]` with
the real ones; each ends by saying what was seen.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from playwright.sync_api import Error as PageError

from tests.support.suspended_browser import asleep
from tests.support.browser import FLAGS, chromium_path, sign_in
from tests.support.freshness import Answers, judge
from tests.support.frozen_proxy import line_to
from tests.support.detached_browser import own_browser
from tests.support.recorder import Cards, Record, record_pages
from tests.support.servers import password_of
from tests.support.restartable_server import Sender, Stand, elsewhere, on_dashboard, real, status_changes

OFFICE, VISITOR, EXPIRED, REVOKED, DISABLED = USERS = ("office", "ana", "ben", "cleo", "dora")
ADDRESS = "/?seen=today"
WAITING_JOBS = 12  # enough cards to scroll
SCROLLED = 300
VIEWPORT = {"width": 900, "height": 600}
DEATH_SECONDS = 15.0
PAGE_SECONDS = 20.0  # a step on a page that is there
GRACE_SECONDS = 1.0
RELOAD_SECONDS = 5.0
POLL_SECONDS = 0.05
LEAST_VALUES = 30  # different values of two cards


@dataclass(frozen=True)
class VideoTimes:
    """How long everything lasts, in seconds; the last two are what the page is allowed."""

    settings: Mapping[str, object]
    outages: tuple[float, ...]
    freezes: tuple[float, ...]
    sleep: float
    hidden: float
    watched: float
    silence: float
    back: float


SHORT = VideoTimes(
    settings={"reconnect_delays_seconds": "0.2,0.4", "reconnect_attempts": 500, "page_silence_seconds": 2},
    outages=(0.2, 2),
    freezes=(1, 6),
    sleep=4,
    hidden=2,
    watched=12,
    silence=4,
    back=20,
)
REAL = VideoTimes(settings={}, outages=(5, 40), freezes=(10, 70), sleep=90, hidden=60, watched=60, silence=60, back=60)


@dataclass
class Stage:
    """One server and one browser for all stories."""

    stand: Stand
    browser: Browser
    times: VideoTimes
    office: httpx.Client
    _contexts: dict[str, BrowserContext] = field(default_factory=dict)

    def context(self, user: str) -> BrowserContext:
        """The browser as this user left it."""
        if user not in self._contexts:
            self._contexts[user] = self.browser.new_context(viewport=VIEWPORT, color_scheme="light")  # type: ignore[arg-type]
            self._contexts[user].set_default_timeout(1000 * PAGE_SECONDS)
            record_pages(self._contexts[user])
        return self._contexts[user]

    def close(self) -> None:
        for context in self._contexts.values():
            context.close()

    @contextmanager
    def visit(
        self, user: str = VISITOR, *, port: int | None = None, page: Page | None = None
    ) -> Iterator[RequestContext]:
        """Somebody at the dashboard, scrolled down, with a job that moves.

        `port`: of the line that leads there; `page`: of another browser than the one for all stories.
        """
        job_id = elsewhere(self.office, "moving")
        address = f"http://127.0.0.1:{port or self.stand.port}{ADDRESS}"
        with ExitStack() as last:
            sender = last.enter_context(Sender(last.enter_context(self.stand.client(OFFICE)), job_id))
            here = page or last.enter_context(closing(self.context(user).new_page()))
            visit = RequestContext(self, here, user, address, job_id, sender)
            visit.arrive()
            yield visit


@dataclass
class RequestContext:
    """What a story looks at. The page is never reloaded by hand, and its "Retry" is never pressed."""

    stage: Stage
    page: Page
    user: str
    address: str
    job_id: str
    sender: Sender
    scrolled: float = 0.0

    @property
    def banner(self) -> Locator:
        return self.page.get_by_test_id("connection-banner")

    @property
    def record(self) -> Record:
        return Record.of(self.page)

    @property
    def shown(self) -> Cards:
        return self.record.runs[-1].cards

    @property
    def scroll(self) -> float:
        return float(self.page.evaluate("scrollY"))

    def arrive(self) -> None:
        """Sign in where that is asked for, and scroll down."""
        self.page.goto(self.address)
        if "/login" in self.page.url:
            sign_in(self.page, self.user)
        self._until(lambda: self.job_id in self.shown and self.shown[self.job_id].done > 0, "the job moves")
        self.page.evaluate(f"scrollTo(0, {SCROLLED})")
        self.scrolled = self.scroll
        assert self.scrolled > 0
        assert self.page.url == self.address

    def came_back(self, *, back_at: float, lost_at: float | None = None, within: float = 0.0, away: float = 0.0) -> str:
        """The page must be as it was left, with the server's state, and must never have said what was not true.

        `lost_at`: from when on there was no server to be connected to, which the page had to know `within` seconds;
        `away`: for how long nobody could look at the page.
        """
        expect(self.banner).to_have_attribute("data-state", "connected", timeout=1000 * self.stage.times.back)
        finished = self.sender.finished
        self._until(lambda: self.done > finished, "the job moves again")
        self.sender.stop()
        self._until(self._is_as_left, "all as the API says, and as it was left")
        record = self.record
        self.must_be_true(record, lost_at=lost_at, within=within, away=away)
        lost = "" if lost_at is None else f"known after {record.disconnected_after(lost_at):.1f} s, "
        return f"{lost}connected {record.connected_after(back_at):.1f} s after it was back; {record.said}"

    def must_be_true(self, record: Record, *, lost_at: float | None, within: float, away: float = 0.0) -> None:
        """What the page said of its connection."""
        assert not record.popup_was_seen
        assert record.longest_gap() < away + RELOAD_SECONDS, "the page was gone"
        assert record.false_green(self.stage.times.silence) <= GRACE_SECONDS
        if lost_at is not None:
            known = record.disconnected_after(lost_at)
            assert known is not None, f"it called itself connected all the time: {record.said}"
            assert known <= within

    def go_to_sign_in(self) -> None:
        """Where the page leads to or offers to lead to."""
        offer = self.banner.get_by_role("link", name="Sign in")
        form = self.page.get_by_label("Username")
        expect(offer.or_(form)).to_be_visible()
        if offer.is_visible():
            offer.click()
        expect(form).to_be_visible()

    @property
    def done(self) -> int:
        """How many videos of the moving job are done, as the page shows it."""
        card = self.shown.get(self.job_id)
        return card.done if card else 0

    def _is_as_left(self) -> bool:
        is_here = self.page.url == self.address and self.scroll == self.scrolled
        return is_here and self.shown == on_dashboard(self.stage.office)

    @property
    def _differences(self) -> str:
        shown, there = self.shown, on_dashboard(self.stage.office)
        cards = [(shown.get(job), there.get(job)) for job in {*shown, *there} if shown.get(job) != there.get(job)]
        return f"{self.page.url} at {self.scroll}, shown and there: {cards}"

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PAGE_SECONDS
        while not self._is_so(holds):
            assert time.monotonic() < end, f"not in {PAGE_SECONDS} s: {what}; {self._differences}"
            self.page.wait_for_timeout(1000 * POLL_SECONDS)

    def _is_so(self, holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except PageError as error:
            if "context was destroyed" not in error.message:
                raise
            return False  # the page loads itself anew


def server_killed(stage: Stage, seconds: float) -> str:
    """kill -9, and started again after so many seconds."""
    with stage.visit() as visit:
        killed_at = stage.stand.kill()
        time.sleep(seconds)
        back_at = stage.stand.start()
        return visit.came_back(back_at=back_at, lost_at=killed_at, within=DEATH_SECONDS)


def line_frozen(stage: Stage, seconds: float) -> str:
    """No byte passes for so many seconds, and nothing is closed."""
    with line_to(stage.stand.port) as line, stage.visit(port=line.port) as visit:
        frozen_at = time.time()
        line.freeze()
        time.sleep(seconds)
        line.thaw()
        thawed_at = time.time()
        noticed_within = stage.times.silence + GRACE_SECONDS
        lost_at = frozen_at if seconds > noticed_within else None
        return visit.came_back(back_at=thawed_at, lost_at=lost_at, within=noticed_within)


def laptop_asleep(stage: Stage) -> str:
    """All processes of the browser are stopped."""
    with stage.visit() as visit:
        with asleep(stage.browser) as processes:
            time.sleep(stage.times.sleep)
        told = visit.came_back(back_at=time.time(), away=stage.times.sleep)
        return f"{processes} processes stopped; {told}"


def tab_hidden(stage: Stage) -> str:
    """Another tab is in front."""
    with own_browser(stage.browser.browser_type) as own:
        page = own.hold()
        record_pages(page.context)
        page.set_viewport_size(VIEWPORT)  # type: ignore[arg-type]
        with stage.visit(page=page) as visit:
            own.let_go()
            own.open_tab_in_front()
            time.sleep(stage.times.hidden)
            visit.page = own.hold()
            told = visit.came_back(back_at=time.time(), away=stage.times.hidden)
            assert visit.record.was_hidden
            return told


def session_expired(stage: Stage) -> str:
    """The session ran out; the same person signs in again."""
    return _session_ended(stage, EXPIRED, stage.stand.let_sessions_expire)


def session_revoked(stage: Stage) -> str:
    """`users passwd` ended the session; the same person signs in again."""
    end = partial(stage.stand.command, "users", "passwd", REVOKED, "--password-stdin", stdin=password_of(REVOKED))
    return _session_ended(stage, REVOKED, end)


def _session_ended(stage: Stage, user: str, end: Callable[[], None]) -> str:
    with stage.visit(user) as visit:
        end()
        ended_at = time.time()
        visit.go_to_sign_in()
        sign_in(visit.page, user)
        return visit.came_back(back_at=time.time(), lost_at=ended_at, within=DEATH_SECONDS)


def user_disabled(stage: Stage) -> str:
    """`users disable`: nothing is live any more, and there is no way back in."""
    with stage.visit(DISABLED) as visit:
        stage.stand.command("users", "disable", DISABLED)
        ended_at = time.time()
        visit.go_to_sign_in()
        sign_in(visit.page, DISABLED)
        expect(visit.page.get_by_role("alert")).to_be_visible()
        visit.must_be_true(visit.record, lost_at=ended_at, within=DEATH_SECONDS)
        assert visit.record.connected_after(time.time()) is None
        return visit.record.said


def another_build(stage: Stage) -> str:
    """The server comes back with other scripts: the page must run them."""
    with stage.visit() as visit:
        killed_at = stage.stand.kill()
        stage.stand.change_build('data-build="another"')
        told = visit.came_back(back_at=stage.stand.start(), lost_at=killed_at, within=DEATH_SECONDS)
        expect(visit.banner).to_have_attribute("data-build", "another")
        return told


def as_fresh_as_the_api(stage: Stage) -> str:
    """While it says connected, each card is at most a second behind the API and never ahead of it; with one kill -9."""
    with stage.visit() as visit, stage.stand.client(OFFICE) as asking:
        jobs = (visit.job_id, real(stage.office, "real"))
        with Answers(partial(on_dashboard, asking)) as answers:
            visit.page.wait_for_timeout(1000 * stage.times.watched / 3)
            killed_at = stage.stand.kill()
            stage.stand.start()
            visit.page.wait_for_timeout(1000 * stage.times.watched * 2 / 3)
            visit.came_back(back_at=time.time(), lost_at=killed_at, within=DEATH_SECONDS)
        judgement = judge(visit.record, answers.all, {job: status_changes(stage.office, job) for job in jobs})
        assert not judgement.wrong, judgement.wrong
        assert judgement.values >= LEAST_VALUES
        return f"{judgement}; {len(answers.all)} answers of the API"


STORIES: Mapping[str, Callable[[Stage], str]] = {
    "the session expires": session_expired,
    "the session is revoked": session_revoked,
    "the user is disabled": user_disabled,
    "the tab is hidden": tab_hidden,
    "the cards are as fresh as the API": as_fresh_as_the_api,
    "the laptop sleeps": laptop_asleep,
    "another build comes back": another_build,
}


def all_stories(times: VideoTimes) -> dict[str, Callable[[Stage], str]]:
    """Every story by its name; the build changes in the last one."""
    killed = {f"the server is killed for {s:g} s": partial(server_killed, seconds=s) for s in times.outages}
    frozen = {f"the line is frozen for {s:g} s": partial(line_frozen, seconds=s) for s in times.freezes}
    return killed | frozen | dict(STORIES)


@contextmanager
def open_stage(browser: Browser, home: Path, times: VideoTimes) -> Iterator[Stage]:
    """A server with enough jobs on its dashboard to scroll."""
    stand = Stand(home, USERS, **times.settings)
    with ExitStack() as last:
        last.callback(stand.close)
        stand.start()
        stage = Stage(stand, browser, times, last.enter_context(stand.client(OFFICE)))
        last.callback(stage.close)
        for number in range(WAITING_JOBS):
            elsewhere(stage.office, f"waiting-{number}")
        yield stage


def main(part: str = "") -> None:
    """Tell the stories whose name has this part, with the real times; exits with 1 if one failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        with open_stage(browser, Path(home), REAL) as stage:
            for name, story in all_stories(REAL).items():
                failed += part in name and not _told(stage, name, story)
        browser.close()
    sys.exit(bool(failed))


def _told(stage: Stage, name: str, story: Callable[[Stage], str]) -> bool:
    began = time.monotonic()
    try:
        print(f"{name}: {story(stage)} ({time.monotonic() - began:.0f} s)", flush=True)
    except AssertionError as broken:
        print(f"{name} FAILED: {broken}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:2])
