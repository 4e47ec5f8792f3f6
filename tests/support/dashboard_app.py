"""The dashboard of `tests.support.components_app`, whose jobs a test invents."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.browser import complaints_of
from tests.support.servers import ServerProcess, serving

APP = "tests.support.components_app"


@dataclass
class Stage:
    """The page of `components_app`, and its jobs."""

    server: ServerProcess
    page: Page
    complaints: list[str]

    def open(self, query: str = "") -> None:
        self.page.goto(f"{self.server.url}/?{query}")
        expect(self.banner).to_have_attribute("data-state", "connected")

    def publish(self, *jobs: dict[str, Any], removed: tuple[str, ...] = (), **known: object) -> int:
        """Publish jobs and removals, and return the number of readers.

        `known` are other facts: `stalled_ago` (job -> seconds), `ids_with_video` (searched text -> job IDs), and those
        of `PostedJobs.forecast`.
        """
        body = json.dumps({"jobs": jobs, "removed": removed, **known}).encode()
        order = urllib.request.Request(f"{self.server.url}/control", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(order, timeout=10) as answer:
            return int(json.load(answer)["readers"])

    def wait_for_no_readers(self) -> None:
        urllib.request.urlopen(f"{self.server.url}/deserted", timeout=5).close()

    def note_states(self) -> None:
        """Record the states of the banner from now on."""
        self.banner.evaluate(
            """banner => {
                window.states = [];
                new MutationObserver(() => window.states.push(banner.dataset.state))
                    .observe(banner, { attributeFilter: ["data-state"] });
            }"""
        )

    def noted_states(self) -> list[str]:
        states: list[str] = self.page.evaluate("window.states")
        return states

    def come_online(self) -> None:
        self.page.evaluate("dispatchEvent(new Event('online'))")

    @property
    def banner(self) -> Locator:
        return self.page.get_by_test_id("connection-banner")

    @property
    def cards(self) -> Locator:
        return self.page.get_by_test_id("job-card")

    def card(self, job_id: str) -> Locator:
        return self.page.locator(f'[data-job-id="{job_id}"]')

    def first_action(self, job_id: str) -> Locator:
        return self.card(job_id).locator(".act-first")

    def opener(self, job_id: str) -> Locator:
        return self.card(job_id).get_by_role("button", name="More actions")

    @property
    def menu(self) -> Locator:
        return self.page.get_by_role("menu")

    @property
    def question(self) -> Locator:
        return self.page.get_by_role("dialog")

    def requests(self) -> list[list[str]]:
        """Return the actions that were requested during the test, each as a job and an action."""
        with urllib.request.urlopen(f"{self.server.url}/requests", timeout=10) as answer:
            acts: list[list[str]] = json.load(answer)
        return acts

    def expect_requests(self, *acts: list[str]) -> None:
        deadline = time.monotonic() + 10
        while self.requests() != [*acts]:
            assert time.monotonic() < deadline, self.requests()
            time.sleep(0.02)

    def order(self) -> list[str]:
        found: list[str] = self.cards.evaluate_all("cards => cards.map(card => card.dataset.jobId)")
        return found


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ServerProcess]:
    with serving(APP) as server:
        yield server


@pytest.fixture
def server(shared_server: ServerProcess) -> ServerProcess:
    """Return the shared server without jobs."""
    urllib.request.urlopen(urllib.request.Request(f"{shared_server.url}/clear", method="POST"), timeout=10).close()
    return shared_server


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """Run a server that the test may kill."""
    with serving(APP) as server:
        yield server


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Open one browser context for all pages, so that the framework's files are loaded once."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    context.set_default_timeout(15_000)
    yield context
    context.close()


def on_stage(context: BrowserContext, server: ServerProcess) -> Iterator[Stage]:
    page = context.new_page()
    yield Stage(server, page, complaints_of(page))
    page.close()


@pytest.fixture
def stage(context: BrowserContext, server: ServerProcess) -> Iterator[Stage]:
    """Open a page whose browser console must stay quiet."""
    for stage in on_stage(context, server):
        yield stage
        assert stage.complaints == []


@pytest.fixture
def losing_stage(context: BrowserContext, own_server: ServerProcess) -> Iterator[Stage]:
    """Open a page that may lose its server. The browser's console reports that."""
    yield from on_stage(context, own_server)


def a_job(job_id: str = "8f3a21c9-aaaa-4bbb-8ccc-000000000001", **facts: Any) -> dict[str, Any]:
    return {"id": job_id, **facts}
