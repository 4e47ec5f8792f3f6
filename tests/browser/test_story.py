"""The whole story as a person lives it: sign in, hand in a list, watch it, lose the server, find everything again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import sign_in
from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, running

SLOW = 60_000


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for number in range(4):
        make_clip(tmp_path / "media" / f"clip-{number}.mp4", seconds=1.5, size=(320, 180))
    return tmp_path / "media"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(SLOW)
    opened = context.new_page()
    opened.set_default_navigation_timeout(SLOW)
    yield opened
    context.close()


def open_lists(page: Page, program: Program, name: str) -> None:
    """The page Lists, by way of signing in."""
    page.goto(f"{program.url}/lists")
    sign_in(page, name)
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected", timeout=SLOW)


def submit(program: Program, jwt: str) -> str:
    """A job over the four clips at their own pace; its ID."""
    order = {"video_ids": [f"clip-{number}" for number in range(4)], "options": {"max_speed": 1}}
    with api(program, jwt) as client:
        return str(client.post("/api/jobs", json=order).json()["job_id"])


def bar(card: Locator) -> Locator:
    return card.get_by_role("progressbar")


def test_from_the_sign_in_to_history(page: Page, tmp_path: Path, media: Path) -> None:
    rows = (
        "video_id;title\n" + "".join(f"clip-{number};Number {number}\n" for number in range(4)) + "never-there;Gone\n"
    )
    (tmp_path / "nightly.csv").write_text(rows)
    add_user(tmp_path / "data", "ana")
    with running(tmp_path / "data", media_dir=media, max_running_videos=1) as program:
        open_lists(page, program, "ana")
        page.set_input_files("input[type=file]", tmp_path / "nightly.csv")
        expect(page.get_by_text("4 of 5 found")).to_be_visible()
        page.get_by_test_id("upload-start").click()
        page.get_by_role("link", name=re.compile("Dashboard")).first.click()
        card = page.get_by_test_id("job-card")
        expect(card).to_have_attribute("data-status", re.compile("processing|completed_with_errors"))
        expect(card).to_have_attribute("data-status", "completed_with_errors", timeout=SLOW)
        expect(card).to_contain_text("completed with errors")
        expect(card).to_contain_text("5 / 5")
        expect(card).to_contain_text("1 failed")
        expect(card).to_contain_text("No file for this ID in the media directory")
        expect(bar(card)).to_have_attribute("aria-valuenow", "100")
        page.get_by_role("link", name="History").first.click()
        page.get_by_test_id("job-search").fill("never-there")
        expect(page.get_by_test_id("history-row")).to_have_count(1)
        expect(page.get_by_test_id("history-row")).to_contain_text("nightly.csv")


def test_a_card_moves_in_every_open_tab_without_a_reload(page: Page, tmp_path: Path, media: Path) -> None:
    token = add_user(tmp_path / "data", "ana")
    with running(tmp_path / "data", media_dir=media, max_running_videos=1) as program:
        open_lists(page, program, "ana")
        page.goto(program.url)
        other = page.context.new_page()
        other.goto(program.url)
        expect(page.get_by_text("No active jobs")).to_be_visible()
        expect(page.get_by_label("at once, at most")).to_have_count(0)  # that is for administrators
        job_id = submit(program, token)
        for tab in (page, other):
            card = tab.get_by_test_id("job-card")
            expect(card).to_have_attribute("data-job-id", job_id)
            expect(bar(card)).not_to_have_attribute("aria-valuenow", "0")
            expect(card).to_contain_text(job_id[:8])
        for tab in (page, other):
            expect(tab.get_by_test_id("job-card")).to_have_attribute("data-status", "completed", timeout=SLOW)


def test_the_banner_is_true_while_the_server_is_gone_and_when_it_is_back(
    page: Page, tmp_path: Path, media: Path
) -> None:
    token = add_user(tmp_path / "data", "ana")
    short: dict[str, Any] = {"media_dir": media, "reconnect_delays_seconds": "0.5", "max_running_videos": 1}
    banner = page.get_by_test_id("connection-banner")
    with running(tmp_path / "data", **short) as program:
        open_lists(page, program, "ana")
        page.goto(program.url)
        expect(page.get_by_text("No active jobs")).to_be_visible()
        submit(program, token)
        expect(bar(page.get_by_test_id("job-card"))).not_to_have_attribute("aria-valuenow", "0")
        program.kill()
        expect(banner).to_have_attribute("data-state", re.compile("reconnecting|disconnected"), timeout=15_000)
    with running(tmp_path / "data", port=program.port, **short):
        retry = page.get_by_role("button", name=re.compile("Retry"))
        if banner.get_attribute("data-state") == "disconnected":
            retry.click()
        expect(banner).to_have_attribute("data-state", "connected", timeout=SLOW)
        expect(page.get_by_test_id("job-card")).to_have_attribute("data-status", "completed", timeout=SLOW)
