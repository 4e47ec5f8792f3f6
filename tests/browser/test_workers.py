"""Workers on PostgreSQL as people see them: jobs that wait for one, and the page of the machines over real rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import use_link
from tests.support.clips import make_clip
from tests.support.servers import Program, api, running, token
from tests.support.terminal import start_command
from tests.support.worker_programs import WorkerProgram, working

pytestmark = pytest.mark.postgresql_only

NONE = "Waiting for a worker: none is connected"
SAID_MS = 20_000  # nothing is said in the first 10 s of a server
SETTINGS: dict[str, Any] = {"max_running_videos": 0, "worker_lease_seconds": 3}
LOST_SECONDS = 20


@dataclass
class Team:
    """A server that works on no videos itself, an administrator's page, and workers that come and go."""

    program: Program
    media: Path
    page: Page
    client: httpx.Client
    jwt: str
    stack: ExitStack

    def submit(self, *video_ids: str) -> str:
        order = {"video_ids": video_ids, "name": "waits.csv"}
        return str(self.client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])

    def start_worker(self, name: str, slots: int = 2) -> WorkerProgram:
        return self.stack.enter_context(working(self.program.data_dir, name, slots=slots, media=self.media))

    def open(self, path: str) -> None:
        self.page.goto(self.program.url + path)
        expect(self.page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")

    def row(self, name: str) -> Locator:
        return self.page.locator(f'[data-machine="{name}"]')


@pytest.fixture
def team(browser: Browser, tmp_path: Path) -> Iterator[Team]:
    media, data = tmp_path / "media", tmp_path / "data"
    make_clip(media / "one.mp4", size=(160, 90))
    with running(data, media_dir=media, **SETTINGS) as program, ExitStack() as stack:
        jwt = token(data, "admin")
        client = stack.enter_context(api(program, jwt))
        page = stack.enter_context(closing(browser.new_context(viewport={"width": 1280, "height": 800}))).new_page()
        use_link(page, program.sign_in_link())
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
        yield Team(program, media, page, client, jwt, stack)


def test_a_job_without_a_worker_says_so_everywhere_until_there_is_one(team: Team) -> None:
    job_id = team.submit("one")
    team.open("/")
    card = team.page.locator(f'[data-job-id="{job_id}"]')
    expect(card).to_contain_text(NONE, timeout=SAID_MS)
    watch = start_command("watch", job_id, url=team.program.url, token=team.jwt)
    team.stack.callback(watch.end)
    assert NONE in watch.until_says("waits.csv")
    assert team.client.get(f"/api/jobs/{job_id}").json()["waiting"]["reason"] == NONE
    team.open(f"/jobs/{job_id}")
    expect(team.page.get_by_test_id("job-message")).to_contain_text(NONE)
    team.start_worker("alpha")
    expect(team.page.get_by_test_id("job-message")).to_contain_text("All done", timeout=30_000)
    watch.until_says("completed")
    team.page.get_by_test_id("video-row").get_by_role("button").click()
    expect(team.page.get_by_test_id("video-details")).to_contain_text("Ran on")
    expect(team.page.get_by_test_id("video-details")).to_contain_text("alpha")


def test_workers_appear_drain_and_leave_on_the_page(team: Team) -> None:
    team.open("/machines")
    expect(team.page.get_by_role("heading", name="No machine is connected")).to_be_visible()
    alpha, beta = team.start_worker("alpha"), team.start_worker("beta", slots=3)
    for name, slots in {"alpha": "2", "beta": "3"}.items():
        expect(team.row(name)).to_have_attribute("data-state", "working")
        expect(team.page.get_by_label(f"Slots of {name}")).to_have_value(slots)
    expect(team.page.get_by_text("2 machines, 0 of 5 slots taken.")).to_be_visible()
    team.page.get_by_role("button", name="Drain: alpha").click()
    expect(team.row("alpha")).to_have_attribute("data-state", "draining")
    team.page.get_by_label("Slots of beta").fill("1")
    team.page.get_by_label("Slots of beta").press("Enter")
    expect(team.row("beta")).to_contain_text("of 3")
    alpha.stop()
    expect(team.row("alpha")).to_have_count(0)
    beta.kill()
    expect(team.row("beta")).to_have_attribute("data-state", "not connected", timeout=LOST_SECONDS * 1000)


def test_a_drained_worker_gets_no_videos_and_another_one_does(team: Team) -> None:
    team.start_worker("alpha")
    team.open("/machines")
    team.page.get_by_role("button", name="Drain: alpha").click()
    expect(team.row("alpha")).to_have_attribute("data-state", "draining")
    job_id = team.submit("one")
    team.open(f"/jobs/{job_id}")
    expect(team.page.get_by_test_id("job-message")).to_contain_text(
        "Waiting for a worker: alpha is draining", timeout=SAID_MS
    )
    team.start_worker("beta")
    expect(team.page.get_by_test_id("job-message")).to_contain_text("All done", timeout=30_000)
    [video] = team.client.get(f"/api/jobs/{job_id}/videos").json()["items"]
    assert video["machine"] == "beta"
