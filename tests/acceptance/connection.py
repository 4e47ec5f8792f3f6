"""Stories in Chromium: the dashboard loses its server, connection, laptop or session, and recovers automatically.

`tests/browser/test_connection.py` plays them with short durations, `python -m tests.acceptance.connection [name part]`
with the real ones. Each story ends with a summary of what the page showed.
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

from tests.support.browser import FLAGS, chromium_path, sign_in
from tests.support.detached_browser import own_browser
from tests.support.freshness import Answers, judge
from tests.support.frozen_proxy import freezable_proxy
from tests.support.recorder import Cards, Record, record_pages
from tests.support.restartable_server import (
    RestartableServer,
    Sender,
    on_dashboard,
    status_changes,
    submit_clips,
    submit_external,
)
from tests.support.servers import password_of
from tests.support.suspended_browser import asleep

OFFICE, VISITOR, EXPIRED, REVOKED, DISABLED = USERS = ("account_store", "ana", "ben", "cleo", "dora")
ADDRESS = "/?seen=today"
WAITING_JOBS = 12  # enough cards to scroll
SCROLL_PX = 300
VIEWPORT = {"width": 900, "height": 600}
NOTICE_SECONDS = 15.0  # in which the page must notice the end of the server or of the session
PAGE_SECONDS = 20.0  # for a step on a page that is loaded
GRACE_SECONDS = 1.0
RELOAD_SECONDS = 5.0
POLL_SECONDS = 0.05
MIN_VALUES = 30  # different values of two cards


@dataclass(frozen=True)
class Durations:
    """The durations of all stories, in seconds, and the server's settings for them."""

    settings: Mapping[str, object]
    outages: tuple[float, ...]
    freezes: tuple[float, ...]
    sleep: float
    hidden: float
    watched: float
    # After this much silence the page must not show "connected".
    silence: float
    # Within this time the page must be connected again.
    back: float


SHORT = Durations(
    settings={"reconnect_delays_seconds": "0.2,0.4", "reconnect_attempts": 500, "page_silence_seconds": 2},
    outages=(0.2, 2),
    freezes=(1, 6),
    sleep=4,
    hidden=2,
    watched=12,
    silence=4,
    back=20,
)
REAL = Durations(settings={}, outages=(5, 40), freezes=(10, 70), sleep=90, hidden=60, watched=60, silence=60, back=60)


@dataclass
class Stage:
    """One server and one browser for all stories."""

    server: RestartableServer
    browser: Browser
    durations: Durations
    account_store: httpx.Client
    _contexts: dict[str, BrowserContext] = field(default_factory=dict)

    def context(self, user: str) -> BrowserContext:
        """Return this user's browser context, which is the same in all stories."""
        if user not in self._contexts:
            self._contexts[user] = self.browser.new_context(viewport=VIEWPORT, color_scheme="light")  # type: ignore[arg-type]
            self._contexts[user].set_default_timeout(1000 * PAGE_SECONDS)
            record_pages(self._contexts[user])
        return self._contexts[user]

    def close(self) -> None:
        """Close all contexts."""
        for context in self._contexts.values():
            context.close()

    @contextmanager
    def open_dashboard(
        self, user: str = VISITOR, *, port: int | None = None, page: Page | None = None
    ) -> Iterator[OpenDashboard]:
        """Open the dashboard of a user, scrolled down, with a job that progresses.

        `port`: of a proxy before the server; `page`: of another browser than the one for all stories.
        """
        job_id = submit_external(self.account_store, "active")
        address = f"http://127.0.0.1:{port or self.server.port}{ADDRESS}"
        with ExitStack() as stack:
            sender = stack.enter_context(Sender(stack.enter_context(self.server.client(OFFICE)), job_id))
            opened = page or stack.enter_context(closing(self.context(user).new_page()))
            dashboard = OpenDashboard(self, opened, user, address, job_id, sender)
            dashboard.open()
            yield dashboard


