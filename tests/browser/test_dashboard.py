"""Finding jobs on the dashboard: filters, search, order, the compact table, and what stands there when nothing does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, WebSocketRoute, expect

from backend.domain.words import sort_key
from tests.support.browser import resize, sign_in
from tests.support.dashboard_app import APP, Stage, a_job
from tests.support.servers import add_user, api, running, serving

KINDS: dict[str, dict[str, Any]] = {
    "one-failed": {"status": "failed", "failed": 20, "current_video": 20, "error": "The file is cut off"},
    "one-with-errors": {"status": "completed_with_errors", "failed": 1, "error": "No file for this ID"},
    "one-running": {"status": "processing", "created_ago": 1},
    "one-paused": {"status": "paused"},
    "one-pending": {"status": "pending", "name": "tuesday.csv"},
    "one-completed": {"status": "completed"},
    "one-cancelled": {"status": "cancelled"},
}
CHIPS = {"active": "3", "completed": "1", "with-errors": "1", "failed": "1", "cancelled": "1", "all": "7"}
VIDEO = "dQw4w9WgXcQ"
# what lies outside its card, but for texts that end in an ellipsis
STICKING_OUT = """cards => cards.flatMap((card) => {
    const { right, bottom } = card.getBoundingClientRect();
    const isOutside = (part) => {
        const box = part.getBoundingClientRect();
        return box.width && (box.right > right + 1 || box.bottom > bottom + 1);
    };
    const cut = ".sub, .now, .what, .name, .subject, [popover], dialog, .sr";
    return [...card.querySelectorAll("*")]
        .filter((part) => !part.children.length && !part.closest(cut) && isOutside(part))
        .map((part) => part.outerHTML);
})"""


def all_kinds(stage: Stage) -> None:
    stage.publish(*(a_job(job_id, **facts) for job_id, facts in KINDS.items()))


def chip(stage: Stage, name: str) -> Locator:
    return stage.page.get_by_test_id(f"filter-{name}")


def search(stage: Stage) -> Locator:
    return stage.page.get_by_test_id("job-search")


def expect_shown(stage: Stage, *job_ids: str) -> None:
    """Wait until exactly these jobs are shown, in this order."""
    expect(stage.cards).to_have_count(len(job_ids))
    for card, job_id in zip(stage.cards.all(), job_ids, strict=True):
        expect(card).to_have_attribute("data-job-id", job_id)


def query(stage: Stage) -> str:
    """Return the query of the address in the browser."""
    return str(stage.page.evaluate("location.search"))


@pytest.fixture
def table(stage: Stage) -> Iterator[Stage]:
    """Open the compact view, and clear the browser's storage afterwards."""
    stage.open("view=table")
    yield stage
    stage.page.evaluate("localStorage.clear()")


def test_each_filter_says_how_many_jobs_it_leaves(stage: Stage) -> None:
    stage.open()
    all_kinds(stage)
    for name, number in CHIPS.items():
        expect(chip(stage, name).locator("span")).to_have_text(number)
    stage.publish(a_job("one-running", status="failed", failed=20, current_video=20), removed=("one-cancelled",))
    expect(chip(stage, "active").locator("span")).to_have_text("2")
    expect(chip(stage, "failed").locator("span")).to_have_text("2")
    expect(chip(stage, "cancelled")).to_have_count(0)  # that one is rare


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("active", ("one-running", "one-paused", "one-pending")),
        ("completed", ("one-completed",)),
        ("with-errors", ("one-with-errors",)),
        ("failed", ("one-failed",)),
    ],
)
def test_a_filter_shows_its_jobs_and_is_in_the_address(stage: Stage, name: str, shown: tuple[str, ...]) -> None:
    stage.open()
    all_kinds(stage)
    chip(stage, name).click()
    expect(chip(stage, name)).to_have_attribute("aria-pressed", "true")
    expect_shown(stage, *shown)
    assert query(stage) == f"?show={name}"
    stage.page.reload()
    expect_shown(stage, *shown)
    chip(stage, "all").click()
    expect(stage.cards).to_have_count(len(KINDS))
    assert query(stage) == ""


