"""The progress socket in Chromium, which gives a connection up if it names no subprotocol that was asked for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.servers import add_user, api, running

OPEN = """([url, subprotocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, subprotocols);
  socket.onmessage = ({ data }) => resolve([socket.protocol, JSON.parse(data).name]);
  socket.onclose = ({ code }) => resolve(["closed", code]);
  setTimeout(() => resolve(["silent", 0]), 20_000);
})"""


def test_a_browser_that_asks_for_subprotocols_is_served(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path / "data") as program, closing(browser.new_context()) as context:
        jwt, page = add_user(program.data_dir, "ana"), context.new_page()
        with api(program, jwt) as client:
            order = {"video_ids": ["abc"], "name": "nightly.csv", "processor": "external"}
            client.post("/api/jobs", json=order).raise_for_status()
        url = f"ws://127.0.0.1:{program.port}/api/ws/progress?token="
        assert page.evaluate(OPEN, [url + jwt, ["json"]]) == ["json", "nightly.csv"]
        assert page.evaluate(OPEN, [url + jwt, ["v2", "v1"]]) == ["v2", "nightly.csv"]
        assert page.evaluate(OPEN, [url + jwt, []]) == ["", "nightly.csv"]
        assert page.evaluate(OPEN, [f"{url}nonsense", ["json"]]) == ["closed", 1008]
