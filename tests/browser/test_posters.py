"""The picture of a video in a real browser: it follows the newest result, and stays nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import use_link
from tests.support.clips import make_clip
from tests.support.servers import Program, api, running, token

WIDE, TALL = (160, 90), (90, 160)
ENDED = "completed"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    make_clip(tmp_path / "media" / "one.mp4", seconds=0.3, size=WIDE)
    return tmp_path / "media"


@pytest.fixture
def program(tmp_path: Path, media: Path) -> Iterator[Program]:
    with running(tmp_path / "data", media_dir=media) as program:
        yield program


def shown_width(page: Page) -> int:
    """Open the row of the only video, and return the width of its picture in pixels."""
    expect(page.locator("main .head .status")).to_have_text(ENDED)
    row = page.get_by_test_id("job-videos").get_by_role("button", name="one")
    if row.get_attribute("aria-expanded") != "true":
        row.click()
    poster = page.get_by_test_id("video-details").get_by_role("img")
    expect(poster).to_have_js_property("complete", True)
    return int(poster.evaluate("async picture => { await picture.decode(); return picture.naturalWidth; }"))


def test_a_retried_video_shows_its_new_poster(browser: Browser, program: Program, media: Path) -> None:
    page = browser.new_page()
    use_link(page, program.sign_in_link())
    with api(program, token(program.data_dir, "admin")) as client:
        job_id = client.post("/api/jobs", json={"video_ids": ["one"], "name": "pictures"}).json()["job_id"]
        page.goto(f"{program.url}/jobs/{job_id}?show=all")
        assert shown_width(page) == WIDE[0]
        poster = page.get_by_test_id("video-details").get_by_role("img")
        first = str(poster.get_attribute("src"))
        make_clip(media / "one.mp4", seconds=0.3, size=TALL)
        client.post(f"/api/jobs/{job_id}/retry", json={"only": "all"}).raise_for_status()
        expect(poster).not_to_have_attribute("src", first)
        assert shown_width(page) == TALL[0]
        page.context.clear_cookies()
        address = poster.evaluate("picture => picture.src")
        status = page.evaluate(
            "address => fetch(address, {cache: 'force-cache'}).then(answer => answer.status)", address
        )
        assert status == 401