def test_a_job_appears_when_it_matches_the_filter_and_leaves_when_not(stage: Stage) -> None:
    stage.open("show=failed")
    all_kinds(stage)
    expect_shown(stage, "one-failed")
    stage.publish(
        a_job("one-running", created_ago=1, status="failed", failed=20, current_video=20),
        a_job("one-failed", status="pending"),
    )
    expect_shown(stage, "one-running")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("TUES", ("one-pending",)),
        ("cut off", ("one-failed",)),
        ("one-c", ("one-completed", "one-cancelled")),
        ("ne-c", ()),
        (VIDEO[:4], ("one-paused",)),
    ],
)
def test_a_search_finds_by_name_error_job_and_video(stage: Stage, words: str, shown: tuple[str, ...]) -> None:
    stage.open()
    all_kinds(stage)
    stage.publish(ids_with_video={VIDEO[:4]: ["one-paused"]})
    search(stage).fill(words)
    expect_shown(stage, *shown)
    expect(stage.page.get_by_test_id("hits")).to_have_text(f"{len(shown)} of 7")
    expect(stage.page.get_by_test_id("no-match")).to_have_count(0 if shown else 1)
    expect(stage.page).to_have_url(re.compile(f"[?&]q={re.escape(words).replace(' ', '[+]')}$".replace("\\[+]", "[+]")))
    stage.page.reload()
    expect(search(stage)).to_have_value(words)
    expect_shown(stage, *shown)


def test_a_search_without_a_match_names_it_and_offers_a_way_on(stage: Stage) -> None:
    stage.open()
    all_kinds(stage)
    chip(stage, "failed").click()
    search(stage).fill("nobody & nothing")
    nothing = stage.page.get_by_test_id("no-match")
    expect(nothing).to_contain_text("Nothing matches “nobody & nothing”")
    expect(nothing).to_contain_text("among failed jobs")
    expect(nothing.get_by_role("link", name="Search History")).to_have_attribute(
        "href", "/history?q=nobody%20%26%20nothing"
    )
    nothing.get_by_role("button", name="Show all 7").click()
    expect(stage.cards).to_have_count(len(KINDS))
    expect(search(stage)).to_have_value("")
    assert query(stage) == ""


def test_a_long_search_text_is_cut_and_wrapped(stage: Stage) -> None:
    resize(stage.page, 360)
    stage.open(f"q={'x' * 600}")
    stage.publish(a_job("one"))
    expect(stage.page.get_by_test_id("no-match")).to_contain_text("x" * 500)
    expect(search(stage)).to_have_value("x" * 500)
    assert stage.page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("view", ["cards", "table"])
def test_the_place_of_a_leaving_job_stays_empty_under_the_pointer(stage: Stage, view: str) -> None:
    stage.open(f"view={view}")
    stage.publish(a_job("first", created_ago=1), a_job("second", created_ago=9, name="b.csv"))
    stage.card("first").hover()
    at = stage.card("second").bounding_box()
    stage.publish(removed=("first",))
    expect(stage.page.get_by_text("list.csv has left the dashboard")).to_be_visible()
    assert stage.order() == ["second"]
    assert stage.card("second").bounding_box() == at
    stage.page.mouse.move(1, 1)
    expect(stage.page.get_by_text("has left the dashboard")).to_have_count(0)
    assert stage.card("second").bounding_box() != at


def test_going_back_restores_the_scroll_position(stage: Stage) -> None:
    stage.open()
    stage.publish(*(a_job(f"job-{number:03}", created_ago=number) for number in range(100)))
    stage.cards.first.wait_for()
    stage.page.evaluate("scrollTo(0, 1500)")
    stage.page.goto(f"{stage.server.url}/other")
    stage.page.evaluate("scrollTo(0, 0)")
    stage.page.go_back()
    stage.page.wait_for_function("scrollY > 0")
    assert stage.page.evaluate("scrollY") == 1500


def test_a_filter_without_jobs_is_no_empty_dashboard(stage: Stage) -> None:
    stage.open("show=failed")
    stage.publish(a_job("one"))
    expect(stage.page.get_by_test_id("no-match")).to_contain_text("No failed jobs here")
    expect(stage.page.get_by_text("No active jobs")).to_have_count(0)


@pytest.mark.parametrize(
    ("words", "order"),
    [("Newest first", ["c", "b", "a"]), ("Oldest first", ["a", "b", "c"]), ("By name", ["b", "a", "c"])],
)
def test_the_order_can_be_chosen_and_is_in_the_address(stage: Stage, words: str, order: list[str]) -> None:
    stage.open()
    stage.publish(
        a_job("a", created_ago=30, name="list 10.csv"),
        a_job("b", created_ago=20, name="list 9.csv", status="failed", failed=20),
        a_job("c", created_ago=10, name="Other.csv"),
    )
    expect_shown(stage, "b", "c", "a")
    stage.page.get_by_test_id("job-order").select_option(words)
    expect_shown(stage, *order)
    stage.page.reload()
    expect_shown(stage, *order)