@dataclass
class OpenDashboard:
    """A user's dashboard in a story. The story never reloads it, and never clicks "Retry"."""

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

    @property
    def done(self) -> int:
        """The number of finished videos of the active job, as the page shows it."""
        card = self.shown.get(self.job_id)
        return card.done if card else 0

    def open(self) -> None:
        """Load the page, sign in if it asks for that, and scroll down."""
        self.page.goto(self.address)
        if "/login" in self.page.url:
            sign_in(self.page, self.user)
        self._until(lambda: self.job_id in self.shown and self.shown[self.job_id].done > 0, "the job progresses")
        self.page.evaluate(f"scrollTo(0, {SCROLL_PX})")
        self.scrolled = self.scroll
        assert self.scrolled > 0
        assert self.page.url == self.address

    def assert_recovered(
        self, *, back_at: float, lost_at: float | None = None, within: float = 0.0, away: float = 0.0
    ) -> str:
        """Check that the page is as before, with the server's state, and never showed anything false; return a summary.

        `lost_at`: from then on the page could not be connected, and had to show that `within` seconds; `away`: for how
        many seconds the page could not be observed.
        """
        expect(self.banner).to_have_attribute("data-state", "connected", timeout=1000 * self.stage.durations.back)
        finished = self.sender.finished
        self._until(lambda: self.done > finished, "the job progresses again")
        self.sender.stop()
        self._until(self._is_as_before, "the page is as before, with the API's state")
        record = self.record
        self.assert_truthful(record, lost_at=lost_at, within=within, away=away)
        lost = "" if lost_at is None else f"loss shown after {record.disconnected_after(lost_at):.1f} s, "
        return f"{lost}connected {record.connected_after(back_at):.1f} s after the end of the outage; {record.states}"

    def assert_truthful(self, record: Record, *, lost_at: float | None, within: float, away: float = 0.0) -> None:
        """Check that the page's statements about its connection were true."""
        assert not record.popup_was_seen
        assert record.longest_gap() < away + RELOAD_SECONDS, "the page was not loaded"
        assert record.false_green(self.stage.durations.silence) <= GRACE_SECONDS
        if lost_at is not None:
            noticed_after = record.disconnected_after(lost_at)
            assert noticed_after is not None, f'the page showed "connected" all the time: {record.states}'
            assert noticed_after <= within

    def go_to_sign_in(self) -> None:
        """Go to the sign-in form: the page leads there, or has a link to it."""
        link = self.banner.get_by_role("link", name="Sign in")
        form = self.page.get_by_label("Username")
        expect(link.or_(form)).to_be_visible()
        if link.is_visible():
            link.click()
        expect(form).to_be_visible()

    def _is_as_before(self) -> bool:
        is_in_place = self.page.url == self.address and self.scroll == self.scrolled
        return is_in_place and self.shown == on_dashboard(self.stage.account_store)

    @property
    def _differences(self) -> str:
        shown, stored = self.shown, on_dashboard(self.stage.account_store)
        cards = [(shown.get(job), stored.get(job)) for job in {*shown, *stored} if shown.get(job) != stored.get(job)]
        return f"{self.page.url} at {self.scroll}, shown and stored: {cards}"

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PAGE_SECONDS
        while not self._is_true(holds):
            assert time.monotonic() < end, f"not in {PAGE_SECONDS} s: {what}; {self._differences}"
            self.page.wait_for_timeout(1000 * POLL_SECONDS)

    def _is_true(self, holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except PageError as error:
            if "context was destroyed" not in error.message:
                raise
            return False  # the page reloads itself


def server_killed(stage: Stage, seconds: float) -> str:
    """Kill the server with SIGKILL and start it again after this time."""
    with stage.open_dashboard() as dashboard:
        killed_at = stage.server.kill()
        time.sleep(seconds)
        back_at = stage.server.start()
        return dashboard.assert_recovered(back_at=back_at, lost_at=killed_at, within=NOTICE_SECONDS)


def connection_frozen(stage: Stage, seconds: float) -> str:
    """Let no byte pass for this time, and close nothing."""
    with freezable_proxy(stage.server.port) as proxy, stage.open_dashboard(port=proxy.port) as dashboard:
        frozen_at = time.time()
        proxy.freeze()
        time.sleep(seconds)
        proxy.thaw()
        thawed_at = time.time()
        noticed_within = stage.durations.silence + GRACE_SECONDS
        lost_at = frozen_at if seconds > noticed_within else None
        return dashboard.assert_recovered(back_at=thawed_at, lost_at=lost_at, within=noticed_within)


def laptop_asleep(stage: Stage) -> str:
    """Suspend all processes of the browser."""
    with stage.open_dashboard() as dashboard:
        with asleep(stage.browser) as processes:
            time.sleep(stage.durations.sleep)
        summary = dashboard.assert_recovered(back_at=time.time(), away=stage.durations.sleep)
        return f"{processes} processes suspended; {summary}"


def tab_hidden(stage: Stage) -> str:
    """Put another tab in front."""
    with own_browser(stage.browser.browser_type) as own:
        page = own.attach()
        record_pages(page.context)
        page.set_viewport_size(VIEWPORT)  # type: ignore[arg-type]
        with stage.open_dashboard(page=page) as dashboard:
            own.detach()
            own.open_tab_in_front()
            time.sleep(stage.durations.hidden)
            dashboard.page = own.attach()
            summary = dashboard.assert_recovered(back_at=time.time(), away=stage.durations.hidden)
            assert dashboard.record.was_hidden
            return summary


def session_expired(stage: Stage) -> str:
    """Let the session expire; the same user signs in again."""
    return _session_ended(stage, EXPIRED, stage.server.let_sessions_expire)


def session_revoked(stage: Stage) -> str:
    """End the session with `users passwd`; the same user signs in again."""
    end = partial(stage.server.command, "users", "passwd", REVOKED, "--password-stdin", stdin=password_of(REVOKED))
    return _session_ended(stage, REVOKED, end)


def _session_ended(stage: Stage, user: str, end: Callable[[], None]) -> str:
    with stage.open_dashboard(user) as dashboard:
        end()
        ended_at = time.time()
        dashboard.go_to_sign_in()
        sign_in(dashboard.page, user)
        return dashboard.assert_recovered(back_at=time.time(), lost_at=ended_at, within=NOTICE_SECONDS)


def user_disabled(stage: Stage) -> str:
    """Run `users disable`: the page is no longer live, and the user cannot sign in again."""
    with stage.open_dashboard(DISABLED) as dashboard:
        stage.server.command("users", "disable", DISABLED)
        ended_at = time.time()
        dashboard.go_to_sign_in()
        sign_in(dashboard.page, DISABLED)
        expect(dashboard.page.get_by_role("alert")).to_be_visible()
        dashboard.assert_truthful(dashboard.record, lost_at=ended_at, within=NOTICE_SECONDS)
        assert dashboard.record.connected_after(time.time()) is None
        return dashboard.record.states


def another_build(stage: Stage) -> str:
    """Restart the server with other scripts, which the page must then run."""
    with stage.open_dashboard() as dashboard:
        killed_at = stage.server.kill()
        stage.server.change_build('data-build="another"')
        back_at = stage.server.start()
        summary = dashboard.assert_recovered(back_at=back_at, lost_at=killed_at, within=NOTICE_SECONDS)
        expect(dashboard.banner).to_have_attribute("data-build", "another")
        return summary


def as_fresh_as_the_api(stage: Stage) -> str:
    """Check that each card of a connected page is at most a second behind the API, and never ahead of it.

    The server is killed once meanwhile.
    """
    with stage.open_dashboard() as dashboard, stage.server.client(OFFICE) as client:
        jobs = (dashboard.job_id, submit_clips(stage.account_store, "clips"))
        with Answers(partial(on_dashboard, client)) as answers:
            dashboard.page.wait_for_timeout(1000 * stage.durations.watched / 3)
            killed_at = stage.server.kill()
            stage.server.start()
            dashboard.page.wait_for_timeout(1000 * stage.durations.watched * 2 / 3)
            dashboard.assert_recovered(back_at=time.time(), lost_at=killed_at, within=NOTICE_SECONDS)
        judgement = judge(
            dashboard.record, answers.all, {job: status_changes(stage.account_store, job) for job in jobs}
        )
        assert not judgement.wrong, judgement.wrong
        assert judgement.values >= MIN_VALUES
        return f"{judgement}; {len(answers.all)} answers of the API"


STORIES: Mapping[str, Callable[[Stage], str]] = {
    "the session expires": session_expired,
    "the session is revoked": session_revoked,
    "the user is disabled": user_disabled,
    "the tab is hidden": tab_hidden,
    "the cards are as fresh as the API": as_fresh_as_the_api,
    "the laptop sleeps": laptop_asleep,
    "another build is started": another_build,
}


def all_stories(durations: Durations) -> dict[str, Callable[[Stage], str]]:
    """Return every story by its name. The build must change last."""
    killed = {f"the server is killed for {s:g} s": partial(server_killed, seconds=s) for s in durations.outages}
    frozen = {f"the connection is frozen for {s:g} s": partial(connection_frozen, seconds=s) for s in durations.freezes}
    return killed | frozen | dict(STORIES)


@contextmanager
def open_stage(browser: Browser, home: Path, durations: Durations) -> Iterator[Stage]:
    """Start a server with enough jobs on its dashboard to scroll."""
    server = RestartableServer(home, USERS, **durations.settings)
    with ExitStack() as stack:
        stack.callback(server.close)
        server.start()
        stage = Stage(server, browser, durations, stack.enter_context(server.client(OFFICE)))
        stack.callback(stage.close)
        for number in range(WAITING_JOBS):
            submit_external(stage.account_store, f"waiting-{number}")
        yield stage


def main(part: str = "") -> None:
    """Play the stories whose names contain `part`, with the real durations; exit with 1 if one failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        with open_stage(browser, Path(home), REAL) as stage:
            for name, story in all_stories(REAL).items():
                failed += part in name and not _passes(stage, name, story)
        browser.close()
    sys.exit(bool(failed))


def _passes(stage: Stage, name: str, story: Callable[[Stage], str]) -> bool:
    began = time.monotonic()
    try:
        print(f"{name}: {story(stage)} ({time.monotonic() - began:.0f} s)", flush=True)
    except AssertionError as error:
        print(f"{name} FAILED: {error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:2])
