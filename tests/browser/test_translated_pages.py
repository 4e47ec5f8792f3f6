"""Pages that the browser translates: every text is put into <font>, as Chrome's translator does, and still changes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.support.browser import complaints_of, use_link
from tests.support.clips import make_clip
from tests.support.servers import Program, api, running, token

VIDEOS = tuple(f"clip-{number:02}" for number in range(12))
TRANSLATOR = """
(() => {
  const wrap = (text) => {
    const outer = document.createElement("font"), inner = document.createElement("font");
    outer.append(inner);
    WRAP_IT;
  };
  const skipped = "script, style, textarea, select, font, [translate=no]";
  const translate = () => {
    if (!document.body) return;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) found.push(walker.currentNode);
    for (const text of found) if (text.data.trim() && !text.parentElement.closest(skipped)) wrap(text);
  };
  const observe = () => {
    const all = { childList: true, characterData: true, subtree: true };
    new MutationObserver(translate).observe(document, all);
    translate();
  };
  observe();
})();
"""
WAYS = {
    "the text is replaced": "inner.textContent = text.data; text.replaceWith(outer)",
    "the text is moved": "text.parentNode.insertBefore(outer, text); inner.append(text)",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("translated")
    make_clip(home / "media" / "one.mp4", seconds=0.3)
    with running(home / "data", media_dir=home / "media") as program:
        yield program


@pytest.fixture(scope="module")
def client(program: Program) -> Iterator[httpx.Client]:
    with api(program, token(program.data_dir, "admin")) as client:
        yield client


@pytest.fixture(scope="module")
def signed_in(browser: Browser, program: Program) -> StorageState:
    """Return the cookies of the administrator: the link works once."""
    context = browser.new_context()
    use_link(context.new_page(), program.sign_in_link())
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def page(request: pytest.FixtureRequest, browser: Browser, signed_in: StorageState) -> Iterator[Page]:
    """Yield a signed-in page that is translated from its first text on."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, storage_state=signed_in)
    context.set_default_timeout(15_000)
    page = context.new_page()
    context.add_init_script(TRANSLATOR.replace("WRAP_IT", request.param))
    yield page
    context.close()


def new_job(client: httpx.Client, name: str) -> str:
    order = {"video_ids": VIDEOS, "name": name, "processor": "external"}
    return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def report(client: httpx.Client, job_id: str, n: int, **facts: object) -> None:
    client.post(f"/api/jobs/{job_id}/progress", json={"n": n, **facts}).raise_for_status()


def work_through(client: httpx.Client, job_id: str) -> None:
    """Report every video of the job; one of them failed."""
    report(client, job_id, 1, status="processing", message="Resizing")
    for number, name in enumerate(VIDEOS, start=1):
        facts = {"error": "It is cut off."} if number == 5 else {}
        report(client, job_id, 1 + number, video_id=name, current_video=number, **facts)
    report(client, job_id, 99, status="completed_with_errors")


def is_translated(page: Page) -> bool:
    return bool(page.locator("main font").count())


def test_a_translated_dashboard_ends_right(page: Page, program: Program, client: httpx.Client) -> None:
    complaints = complaints_of(page)
    job_id = new_job(client, "translated")
    page.goto(program.url)
    card = page.locator(f'[data-testid=job-card][data-job-id="{job_id}"]')
    expect(card.locator(".count")).to_have_text("0 / 12")
    report(client, job_id, 0, status="processing", current_video=0)
    expect(card.locator(".badges")).to_have_text("processing")
    work_through(client, job_id)
    expect(card.locator(".badges")).to_have_text("completed with errors")
    expect(card.locator(".count")).to_have_text("12 / 12")
    expect(card.locator(".pct")).to_have_text("100%")
    expect(card.locator(".facts")).to_contain_text("1 failed")
    expect(page.get_by_test_id("filter-all").locator("span")).to_have_text(re.compile(r"^\d+$"))
    assert is_translated(page)
    assert complaints == []


def test_a_translated_job_page_ends_right(page: Page, program: Program, client: httpx.Client) -> None:
    complaints = complaints_of(page)
    job_id = new_job(client, "translated page")
    page.goto(f"{program.url}/jobs/{job_id}?show=all")
    rows = page.get_by_test_id("video-row")
    expect(rows).to_have_count(12)
    work_through(client, job_id)
    header = page.get_by_test_id("job-header")
    expect(header).to_contain_text("12 / 12")
    expect(header.locator(".figures > div").nth(0)).to_contain_text("100 %")
    expect(header.locator(".figures > div").nth(3).locator("b")).to_have_text("1")
    expect(page.locator("main .head .status")).to_have_text("completed with errors")
    expect(rows.locator(".state").filter(has_text="pending")).to_have_count(0)
    expect(rows.locator(".state").filter(has_text="failed")).to_have_count(1)
    expect(page.get_by_test_id("heat-strip").locator(".legend")).not_to_contain_text("pending")
    assert is_translated(page)
    assert complaints == []


def test_a_translated_history_and_lists_page_change(page: Page, program: Program, client: httpx.Client) -> None:
    complaints = complaints_of(page)
    job_id = new_job(client, "translated history")
    page.goto(f"{program.url}/history")
    row = page.get_by_role("row").filter(has_text="translated history").first
    expect(row).to_contain_text("pending")
    work_through(client, job_id)
    page.get_by_role("searchbox").fill("translated history")
    page.reload()
    expect(page.get_by_role("row").filter(has_text="translated history").first).to_contain_text("completed with errors")
    page.goto(f"{program.url}/lists")
    for name, count in (("first.csv", 2), ("second.csv", 3)):
        rows = "".join(f"clip-{number}\n" for number in range(count))
        page.set_input_files("input[type=file]", {"name": name, "mimeType": "text/csv", "buffer": rows.encode()})
        expect(page.get_by_test_id("upload-preview")).to_contain_text(name)
        expect(page.get_by_test_id("upload-preview")).to_contain_text(f"{count} ready")
    assert is_translated(page)
    assert complaints == []


def test_ids_and_names_are_not_translated(page: Page, program: Program, client: httpx.Client) -> None:
    job_id = new_job(client, "never translated")
    page.goto(f"{program.url}/jobs/{job_id}?show=all")
    expect(page.get_by_test_id("video-row")).to_have_count(12)
    assert is_translated(page)
    assert page.get_by_test_id("job-id").locator("font").count() == 0
    assert page.locator(".videos .mono font").count() == 0
    page.goto(program.url)
    card = page.locator(f'[data-testid=job-card][data-job-id="{job_id}"]')
    expect(card.locator(".count")).to_have_text("0 / 12")
    assert card.locator(".id font, .name font").count() == 0


def test_codecs_are_not_translated(page: Page, program: Program, client: httpx.Client) -> None:
    order = {"video_ids": ["one"], "name": "codecs"}
    job_id = client.post("/api/jobs", json=order).raise_for_status().json()["job_id"]
    page.goto(f"{program.url}/jobs/{job_id}?show=all")
    row, details = page.get_by_test_id("video-row"), page.get_by_test_id("video-details")
    expect(row.get_by_text("h264")).to_be_visible()
    row.get_by_role("button", name="one").click()
    expect(details.locator("dd").filter(has_text="h264")).to_be_visible()
    assert is_translated(page)
    assert row.get_by_text("h264").locator("font").count() == 0
    assert details.locator("dd font").count() == 0