def test_a_search_finds_names_and_errors_in_any_case_and_spelling(stage: Stage) -> None:
    stage.open()
    stage.publish(
        a_job("upper", name="ÜBUNG"),
        a_job("apart", name="U\u0308bung"),
        a_job("cyrillic", name="Червоний"),
        a_job("error", name="x", status="failed", failed=20, error="Die ÜBUNG fehlt"),
    )
    for words in ("übung", "ÜBUNG", "u\u0308bung"):
        search(stage).fill(words)
        expect(stage.cards).to_have_count(3)
        expect(stage.card("cyrillic")).to_have_count(0)
    search(stage).fill("ЧЕРВОН")
    expect_shown(stage, "cyrillic")


def test_names_have_the_order_that_the_server_gives_them(stage: Stage) -> None:
    stage.open("sort=name")
    names = ["Zebra", "Übung 10", "u\u0308bung 9", "Червоний", "apple", "🎬 clip", "\ufffd"]
    stage.publish(*(a_job(f"job-{place}", name=name) for place, name in enumerate(names)))
    expect_shown(stage, *(f"job-{names.index(name)}" for name in sorted(names, key=sort_key)))


def test_on_a_phone_the_chosen_filter_is_in_sight(stage: Stage) -> None:
    resize(stage.page, 360)
    stage.open()
    all_kinds(stage)
    expect(chip(stage, "all")).to_be_in_viewport(ratio=1)
    chip(stage, "active").click()
    expect(chip(stage, "active")).to_be_in_viewport(ratio=1)


def test_unknown_words_in_an_address_count_as_not_given(stage: Stage) -> None:
    stage.open("show=everything&sort=colour&view=poster")
    all_kinds(stage)
    expect(stage.cards).to_have_count(len(KINDS))
    expect(chip(stage, "all")).to_have_attribute("aria-pressed", "true")


def test_filters_and_search_work_while_the_server_is_away(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=60")
    all_kinds(stage)
    stage.cards.first.wait_for()
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    chip(stage, "completed").click()
    expect_shown(stage, "one-completed")
    search(stage).fill("never")
    expect(stage.page.get_by_test_id("no-match")).to_contain_text("after reconnecting")


def test_a_view_is_the_same_after_a_restart(losing_stage: Stage) -> None:
    stage = losing_stage
    stage.open("delays=0.5&attempts=99&show=failed&q=cut")
    all_kinds(stage)
    expect_shown(stage, "one-failed")
    stage.server.kill()
    expect(stage.banner).to_have_attribute("data-state", "reconnecting")
    with serving(APP, port=stage.server.port):
        expect(stage.banner).to_have_attribute("data-state", "connected")
        all_kinds(stage)
        expect_shown(stage, "one-failed")
        expect(search(stage)).to_have_value("cut")


def test_a_stalled_job_says_so_beside_its_status_and_comes_first(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("new"), a_job("still", created_ago=900, updated_ago=250, started_ago=900))
    expect_shown(stage, "new", "still")
    stage.publish(stalled_ago={"still": 250})
    expect_shown(stage, "still", "new")
    card = stage.card("still")
    expect(card).to_have_attribute("data-status", "processing")
    expect(card.locator(".status")).to_have_text(["stalled", "processing"])
    expect(card).to_contain_text("No progress for 4 min")
    expect(stage.page.get_by_text("2 jobs running, 1 needs attention.")).to_be_visible()


def test_the_table_says_what_the_cards_say_in_rows_of_the_same_height(table: Stage) -> None:
    facts = {"current_video": 9, "failed": 1, "progress": 45, "video_id": VIDEO, "running": 1, "doing": "decoding"}
    table.publish(a_job("one", **facts), a_job("other", **KINDS["one-failed"], created_ago=3))
    row = table.page.get_by_role("table", name="Jobs").get_by_role("row").nth(2)
    expect(row).to_have_attribute("data-job-id", "one")
    for words in ("processing", "list.csv", "9 / 20", "1 failed", "45 %", VIDEO, "decoding"):
        expect(row).to_contain_text(words)
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "9 of 20, 1 failed")
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    expect(table.card("other").locator(".badc").first).to_have_text(re.compile("Error: The file is cut off"))
    heights = table.cards.evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert heights == [56, 56]
    table.publish(a_job("one", **{**facts, "progress": 50}))
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")


