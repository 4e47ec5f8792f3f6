"""The demo by keyboard alone: run it, watch it, open the job, retry what failed, find it in History, come home."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.browser import complaints_of, use_link
from tests.support.keyboard import Keyboard
from tests.support.servers import running

DEMO_SECONDS = 60
ALL_AT_ONCE = 24


def test_the_keyboard_alone_is_enough_for_the_whole_demo(browser: Browser, tmp_path: Path) -> None:
    program = running(tmp_path / "data", max_running_videos=ALL_AT_ONCE)
    with program as server, closing(browser.new_context()) as context:
        page = context.new_page()
        context.set_default_timeout(20_000)
        complaints = complaints_of(page)
        use_link(page, server.sign_in_link())
        keyboard = Keyboard(page)
        keyboard.activate(page.get_by_role("button", name="Run the demo"))
        card = page.get_by_test_id("job-card")
        expect(card).to_have_attribute("data-status", "processing")
        expect(card).to_have_attribute("data-status", "completed_with_errors", timeout=1000 * DEMO_SECONDS)
        keyboard.activate(card.locator("a.name"))
        expect(page).to_have_url(re.compile("/jobs/"))
        keyboard.activate(page.get_by_role("button", name=re.compile("^Retry 3 failed")))
        expect(page.locator("main .identity")).to_contain_text("attempt 2")
        keyboard.activate(page.get_by_role("link", name="History").first)
        row = page.get_by_test_id("history-row")
        expect(row).to_have_attribute("data-status", "completed_with_errors", timeout=1000 * DEMO_SECONDS)
        keyboard.activate(row.get_by_role("link").first)
        expect(page).to_have_url(re.compile("/jobs/"))
        expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
        keyboard.press("g", "d")
        expect(card).to_have_attribute("data-status", "completed_with_errors")
        assert complaints == []
