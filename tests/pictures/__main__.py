"""The README's pictures: `python -m tests.pictures [name part]` takes them again, over real jobs and real clips."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from backend.clock import to_millis
from tests.support.browser import FLAGS, chromium_path, sign_in
from tests.support.clips import make_clip, truncated
from tests.support.databases import change
from tests.support.servers import Program, add_user, api, running
from tests.support.watchers import Watcher

HERE = Path(__file__).parent
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 780}
TALL = {"width": 1440, "height": 1100}
USER = "ana"
CHANNELS: tuple[dict[str, Any], ...] = (
    {"kind": "webhook", "name": "Asset register", "url": "http://127.0.0.1:9/dashboard", "secret": "of the picture"},
    {"kind": "apprise", "name": "Phone", "url": "ntfy://of-the-picture", "events": ["failed", "paused_itself"]},
)


def lists(media: Path) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """Return the video IDs and the probe's options of each job, by its name, and write the files to `media`."""
    short = [f"interview-{number:02}" for number in range(1, 13)]
    long = [f"lecture-{number:02}" for number in range(1, 31)]
    for video_id in short:
        make_clip(media / f"{video_id}.mp4", seconds=0.5)
    for video_id in long:
        make_clip(media / f"{video_id}.mp4", seconds=3, size=(320, 180))
    truncated(make_clip(media / "kJQP7kiw5Fk.mp4"))
    return {
        "shorts.csv": (short, {}),
        "nightly-encode.csv": ([*short, "kJQP7kiw5Fk", "dQw4w9WgXcQ"], {}),
        "vendor-drop-11-22.csv": ([f"vendor-{number}" for number in range(64)], {}),
        "lectures-spring.csv": (long, {"max_speed": 1}),
        "a-very-long-file-name-from-an-export-of-the-media-library-final-v2.csv": (long[::-1], {"max_speed": 1}),
        "tuesday.csv": (short, {}),
    }


def submit(program: Program, jwt: str, media: Path) -> None:
    """Submit the jobs in turn, each after the quick ones before it. Returns when the slow ones have reached 12 %."""
    planned = lists(media)
    with api(program, jwt) as client, Watcher(program, jwt) as watcher:
        for name, (video_ids, options) in planned.items():
            job = {"name": name, "video_ids": video_ids, "options": options}
            job_id = client.post("/api/jobs", json=job).json()["job_id"]
            if not options and name != "tuesday.csv":
                watcher.until_ended(job_id)
        slow = [name for name, (_, options) in planned.items() if options]
        watcher.until(
            lambda w: all(any(u["name"] == name and u["progress"] >= 12 for u in w.updates) for name in slow), "12 %"
        )


def add_channels(program: Program, jwt: str) -> None:
    """Add a webhook and an address of Apprise; nothing is sent to them."""
    with api(program, jwt) as client:
        for channel in CHANNELS:
            client.post("/api/channels", json=channel).raise_for_status()


def leave(data: Path) -> None:
    """Let the user have been away since the evening before."""
    at = to_millis(datetime.now(UTC) - timedelta(hours=14))
    change(data, "UPDATE notification_settings SET last_seen_at = :at, away_since = NULL", at=at)


def page_of(browser: Browser, program: Program, size: dict[str, int], scheme: str) -> Page:
    """Open the dashboard, signed in."""
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()  # type: ignore[arg-type]
    page.goto(f"{program.url}/login")
    sign_in(page, USER)
    until_live(page)
    return page


def until_live(page: Page) -> None:
    """Wait until the page is connected and, on a wide screen, shows the round trip to the server."""
    page.locator("[data-testid=connection-banner][data-state=connected]").wait_for()
    if page.viewport_size != PHONE:
        page.locator(".trip").wait_for()


def go_to_cards(page: Page) -> None:
    """Wait for the cards of the dashboard."""
    page.get_by_test_id("job-card").nth(3).wait_for()


def go_to_table(page: Page) -> None:
    """Switch to the table of jobs."""
    page.get_by_test_id("density").click()
    page.get_by_role("table", name="Jobs").wait_for()


def go_to_job(page: Page) -> None:
    """Go to the page of a job with errors."""
    page.get_by_role("link", name="nightly-encode.csv").first.click()
    page.get_by_test_id("job-cause").first.wait_for()
    until_live(page)


def go_to_statistics(page: Page) -> None:
    """Go to the statistics, at the outcomes of the last day."""
    page.goto(f"{page.url.split('?')[0]}stats?period=24h&tab=outcomes")
    page.get_by_role("tabpanel").locator("svg").wait_for()
    until_live(page)


def go_to_problems(page: Page) -> None:
    """Go to the causes over all jobs."""
    page.goto(f"{page.url.split('?')[0]}problems")
    page.get_by_role("button", name="Retry in").first.wait_for()
    until_live(page)


def tick_jobs(page: Page) -> None:
    """Tick some jobs of the dashboard, and show what can be done with them."""
    for name in ("nightly-encode.csv", "lectures-spring.csv", "tuesday.csv"):
        page.get_by_role("checkbox", name=f"Select {name}").check()
    page.get_by_test_id("bulk-bar").wait_for()


def open_bell(page: Page) -> None:
    """Open the menu of the bell."""
    page.get_by_test_id("notification").first.wait_for(state="attached")
    page.get_by_test_id("bell").click()
    page.get_by_role("dialog", name="Notifications").wait_for()


def show_away(page: Page) -> None:
    """Come back after a night."""
    page.get_by_test_id("away").wait_for()
    until_live(page)


def go_to_settings(page: Page) -> None:
    """Go to the settings of notifications."""
    page.goto(f"{page.url.split('?')[0]}notifications")
    page.get_by_test_id("channel").first.wait_for()
    until_live(page)


PICTURES: tuple[tuple[str, Callable[[Page], None], dict[str, int], str], ...] = (
    ("dashboard-light", go_to_cards, WIDE, "light"),
    ("dashboard-dark", go_to_cards, WIDE, "dark"),
    ("dashboard-phone", go_to_cards, PHONE, "light"),
    ("dashboard-table", go_to_table, WIDE, "light"),
    ("job-light", go_to_job, WIDE, "light"),
    ("job-phone", go_to_job, PHONE, "dark"),
    ("stats-light", go_to_statistics, WIDE, "light"),
    ("problems-light", go_to_problems, WIDE, "light"),
    ("problems-phone", go_to_problems, PHONE, "dark"),
    ("ticked-light", tick_jobs, WIDE, "light"),
    ("bell-light", open_bell, WIDE, "light"),
    ("notifications-light", go_to_settings, TALL, "light"),
    ("notifications-phone", go_to_settings, PHONE, "dark"),
    ("away-light", show_away, WIDE, "light"),
)


def main() -> None:
    """Take the pictures whose names have the given part, and print their paths."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        data, media = Path(home) / "data", Path(home) / "media"
        jwt = add_user(data, USER)
        path = chromium_path(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        with running(data, media_dir=media, max_running_jobs=2, notify_private_addresses="true") as program:
            submit(program, jwt, media)
            add_channels(program, jwt)
            for name, go, size, scheme in (picture for picture in PICTURES if part in picture[0]):
                if go is show_away:
                    page_of(browser, program, size, scheme).close()
                    leave(data)
                page = page_of(browser, program, size, scheme)
                go(page)
                page.screenshot(path=HERE / f"{name}.png")
                print(HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