def test_two_hundred_rows_are_all_there_and_few_are_drawn(table: Stage) -> None:
    table.publish(*(a_job(f"job-{number:03}", created_ago=number) for number in range(200)))
    expect(table.page.get_by_role("table")).to_have_attribute("aria-rowcount", "201")
    assert table.cards.count() < 60
    table.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(table.card("job-199")).to_be_visible()
    expect(table.card("job-199")).to_have_attribute("aria-rowindex", "201")
    expect(table.page.get_by_role("columnheader", name="Progress")).to_be_visible()


def test_the_density_is_remembered_by_the_browser(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job("one"))
    density = stage.page.get_by_test_id("density")
    density.click()
    expect(stage.page.get_by_role("table", name="Jobs")).to_be_visible()
    assert query(stage) == "?view=table"
    stage.page.goto(stage.server.url)
    expect(density).to_have_attribute("aria-pressed", "true")
    assert query(stage) == "?view=table"
    density.click()
    expect(stage.page.get_by_role("table")).to_have_count(0)
    assert query(stage) == ""
    stage.page.goto(stage.server.url)
    expect(density).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("view", ["cards", "table"])
def test_j_and_k_move_through_all_jobs_even_undrawn_ones(stage: Stage, view: str) -> None:
    stage.open(f"view={view}")
    stage.publish(*(a_job(f"job-{number:03}", created_ago=number) for number in range(100)))
    expect(stage.cards.first).to_be_visible()
    for _ in range(90):
        stage.page.keyboard.press("j")
    focused = stage.page.locator(".name:focus")
    expect(focused).to_have_attribute("href", "/jobs/job-089")
    stage.page.keyboard.press("k")
    expect(focused).to_have_attribute("href", "/jobs/job-088")
    expect(focused).to_be_in_viewport()


@pytest.mark.parametrize("view", ["cards", "table"])
def test_a_long_name_and_all_figures_stay_inside_at_every_width(stage: Stage, view: str) -> None:
    stage.open(f"view={view}")
    figures = {"total_videos": 100_000, "current_video": 98_765, "failed": 12_345, "video_id": "v" * 128}
    stage.publish(
        a_job("long", name="n" * 200, **figures, doing="decoding", running=9, error="e" * 500),
        a_job("red", name="n " * 100, status="failed", error="e" * 500, failed=20, current_video=20),
    )
    stage.publish(stalled_ago={"long": 4000})
    expect(stage.card("long")).to_contain_text("stalled")
    for width in (360, 480, 700, 1023, 1100, 1440, 2560):
        resize(stage.page, width, 900)
        assert stage.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        sticking_out = stage.cards.evaluate_all(STICKING_OUT)
        assert sticking_out == [], width


def test_the_id_of_a_job_and_of_its_video_can_be_copied(stage: Stage) -> None:
    stage.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    stage.open()
    stage.publish(a_job(video_id=VIDEO, current_video=1, running=1))
    for place, label, value in ((".sub", "Copy the job ID", a_job()["id"]), (".now", "Copy the video ID", VIDEO)):
        copy = stage.cards.locator(place).get_by_role("button")
        expect(copy).to_have_accessible_name(label)
        copy.click()
        expect(copy).to_have_accessible_name("Copied")
        assert stage.page.evaluate("navigator.clipboard.readText()") == value


def test_the_bar_moves_within_300_ms_and_at_once_where_motion_is_reduced(stage: Stage) -> None:
    stage.open()
    stage.publish(a_job(current_video=9))
    part = stage.cards.locator(".bar .ok")
    expect(part).to_have_css("transition-duration", "0.3s")
    expect(part).to_have_css("transition-timing-function", "linear")
    stage.page.emulate_media(reduced_motion="reduce")
    expect(part).to_have_css("transition-duration", "1e-05s")
    stage.page.emulate_media(reduced_motion="no-preference")


