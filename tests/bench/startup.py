"""The time to the first page and to the first progress, in seconds: `python -m tests.bench.startup [runs]`.

Measures process start → first page served to a signed-in browser, and upload → first progress on the progress socket.
The reference in the same run: a Python process that only imports the web framework's libraries.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from tests import ROOT
from tests.support.clips import make_clip
from tests.support.servers import Program, api, token, use_link
from tests.support.watchers import Watcher

RUNS = 7


def to_first_page(program: Program) -> float:
    """Return the seconds from the start of the process to the complete first page."""
    link = program.sign_in_link()
    with httpx.Client(follow_redirects=True, headers={"Accept": "text/html"}, timeout=30) as browser:
        page = use_link(browser, link)
        assert page.status_code == 200, page.text
        assert "job_grid" in page.text
    return time.perf_counter() - program.began


def to_first_progress(program: Program, jwt: str, ids: list[str]) -> float:
    """Return the seconds from the upload of a CSV file to the first update with a percent above 0."""
    with Watcher(program, jwt) as watcher, api(program, jwt) as client:
        began = time.perf_counter()
        text = "video_id\n" + "\n".join(ids)
        job = client.post("/api/jobs", files={"file": ("bench.csv", text.encode(), "text/csv")}).json()
        watcher.until(
            lambda w: any(u["job_id"] == job["job_id"] and u["progress"] > 0 for u in w.updates), "the first percent"
        )
        return time.perf_counter() - began


def imports_alone() -> float:
    """Return the seconds of the reference: a process that only imports the libraries."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import fastapi, nicegui, sqlmodel, uvicorn"], cwd=ROOT, check=True)
    return time.perf_counter() - began


def report(what: str, values: list[float], aim: float | None = None) -> None:
    """Print a line of the table."""
    aim_text = f"   aim {aim} s" if aim is not None else ""
    print(f"{what:44} median {median(values):5.2f} s   worst {max(values):5.2f} s{aim_text}")


def main(runs: int) -> None:
    """Measure this number of starts with a new and with an existing data directory."""
    pages, progress, imports, fresh = [], [], [], []
    with tempfile.TemporaryDirectory() as home:
        media = Path(home) / "media"
        media.mkdir()
        ids = [f"clip-{number}" for number in range(8)]
        for video_id in ids:
            make_clip(media / f"{video_id}.mp4", seconds=4, size=(320, 180))
        for number in range(runs):
            imports.append(imports_alone())
            program = Program(Path(home) / f"new-{number}", media_dir=media)
            fresh.append(to_first_page(program))
            program.stop()
            data = Path(home) / "data"
            program = Program(data, media_dir=media)
            pages.append(to_first_page(program))
            progress.append(to_first_progress(program, token(data, "admin"), ids))
            program.stop()
    report("process start → first page, new data directory", fresh, 2.5)
    report("process start → first page, existing data", pages, 2.5)
    report("reference: importing the libraries", imports)
    print(f"first page / reference                       {median(pages) / median(imports):.2f} x")
    report("upload → first progress", progress, 1.0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
