"""The grid and the banner in a real browser, with jobs made up by the test."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, WebSocketRoute, expect

from tests.support.browser import resize
from tests.support.dashboard_app import APP, Stage, a_job, on_stage
from tests.support.servers import serving

MARKUP = "<img src=x onerror=document.title='broken'><b>bold</b>{{ 7 * 7 }}" + "x" * 200
STATUSES = ("failed", "completed_with_errors", "processing", "paused", "pending", "completed", "cancelled")


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_a_word_and_an_icon_on_a_card_of_the_same_height(stage: Stage, status: str) -> None:
    stage.open()
    stage.publish(a_job(status=status, failed=2 if "fail" in status or "err" in status else 0, error="Cut off"))
    card = stage.cards
    expect(card).to_have_attribute("data-status", status)
    expect(card.locator(".status")).to_have_text(status.replace("_", " "))
    expect(card.locator(".status .i")).to_have_attribute("data-icon", re.compile(r"[a-z_]+"))
    assert card.evaluate("card => [card.offsetHeight, card.scrollHeight <= card.clientHeight]") == [254, True]


@pytest.mark.parametrize("view", ["", "view=table"])
def test_a_job_that_waits_for_a_machine_says_why_until_it_goes_on(stage: Stage, view: str) -> None:
    why = "Waiting for a worker: none has the processor probe"
    stage.open(view)
    stage.publish(a_job(current_video=3, failed=1, error="Cut off", video_id="abc", waiting_reason=why))
    expect(stage.cards).to_contain_text(why)
    expect(stage.cards.get_by_text(why)).to_be_visible()
    expect(stage.cards.get_by_text("abc")).to_have_count(0)
    stage.publish(a_job(current_video=3, failed=1, error="Cut off", video_id="abc", running=1))
    expect(stage.cards.get_by_text("abc")).to_be_visible()
    expect(stage.cards.get_by_text(why)).to_have_count(0)


def test_a_card_shows_and_announces_its_progress(stage: Stage) -> None:
    stage.open()
    stage.publish(
        a_job(
            total_videos=4096,
            current_video=2908,
            failed=9,
            running=1,
            progress=71,
            video_id="dQw4w9WgXcQ",
            name="a.csv",
        )
    )
    bar = stage.cards.get_by_role("progressbar", name="a.csv")
    expect(bar).to_have_attribute("aria-valuenow", "71")
    expect(bar).to_have_attribute("aria-valuetext", "2,908 of 4,096, 9 failed")
    for words in ("71%", "2,908 / 4,096", "2,899 ok · 9 failed", "8f3a21c9", "dQw4w9WgXcQ"):
        expect(stage.cards).to_contain_text(words)
    expect(stage.cards.get_by_text("8f3a21c9", exact=True)).to_have_attribute(
        "title", "8f3a21c9-aaaa-4bbb-8ccc-000000000001"
    )
    expect(stage.cards.get_by_text("dQw4w9WgXcQ")).to_have_attribute("title", "dQw4w9WgXcQ")


def test_the_bar_shows_the_shares_of_ok_failed_and_running(stage: Stage) -> None:
    stage.page.emulate_media(reduced_motion="reduce")
    stage.open()
    stage.publish(a_job(total_videos=10, current_video=5, failed=1, running=2))
    stage.cards.wait_for()
    parts = stage.cards.get_by_role("progressbar").locator("i")
    shares = parts.evaluate_all(
        "parts => parts.map(part => [part.className, Math.round(100 * part.offsetWidth / part.parentNode.offsetWidth)])"
    )
    assert shares == [["ok", 40], ["bad", 10], ["run", 20]]


def test_a_long_name_with_markup_is_text_and_stays_inside_on_a_phone(stage: Stage) -> None:
    resize(stage.page, 360)
    stage.open()
    stage.publish(a_job(name=MARKUP, error=MARKUP, failed=1, video_id="v" * 128, owner=MARKUP))
    stage.publish(a_job("third", name=MARKUP, status="paused", pause_reason=MARKUP, resumed=3, attempt=99))
    stage.publish(a_job("fourth", name=MARKUP, requested="pause", running=1000, resumed=3, finished_ago=0))
    stage.publish(a_job("second", name=MARKUP, status="failed", failed=1, error=MARKUP, finished_ago=0))
    expect(stage.cards).to_have_count(4)
    expect(stage.cards.last.locator(".name")).to_have_text(MARKUP)
    assert stage.page.locator(".card img, .card b b").count() == 0
    assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert stage.cards.evaluate_all("cards => cards.every(card => card.scrollWidth <= card.clientWidth)")
    assert stage.cards.evaluate_all("cards => cards.map(card => card.scrollHeight <= card.clientHeight)") == [True] * 4


@pytest.mark.parametrize(("width", "columns"), [(360, 1), (639, 1), (640, 2), (1023, 2), (1024, 3), (1920, 3)])
def test_cards_are_in_one_two_or_three_columns(stage: Stage, width: int, columns: int) -> None:
    resize(stage.page, width, 800)
    stage.open()
    stage.publish(*(a_job(f"job-{number}") for number in range(4)))
    expect(stage.cards).to_have_count(4)
    tops = stage.cards.evaluate_all("cards => cards.map(card => Math.round(card.getBoundingClientRect().top))")
    assert tops.count(tops[0]) == columns
    assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_jobs_that_need_attention_come_first_then_the_newest(stage: Stage) -> None:
    stage.open()
    stage.publish(*(a_job(status, status=status, failed=1, total_videos=20) for status in reversed(STATUSES)))
    stage.publish(a_job("newer", status="failed", failed=1), a_job("older", status="failed", failed=1, created_ago=60))
    expect(stage.cards).to_have_count(9)
    assert stage.order()[:4] == ["newer", "failed", "older", "completed_with_errors"]
    assert stage.order()[3:] == list(STATUSES[1:])


def test_cards_do_not_jump_under_the_pointer_and_settle_when_it_leaves(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("first", created_ago=1), a_job("second", created_ago=9))
    stage.card("first").hover()
    stage.publish(a_job("second", created_ago=9, status="failed", failed=1))
    expect(stage.card("second")).to_have_attribute("data-status", "failed")
    assert stage.order() == ["first", "second"]
    stage.page.mouse.move(1, 1)
    expect(stage.cards.first).to_have_attribute("data-job-id", "second")


def test_cards_do_not_jump_while_the_keyboard_is_in_them(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("first", created_ago=1), a_job("second", created_ago=9))
    stage.cards.first.wait_for()
    while not stage.page.evaluate("document.activeElement.closest('.card') !== null"):
        stage.page.keyboard.press("Tab")
    stage.publish(a_job("second", created_ago=9, status="failed", failed=1))
    expect(stage.card("second")).to_have_attribute("data-status", "failed")
    assert stage.order() == ["first", "second"]
    assert stage.page.evaluate("document.activeElement.closest('.card').dataset.jobId") == "first"


def test_a_removed_job_leaves_and_the_last_one_leaves_the_empty_dashboard(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"), a_job("two"))
    expect(stage.cards).to_have_count(2)
    stage.publish(removed=("one",))
    expect(stage.cards).to_have_count(1)
    stage.publish(removed=("two",))
    expect(stage.page.get_by_text("No active jobs")).to_be_visible()
    stage.publish(a_job("three"))
    expect(stage.page.get_by_text("No active jobs")).not_to_be_visible()
    expect(stage.card("three")).to_be_visible()


def test_a_page_that_missed_a_change_ends_with_the_true_state(stage: Stage) -> None:
    lost: list[str] = []

    def lose_the_word_of_two(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        server.on_message(lambda frame: lose_once(route, frame))

    def lose_once(route: WebSocketRoute, frame: str | bytes) -> None:
        if not lost and '"removed":["two"]' in str(frame):
            lost.append(str(frame))
        else:
            route.send(frame)

    stage.page.route_web_socket(re.compile("_nicegui_ws"), lose_the_word_of_two)
    stage.open()
    stage.publish(a_job("one"), a_job("two"))
    expect(stage.cards).to_have_count(2)
    stage.publish(a_job("one", progress=90), removed=("two",))
    stage.publish(a_job("three"))
    expect(stage.card("three")).to_be_visible()
    expect(stage.card("one").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "90")
    expect(stage.card("two")).to_have_count(0)
    assert len(lost) == 1


def test_a_second_tab_shows_what_the_first_one_shows(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", progress=12))
    other = stage.page.context.new_page()
    other.goto(stage.server.url)
    expect(other.get_by_test_id("job-card").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "12")
    stage.publish(a_job("one", progress=13))
    for page in (stage.page, other):
        expect(page.get_by_test_id("job-card").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "13")


def test_jobs_are_read_once_for_all_tabs_until_the_last_is_closed(losing_stage: Stage) -> None:
    stage = losing_stage
    assert stage.publish() == 0
    stage.open()
    other = stage.page.context.new_page()
    other.goto(stage.server.url)
    for page in (stage.page, other):
        expect(page.get_by_text("No active jobs")).to_be_visible()
    assert stage.publish() == 1
    other.close()
    stage.page.goto("about:blank")
    stage.wait_for_no_readers()
    assert stage.publish() == 0


def test_a_thousand_jobs_are_all_there_and_few_are_drawn(stage: Stage) -> None:
    resize(stage.page, 1280, 3000)
    stage.open()
    stage.publish(*(a_job(f"job-{number:04}", created_ago=number) for number in range(1000)))
    expect(stage.cards.first).to_have_attribute("aria-setsize", "1000")
    assert stage.cards.count() < 60
    seen: set[str] = set()
    for _ in range(60):
        seen |= set(stage.order())
        if len(seen) == 1000:
            break
        stage.page.mouse.wheel(0, 2800)
        stage.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(seen) == 1000
    expect(stage.card("job-0999")).to_have_attribute("aria-posinset", "1000")
    stage.publish(a_job("job-0999", created_ago=999, progress=55))
    expect(stage.card("job-0999").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "55")
    stage.publish(removed=tuple(f"job-{number:04}" for number in range(999)))
    expect(stage.cards).to_have_count(1)


def test_the_heading_says_when_all_will_be_done_by_the_readers_clock(stage: Stage) -> None:
    stage.open()
    moments = [f"{datetime.now(UTC).date()}T{time}" for time in ("04:40:00Z", "03:50:00Z", "06:10:00Z")]
    stage.publish(a_job("one"), done=moments)
    shown = [stage.page.evaluate("at => new Date(at).toLocaleTimeString('en-GB').slice(0, 5)", at) for at in moments]
    expect(stage.page.get_by_test_id("all-done")).to_have_text(
        re.compile(rf"All done about .*{shown[0]} \(.*{shown[1]} to .*{shown[2]}\)\.")
    )


def test_a_waiting_job_says_its_place_and_when_it_begins(stage: Stage) -> None:
    stage.open()
    at = f"{datetime.now(UTC).date()}T12:40:00Z"
    words = "4 of 4 jobs run; nightly.csv is before it"
    stage.publish(a_job("waits", status="pending"), a_job("free", status="pending"), waits={"waits": (3, words, at)})
    shown = stage.page.evaluate("at => new Date(at).toLocaleTimeString('en-GB').slice(0, 5)", at)
    expect(stage.card("waits")).to_contain_text(f"3rd in line: {words}")
    expect(stage.card("waits")).to_contain_text(re.compile(f"about .*{shown}"))
    expect(stage.card("free")).to_contain_text("Waiting to start")
    stage.publish(waits={"waits": (1, "4 of 4 jobs run", None)})
    expect(stage.card("waits")).to_contain_text("1st in line: 4 of 4 jobs run")
    expect(stage.card("waits")).not_to_contain_text("about")


def test_the_heading_has_the_rate_of_the_last_minutes(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"))
    expect(stage.cards).to_have_count(1)
    expect(stage.page.get_by_test_id("pulse")).to_have_count(0)
    stage.publish(rates=[0] * 20 + [12] * 10)
    pulse = stage.page.get_by_test_id("pulse")
    expect(pulse).to_contain_text("12.0 / min")
    expect(pulse).to_contain_text("videos, last 30 min")
    expect(pulse).to_have_attribute("title", re.compile("minutes: 0, .*12$"))
    assert pulse.locator("path.line").get_attribute("d").count("L") == 29  # type: ignore[union-attr]
    resize(stage.page, 360, 700)
    expect(pulse).to_be_hidden()


def test_a_card_says_what_is_slower_than_usual(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"), a_job("two"))
    about = stage.card("one").locator(".sub .rest")
    expect(about).to_contain_text("20 videos")
    expect(about).not_to_contain_text("usual")
    stage.publish(unusual={"one": "slower"})
    expect(about).to_contain_text("slower than usual")
    expect(about).to_have_attribute("title", re.compile(r"slower than usual \(1 h 20 min to 1 h 40 min\)"))
    expect(stage.card("two").locator(".sub .rest")).not_to_contain_text("usual")


def test_the_tab_and_the_headline_carry_the_state(stage: Stage) -> None:
    stage.open()
    expect(stage.page).to_have_title("Dashboard")
    stage.publish(a_job("one", progress=42), a_job("two", status="failed", failed=20))
    expect(stage.page).to_have_title("(42 %) Dashboard")
    expect(stage.page.get_by_text("1 job running, 1 needs attention.")).to_be_visible()
    stage.publish(a_job("one", status="completed", progress=100), removed=("two",))
    expect(stage.page).to_have_title("✓ Dashboard")


def test_a_finished_job_offers_its_export_and_counts_down(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", status="completed", current_video=20, progress=100, finished_ago=58, updated_ago=58))
    expect(stage.cards.get_by_role("link", name="Export CSV")).to_have_attribute("href", "/api/jobs/one/export.csv")
    expect(stage.cards).to_contain_text(re.compile(r"leaves in 4:0\d|leaves in 3:5\d"))
    shown = stage.cards.locator(".foot").inner_text()
    expect(stage.cards.locator(".foot")).not_to_have_text(shown, use_inner_text=True)


def test_a_running_job_can_be_opened_and_shows_its_error_in_red_with_a_word(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", failed=1, current_video=3, error="File is cut off", video_id="abc"))
    expect(stage.cards.get_by_role("link", name="list.csv")).to_have_attribute("href", "/jobs/one")
    error = stage.cards.locator(".trouble")
    expect(error).to_have_text("Earlier error: File is cut off")
    expect(error).to_have_css("color", "rgb(192, 32, 54)")
    expect(error.locator(".i")).to_be_visible()


OFFERED: dict[str, dict[str, Any]] = {
    "Pause": {"status": "processing"},
    "Resume": {"status": "paused"},
    "Retry 20 failed": {"status": "failed", "current_video": 20, "failed": 20},
    "Retry 9 failed": {"status": "completed_with_errors", "current_video": 20, "failed": 9},
    "Export CSV": {"status": "completed", "current_video": 20},
    "Open": {"status": "pending"},
    "Retry 15": {"status": "cancelled", "current_video": 5},
    "Pausing after 2 videos…": {"status": "processing", "requested": "pause", "running": 2},
    "Cancelling…": {"status": "processing", "requested": "cancel"},
}


def test_a_card_offers_the_action_that_fits_its_status(stage: Stage) -> None:
    stage.open()
    stage.publish(*(a_job(words, **facts) for words, facts in OFFERED.items()))
    for words, facts in OFFERED.items():
        expect(stage.first_action(words)).to_have_text(words)
        name = words if "requested" in facts else f"{words}: list.csv"
        expect(stage.first_action(words)).to_have_accessible_name(name)


def test_a_double_click_is_one_request_and_a_pending_one_is_not_repeated(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"))
    stage.first_action("one").dblclick()
    stage.expect_requests(["one", "pause"])
    stage.publish(a_job("one", requested="pause", running=1))
    expect(stage.first_action("one")).to_have_text("Pausing after 1 video…")
    expect(stage.first_action("one")).to_have_attribute("aria-disabled", "true")
    stage.first_action("one").click(force=True)
    stage.opener("one").click()
    stage.menu.get_by_role("menuitem", name="Resume").click()
    stage.expect_requests(["one", "pause"], ["one", "resume"])


def test_the_menu_works_by_keyboard_and_returns_the_focus(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", status="completed", current_video=20, name="list.csv"))
    stage.opener("one").focus()
    stage.page.keyboard.press("Enter")
    entries = stage.menu.get_by_role("menuitem")
    expect(entries).to_have_text(["Open", "Retry all 20…", "Keep", "Dismiss", "Delete…"])
    expect(entries.first).to_be_focused()
    stage.page.keyboard.press("ArrowUp")
    expect(entries.last).to_be_focused()
    stage.page.keyboard.press("Home")
    stage.page.keyboard.press("ArrowDown")
    expect(entries.nth(1)).to_be_focused()
    stage.page.keyboard.press("Escape")
    expect(stage.menu).not_to_be_visible()
    expect(stage.opener("one")).to_be_focused()
    stage.page.keyboard.press("ArrowDown")
    expect(entries.first).to_be_focused()
    for _ in range(2):
        stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("Enter")
    stage.expect_requests(["one", "keep"])


@pytest.mark.parametrize("width", [360, 1280])
def test_the_menu_covers_everything_and_a_click_outside_closes_it(stage: Stage, width: int) -> None:
    resize(stage.page, width, 500)
    stage.open()
    stage.publish(*(a_job(f"job-{number}", created_ago=number) for number in range(5)))
    stage.opener("job-4").click()
    expect(stage.menu.get_by_role("menuitem").first).to_be_focused()
    covered = """menu => [...menu.querySelectorAll('[role=menuitem]')].filter(entry => {
        const { left, top, width, height } = entry.getBoundingClientRect();
        const middle = document.elementFromPoint(left + width / 2, top + height / 2);
        return !entry.contains(middle) || height < (innerWidth < 640 ? 44 : 36);
    }).length"""
    assert stage.menu.evaluate(covered) == 0
    assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    stage.page.mouse.click(4, 100)
    expect(stage.menu).not_to_be_visible()
    assert stage.requests() == []


def test_cancel_asks_first_and_says_exactly_what_it_affects(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", total_videos=500, current_video=214, running=2))
    stage.opener("one").click()
    stage.menu.get_by_role("menuitem", name="Cancel").click()
    expect(stage.question).to_contain_text("2 running videos are stopped, 286 videos are not done; the 214 results")
    stage.publish(a_job("one", total_videos=500, current_video=215, running=1))
    expect(stage.question).to_contain_text("1 running video is stopped, 285 videos are not done; the 215 results")
    stage.page.keyboard.press("Escape")
    expect(stage.question).not_to_be_visible()
    expect(stage.opener("one")).to_be_focused()
    assert stage.requests() == []
    stage.opener("one").click()
    stage.menu.get_by_role("menuitem", name="Cancel").click()
    stage.question.get_by_role("button", name="Cancel the job").click()
    stage.expect_requests(["one", "cancel"])


def test_a_question_about_a_job_that_has_changed_says_so(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"))
    stage.opener("one").click()
    stage.menu.get_by_role("menuitem", name="Cancel").click()
    stage.publish(a_job("one", status="completed", current_video=20))
    expect(stage.question).to_contain_text("This is no longer possible")
    stage.question.get_by_role("button", name="Close").click()
    expect(stage.question).not_to_be_visible()
    assert stage.requests() == []


def test_a_job_that_paused_itself_shows_the_reason_in_red_and_comes_first(stage: Stage) -> None:
    stage.open()
    stage.publish(
        a_job("broken", status="failed", failed=1, created_ago=9),
        a_job("one", status="paused", pause_reason="The disk is full."),
    )
    expect(stage.cards.first).to_have_attribute("data-job-id", "one")
    reason = stage.card("one").locator(".now")
    expect(reason).to_contain_text("Paused by itself: The disk is full.")
    expect(reason).to_have_css("color", "rgb(192, 32, 54)")
    expect(reason.locator(".i")).to_be_visible()
    expect(stage.page.get_by_text("2 jobs need attention.")).to_be_visible()


def test_a_card_says_where_its_job_resumed_and_what_it_waits_for(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", total_videos=500, current_video=220, resumed=214, running=1, attempt=2))
    expect(stage.card("one")).to_contain_text("attempt 2 · resumed at 214/500 after a restart")
    stage.publish(a_job("two", running=1, video_id="dQw4w9WgXcQ", doing="trying again in 4 s"))
    expect(stage.card("two").locator(".now")).to_contain_text("trying again in 4 s")


def test_a_card_is_kept_and_dismissed_beside_its_countdown(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", status="completed", current_video=20, finished_ago=58, updated_ago=58))
    stage.card("one").get_by_role("button", name="Keep: list.csv").click()
    stage.expect_requests(["one", "keep"])
    stage.publish(a_job("one", status="completed", current_video=20, finished_ago=58, pinned=True))
    expect(stage.card("one").locator(".leaving")).to_contain_text("kept")
    stage.card("one").get_by_role("button", name="Dismiss: list.csv").click()
    stage.expect_requests(["one", "keep"], ["one", "dismiss"])


def test_cards_do_not_move_while_a_menu_or_a_dialog_is_open(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("first", created_ago=1), a_job("second", created_ago=9))
    stage.opener("first").click()
    stage.page.mouse.move(1, 1)
    stage.publish(a_job("second", created_ago=9, status="failed", failed=1))
    expect(stage.card("second")).to_have_attribute("data-status", "failed")
    assert stage.order() == ["first", "second"]
    stage.menu.get_by_role("menuitem", name="Cancel").focus()
    stage.page.keyboard.press("Enter")
    expect(stage.question).to_be_visible()
    stage.publish(a_job("third", created_ago=20, status="failed", failed=1))
    expect(stage.card("third")).to_be_attached()
    assert stage.order() == ["first", "second", "third"]


def test_demo_jobs_have_a_badge_and_only_administrators_see_owners(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one", source="demo", owner="bob"))
    expect(stage.cards.get_by_text("demo", exact=True)).to_be_visible()
    expect(stage.cards.get_by_text("bob")).to_have_count(0)
    stage.open("admin=1")
    expect(stage.cards.get_by_text("bob")).to_be_visible()


def test_the_theme_goes_from_auto_to_light_to_dark_and_is_remembered(stage: Stage) -> None:
    stage.page.emulate_media(color_scheme="dark")
    stage.open()
    root = stage.page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    stage.page.get_by_role("button", name="Theme: auto").click()
    expect(root).to_have_attribute("data-theme", "light")
    stage.page.reload()
    stage.page.get_by_role("button", name="Theme: light").click()
    expect(root).to_have_attribute("data-theme", "dark")
    stage.page.get_by_role("button", name="Theme: dark").click()
    expect(stage.page.get_by_role("button", name="Theme: auto")).to_be_visible()


def test_the_account_menu_says_who_is_signed_in_and_signs_out_by_post(stage: Stage) -> None:
    stage.open()
    stage.page.get_by_label("Account: alice").click()
    expect(stage.page.get_by_text("Signed in as alice")).to_be_visible()
    form = stage.page.locator("form", has=stage.page.get_by_role("button", name="Sign out"))
    assert form.evaluate("form => [form.method, form.getAttribute('action')]") == ["post", "/logout"]
    stage.page.keyboard.press("Escape")
    expect(stage.page.get_by_text("Signed in as alice")).not_to_be_visible()


def test_the_banner_says_connecting_until_the_server_answers(stage: Stage) -> None:
    stage.page.route_web_socket(re.compile("_nicegui_ws"), lambda route: None)
    stage.page.goto(stage.server.url)
    expect(stage.banner).to_have_attribute("data-state", "connecting")
    expect(stage.banner).to_contain_text("Connecting")


def test_the_banner_says_connected_quietly_in_the_corner(stage: Stage) -> None:
    stage.open()
    expect(stage.banner.get_by_text("Connected").first).to_be_visible()
    box = stage.banner.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 56


def test_a_killed_server_is_noticed_and_nothing_looks_fresh(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open()
    stage.publish(a_job("one"))
    stage.cards.wait_for()
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    expect(stage.banner).to_contain_text(re.compile(r"Reconnecting, attempt 1 of 10, in \d s"))
    expect(stage.banner).to_be_visible()
    expect(stage.banner.get_by_role("button", name="Retry now")).to_be_visible()
    expect(stage.cards).to_contain_text(re.compile(r"\d+ s old"))
    expect(stage.page.locator("#popup")).not_to_be_visible()


def test_actions_wait_for_the_connection_and_say_so(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open()
    stage.publish(a_job("one"))
    stage.cards.wait_for()
    stage.server.kill()
    for action in (stage.first_action("one"), stage.opener("one")):
        expect(action).to_have_attribute("aria-disabled", "true")
        expect(action).to_have_attribute("title", "Not connected: available again after reconnecting")
        action.click(force=True)
    expect(stage.menu).not_to_be_visible()
    stage.cards.get_by_role("link", name="list.csv").click(force=True)
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    assert stage.page.url.startswith(f"{stage.server.url}/?")


def test_the_page_comes_back_by_itself_after_a_restart(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=0.5&attempts=600")
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    with serving(APP, port=stage.server.port):
        expect(stage.banner).to_have_attribute("data-state", "connected")
        stage.publish(a_job("one"))
        expect(stage.cards).to_have_count(1)


def test_after_the_last_attempt_the_banner_says_disconnected_until_a_retry(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=0.1&attempts=2")
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "disconnected")
    expect(stage.banner).to_contain_text("Disconnected after 2 attempts.")
    with serving(APP, port=stage.server.port):
        stage.banner.get_by_role("button", name="Retry").click()
        expect(stage.banner).to_have_attribute("data-state", "connected")


@pytest.mark.parametrize("how", ["button", "online"])
def test_a_manual_retry_or_a_returning_network_does_not_wait(losing_stage: Stage, how: str) -> None:
    stage = losing_stage
    stage.open("delays=600")
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    with serving(APP, port=stage.server.port):
        if how == "button":
            stage.banner.get_by_role("button", name="Retry now").click()
        else:
            stage.come_online()
        expect(stage.banner).to_have_attribute("data-state", "connected")


def test_a_silent_server_counts_as_lost_after_the_limit(context: BrowserContext) -> None:
    with serving(APP, "2") as server:
        for stage in on_stage(context, server):
            stage.open("delays=600")
            os.kill(server.pid, signal.SIGSTOP)
            began = time.monotonic()
            expect(stage.banner).to_have_attribute("data-state", "reconnecting")
            assert time.monotonic() - began < 3
            os.kill(server.pid, signal.SIGCONT)
            stage.banner.get_by_role("button", name="Retry now").click()
            expect(stage.banner).to_have_attribute("data-state", "connected")


class PageConnection:
    """The connection between a page and its server. A test can cut it, or hold back the frames that contain a text."""

    def __init__(self, page: Page) -> None:
        self.held: list[tuple[WebSocketRoute, str | bytes]] = []
        self.held_text: str | None = None
        self._route: WebSocketRoute | None = None
        page.route_web_socket(re.compile("_nicegui_ws"), self._connect)

    def cut(self) -> None:
        assert self._route is not None
        self._route.close()

    def release(self) -> None:
        self.held_text = None
        for route, message in self.held:
            route.send(message)

    def _connect(self, route: WebSocketRoute) -> None:
        self._route = route
        server = route.connect_to_server()
        server.on_message(lambda message: self._pass(route, message))

    def _pass(self, route: WebSocketRoute, message: str | bytes) -> None:
        if self.held_text and self.held_text in str(message):
            self.held.append((route, message))
        else:
            route.send(message)


def test_the_banner_briefly_says_how_many_updates_were_applied(stage: Stage) -> None:
    connection = PageConnection(stage.page)
    stage.publish(a_job("same"), a_job("changed"), a_job("gone"))
    stage.open("delays=600")
    connection.cut()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    stage.publish(a_job("changed", status="paused"), a_job("new"), removed=("gone",))
    stage.come_online()
    expect(stage.banner).to_contain_text("Back, 3 updates applied")
    expect(stage.banner).to_have_attribute("data-state", "connected")
    expect(stage.banner.locator(".pill")).to_have_text("Connected")


def test_a_page_without_cards_is_back_without_a_number(stage: Stage) -> None:
    connection = PageConnection(stage.page)
    stage.page.goto(f"{stage.server.url}/other?delays=600")
    expect(stage.banner).to_have_attribute("data-state", "connected")
    connection.cut()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    stage.come_online()
    expect(stage.banner.locator(".pill")).to_have_text("Back")


def test_the_banner_says_connected_only_when_the_cards_are_current(stage: Stage) -> None:
    connection = PageConnection(stage.page)
    stage.publish(a_job("one"))
    stage.open("delays=600")
    connection.cut()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    connection.held_text = '["jobs"'
    stage.come_online()
    while not connection.held:
        stage.page.wait_for_timeout(20)
    assert stage.banner.get_attribute("data-state") == "reconnecting"
    expect(stage.banner).to_contain_text("trying now")
    connection.release()
    expect(stage.banner).to_have_attribute("data-state", "connected")


def test_a_page_that_slept_does_not_show_old_values_as_new(stage: Stage) -> None:
    stage.page.clock.install()
    stage.publish(a_job("one"))
    stage.open()
    stage.note_states()
    stage.page.clock.fast_forward("01:30")
    expect(stage.banner).to_contain_text("Back, 0 updates applied")
    assert stage.noted_states() == ["reconnecting", "connected"]


def test_a_page_out_of_the_browsers_cache_fetches_the_servers_state(stage: Stage) -> None:
    stage.open("delays=0.2")
    stage.note_states()
    stage.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(stage.banner).to_contain_text("Back, 0 updates applied")
    assert stage.noted_states() == ["reconnecting", "connected"]


def test_a_control_that_needs_the_server_says_so_to_the_keyboard_too(stage: Stage) -> None:
    connection = PageConnection(stage.page)
    stage.page.goto(f"{stage.server.url}/other?delays=600")
    expect(stage.banner).to_have_attribute("data-state", "connected")
    connection.cut()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    field, home = stage.page.get_by_label("videos at once"), stage.page.get_by_role("link", name="Dashboard").first
    for control in (field, home):
        expect(control).to_have_attribute("title", "Not connected: available again after reconnecting")
    field.focus()
    stage.page.keyboard.type("8")
    home.focus()
    stage.page.keyboard.press("Enter")
    expect(stage.banner).to_contain_text("Not connected: available again after reconnecting")
    stage.come_online()
    expect(stage.banner).to_have_attribute("data-state", "connected")
    for control in (field, home):
        expect(control).not_to_have_attribute("title", re.compile("."))
        expect(control).not_to_have_attribute("aria-disabled", "true")
    expect(field).to_have_value("4")
    assert stage.requests() == []


def test_an_open_dialog_can_be_closed_but_not_confirmed_without_the_server(stage: Stage) -> None:
    connection = PageConnection(stage.page)
    stage.publish(a_job("one"))
    stage.open("delays=600")
    stage.opener("one").click()
    stage.menu.get_by_role("menuitem", name="Cancel").click()
    connection.cut()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    yes, no = stage.question.get_by_role("button").last, stage.question.get_by_role("button").first
    expect(yes).to_have_attribute("aria-disabled", "true")
    yes.press("Enter")
    expect(stage.question).to_be_visible()
    no.press("Enter")
    expect(stage.question).not_to_be_visible()
    stage.come_online()
    expect(stage.banner).to_have_attribute("data-state", "connected")
    expect(stage.opener("one")).to_have_attribute("title", "More actions")
    assert stage.requests() == []


def test_a_server_that_forgot_the_page_reloads_it_at_the_same_place(losing_stage: Stage) -> None:
    stage = losing_stage
    jobs = [a_job(f"job-{n}") for n in range(30)]
    stage.publish(*jobs)
    stage.open("delays=600")
    expect(stage.cards).to_have_count(30)
    stage.page.evaluate("scrollTo(0, 700)")
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    with serving(APP, port=stage.server.port):
        stage.publish(*jobs)
        stage.come_online()
        expect(stage.banner).to_contain_text("Back, 30 updates applied")
        assert stage.page.url == f"{stage.server.url}/?delays=600"
        assert abs(int(stage.page.evaluate("scrollY")) - 700) < 5


STRANGERS: tuple[dict[str, Any], ...] = (
    {"status": 200, "content_type": "text/html", "body": "<h1>Welcome to the hotel</h1>"},
    {"status": 200, "json": {"portal": True}},
    {"status": 401, "content_type": "text/html", "body": "Sign in to the proxy"},
    {"status": 429, "json": {"detail": "Too many requests."}},
    {"status": 500, "body": "Internal Server Error"},
    {"status": 503, "body": "Service Unavailable"},
)


def fulfil(answer: dict[str, Any], route: Route) -> None:
    route.fulfill(**answer)


def test_another_program_on_the_port_is_not_mistaken_for_the_server(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=0.01&attempts=1")
    stage.page.evaluate("window.isSamePage = true")
    stage.server.kill()
    for answer in STRANGERS:
        expect(stage.banner).to_contain_text("Disconnected after 1 attempt.")
        stage.page.route("**/api/auth/me", partial(fulfil, answer))
        with stage.page.expect_response("**/api/auth/me"):
            stage.banner.get_by_role("button", name="Retry").click()
    expect(stage.banner).to_contain_text("Disconnected after 1 attempt.")
    assert stage.page.evaluate("window.isSamePage")


def test_an_ended_session_leads_to_the_sign_in_and_back_to_this_address(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=0.01")
    stage.page.route("**/api/auth/me", lambda route: route.fulfill(status=401, json={"detail": "Sign in."}))
    stage.server.kill()
    expect(stage.banner).to_contain_text("Disconnected: your session has ended.")
    way = stage.banner.get_by_role("link", name="Sign in")
    expect(way).to_have_attribute("href", "/login?next=%2F%3Fdelays%3D0.01")


def never_answering(socket: WebSocketRoute) -> None:
    """Take the place of a server that does not answer."""


def test_the_first_cards_are_there_before_the_connection(stage: Stage) -> None:
    stage.publish(*(a_job(f"job-{number:03}", created_ago=number) for number in range(100)))
    stage.page.route_web_socket(re.compile("socket.io"), never_answering)
    stage.page.goto(stage.server.url)
    expect(stage.cards).to_have_count(30)
    assert stage.order() == [f"job-{number:03}" for number in range(30)]
    expect(stage.page.get_by_test_id("filter-all")).to_have_text("All100")
    expect(stage.banner).to_have_attribute("data-state", "connecting")


def test_what_is_scrolled_to_shows_its_newest_progress(stage: Stage) -> None:
    """Of thousands of changes only those on the screen are sent at once; the others follow the scroll position."""
    names = [f"job-{number:03}" for number in range(600)]
    stage.publish(*(a_job(name, created_ago=number, current_video=1) for number, name in enumerate(names)))
    stage.open()
    expect(stage.card("job-000")).to_contain_text("1 / 20")
    stage.publish(*(a_job(name, created_ago=number, current_video=2) for number, name in enumerate(names)))
    stage.publish(*(a_job(name, created_ago=number, current_video=3) for number, name in enumerate(names)))
    expect(stage.card("job-000")).to_contain_text("3 / 20")
    stage.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(stage.card("job-599")).to_contain_text("3 / 20", timeout=1_000)
    stage.publish(a_job("job-599", created_ago=599, current_video=4))
    expect(stage.card("job-599")).to_contain_text("4 / 20", timeout=1_000)
