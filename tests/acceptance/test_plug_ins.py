"""A job whose plug-in is removed while it is paused, on a running server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clips import make_clip
from tests.support.servers import api, running, token
from tests.support.weighing import Weigh

pytestmark = pytest.mark.acceptance

VIDEOS = tuple(f"clip-{number:02}" for number in range(12))
SECONDS = 90


def until(client: httpx.Client, job_id: str, *statuses: str) -> Mapping[str, Any]:
    """Return the job when it is in one of these statuses."""
    deadline = time.monotonic() + SECONDS
    while (job := client.get(f"/api/jobs/{job_id}").json())["status"] not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    found: Mapping[str, Any] = job
    return found


def test_a_job_waits_until_its_plug_in_is_back(tmp_path: Path) -> None:
    """It pauses itself with a sentence that names the plug-in, also after a restart, and loses nothing."""
    clip = make_clip(tmp_path / "media" / f"{VIDEOS[0]}.mp4", seconds=0.2)
    for name in VIDEOS[1:]:
        (tmp_path / "media" / f"{name}.mp4").write_bytes(clip.read_bytes())
    plug_in = Weigh(tmp_path / "plug-ins")
    plug_in.install()
    places: dict[str, Any] = {"media_dir": tmp_path / "media", "python_path": plug_in.home}
    with (
        running(tmp_path / "data", **places, pause_after_failures=3) as program,
        api(program, token(program.data_dir, "admin")) as client,
    ):
        client.put("/api/slots", json={"slots": 1}).raise_for_status()
        order = {"video_ids": VIDEOS, "name": "weighing", "processor": "weigh"}
        job_id = client.post("/api/jobs", json=order).raise_for_status().json()["job_id"]
        client.post(f"/api/jobs/{job_id}/pause")
        until(client, job_id, "paused")
        plug_in.remove()
        client.post(f"/api/jobs/{job_id}/resume").raise_for_status()
        until(client, job_id, "processing", "paused")
        paused = until(client, job_id, "paused")
        assert "The processor weigh is not installed any more" in paused["trouble"]
        assert paused["failed"] == 0
    with running(tmp_path / "data", **places) as program, api(program, token(program.data_dir, "admin")) as client:
        assert "weigh" in until(client, job_id, "paused")["trouble"]
        plug_in.install()
        client.post(f"/api/jobs/{job_id}/resume").raise_for_status()
        assert until(client, job_id, "completed", "failed", "completed_with_errors")["status"] == "completed"