def test_changes_of_state_and_quarters_are_announced_together_at_most_every_ten_seconds(stage: Stage) -> None:
    stage.page.clock.install()
    stage.open()
    stage.publish(*(a_job(name, name=name, progress=10) for name in ("a.csv", "b.csv", "c.csv")))
    expect(stage.cards).to_have_count(3)
    voice = stage.page.get_by_test_id("live-region")
    stage.publish(a_job("a.csv", name="a.csv", status="completed"), a_job("b.csv", name="b.csv", progress=26))
    expect(voice).to_have_text("a.csv: completed. b.csv: 25 %.")
    stage.publish(a_job("b.csv", name="b.csv", progress=49), a_job("c.csv", name="c.csv", progress=76))
    stage.publish(a_job("c.csv", name="c.csv", status="failed", failed=20, current_video=20))
    expect(stage.card("c.csv")).to_have_attribute("data-status", "failed")
    stage.page.clock.run_for(7000)
    expect(voice).not_to_contain_text("c.csv")
    stage.page.clock.run_for(4000)
    expect(voice).to_contain_text("c.csv: failed.")
    expect(voice).not_to_contain_text("75 %")


def test_a_page_that_has_no_jobs_yet_says_that_it_is_loading(stage: Stage) -> None:
    def hold(route: WebSocketRoute) -> None:
        """Nobody answers."""

    stage.page.route_web_socket(re.compile("_nicegui_ws"), hold)
    stage.page.goto(stage.server.url)
    expect(stage.page.get_by_text("Loading the jobs…")).to_be_visible()
    expect(stage.page.get_by_text("No active jobs")).to_have_count(0)
    expect(stage.page.get_by_test_id("job-search")).to_have_count(0)


def test_an_empty_dashboard_invites_at_first_and_says_later_that_all_is_done(browser: Browser, tmp_path: Path) -> None:
    jwt = add_user(tmp_path, "ana")
    with running(tmp_path) as program, closing(browser.new_context()) as context, api(program, jwt) as client:
        page = context.new_page()
        page.goto(f"{program.url}/login")
        sign_in(page, "ana")
        empty = page.get_by_test_id("empty")
        expect(empty).to_contain_text("No active jobs")
        expect(empty).to_contain_text("A CSV of video IDs becomes a job")
        expect(empty.get_by_role("button", name="Run the demo")).to_be_visible()
        expect(empty.get_by_role("link", name="Upload a CSV")).to_be_visible()
        expect(page.get_by_text("Signed in as ana. You see only your own jobs. 0 jobs in History")).to_be_visible()
        order = {"video_ids": ["absent"], "name": "one.csv"}
        job_id = client.post("/api/jobs", json=order).raise_for_status().json()["job_id"]
        expect(page.get_by_test_id("job-card")).to_have_attribute("data-status", "failed")
        expect(page.get_by_text("1 job in History")).to_be_visible()
        client.post(f"/api/jobs/{job_id}/dismiss").raise_for_status()
        expect(empty).to_contain_text("No active jobs")
        expect(empty).to_contain_text("All done")
        expect(page.get_by_text("1 job in History")).to_be_visible()


def test_a_search_on_an_empty_dashboard_is_an_empty_dashboard(stage: Stage) -> None:
    stage.open("q=anything&show=failed")
    expect(stage.page.get_by_text("No active jobs")).to_be_visible()
    expect(stage.page.get_by_test_id("no-match")).to_have_count(0)


def test_the_number_of_matches_is_announced_after_the_servers_answer(stage: Stage) -> None:
    stage.open()
    all_kinds(stage)
    stage.publish(ids_with_video={VIDEO: ["one-paused"]})
    voice = stage.page.get_by_test_id("live-region")
    search(stage).fill(VIDEO)
    expect(voice).to_have_text("1 job.")
    chip(stage, "active").click()
    expect(voice.locator("p")).to_have_text(["1 job.", "1 job."])
    assert "0 jobs" not in voice.inner_text()


def test_a_stalled_job_is_announced_once(stage: Stage) -> None:
    stage.page.clock.install()
    stage.open()
    stage.publish(a_job("one", name="one.csv", updated_ago=250, started_ago=900), stalled_ago={"one": 250})
    expect(stage.card("one")).to_contain_text("stalled")
    stage.page.evaluate("window.socket.disconnect().connect()")
    stage.publish(a_job("one", name="one.csv", updated_ago=250, started_ago=900, progress=30), stalled_ago={"one": 250})
    expect(stage.card("one")).to_contain_text("30")
    stage.page.clock.run_for(11_000)
    expect(stage.page.get_by_test_id("live-region")).not_to_contain_text("stalled")
