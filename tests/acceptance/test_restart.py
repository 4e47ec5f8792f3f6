"""kill -9 at the moments that matter: every job still ends, and nothing that a client had seen is done again.

In the gate one round at each moment; `python -m tests.acceptance.test_restart` runs 20 and prints what they hit.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import make_clip
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.servers import Program, api, running, token
from tests.support.watchers import Watcher

VIDEOS = 12
ENDS = ("completed", "completed_with_errors", "failed")


@dataclass
class Round:
    """A running job that is watched: where to look, and what was seen of it."""

    program: Program
    watcher: Watcher
    log: StartLog
    job_id: str

    @property
    def seen_videos(self) -> int:
        """The newest count of finished videos that a client was shown."""
        counts = [update["current_video"] for update in self.watcher.updates if update["job_id"] == self.job_id]
        return max(counts, default=0)

    @contextmanager
    def commits_held_up(self) -> Iterator[None]:
        """From outside, keep the server's next transaction from being committed."""
        database = sqlite3.connect(self.program.data_dir / "dashboard.sqlite3", timeout=30, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.rollback()
            database.close()

    def until_seen(self, holds: Callable[[dict[str, object]], bool], what: str) -> None:
        self.watcher.until(lambda w: any(holds(u) for u in w.updates if u["job_id"] == self.job_id), what)


def at_claim(round_: Round) -> None:
    """As soon as anybody sees that it runs."""
    round_.until_seen(lambda update: update["status"] == "processing", "the claim")
    round_.program.kill()


def at_processing(round_: Round) -> None:
    """Between two videos' ends, with some of both seen."""
    round_.until_seen(lambda update: int(str(update["current_video"])) >= VIDEOS // 3, "a third of the videos")
    round_.program.kill()


def at_tick(round_: Round) -> None:
    """While a tick has results that it could not commit yet."""
    round_.until_seen(lambda update: int(str(update["current_video"])) >= 2, "two videos")
    with round_.commits_held_up():
        stored = stored_results(round_.program.data_dir, round_.job_id)
        round_.log.until_ended(len(stored) + 2)
        round_.program.kill()


def at_finish(round_: Round) -> None:
    """When all is done, but the last results and the end are not stored."""
    round_.until_seen(lambda update: int(str(update["current_video"])) >= VIDEOS - 3, "nearly all videos")
    with round_.commits_held_up():
        round_.log.until_ended(VIDEOS)
        round_.program.kill()


MOMENTS: dict[str, Callable[[Round], None]] = {
    "claim": at_claim,
    "processing": at_processing,
    "tick": at_tick,
    "finish": at_finish,
}


def stored_results(data: Path, job_id: str) -> set[str]:
    with sqlite3.connect(f"file:{data / 'dashboard.sqlite3'}?mode=ro", uri=True) as database:
        query = "SELECT video_id FROM result NATURAL JOIN video WHERE job_id = ?"
        return {row[0] for row in database.execute(query, (job_id,))}


def play(home: Path, moment: str) -> None:
    """One round: run a job, kill the server at the moment, start it again, and look at everything."""
    media, data = home / "media", home / "data"
    media.mkdir(parents=True)
    ids = [f"clip-{number:02}" for number in range(VIDEOS)]
    make_clip(media / f"{ids[0]}.mp4", seconds=0.5)
    for video_id in ids[1:]:
        (media / f"{video_id}.mp4").write_bytes((media / f"{ids[0]}.mp4").read_bytes())
    jwt = token(data, "admin")
    log = StartLog(home / "starts.log")
    settings: dict[str, Any] = {"media_dir": media}
    path = install_plug_in(home / "plug-ins")
    with running(data, python_path=path, **settings) as program, Watcher(program, jwt) as watcher:
        order = {"video_ids": ids, "processor": "logged", "options": {"log": str(log.path)}}
        with api(program, jwt) as client:
            job_id = client.post("/api/jobs", json=order).json()["job_id"]
        round_ = Round(program, watcher, log, job_id)
        MOMENTS[moment](round_)
        watcher.until(lambda w: w.close_code is not None, "the end of the connection")
        seen = round_.seen_videos
    stored = stored_results(data, job_id)
    first_life = log.started()
    assert seen <= len(stored), "somebody saw a result that was not stored"
    with running(data, python_path=path, **settings) as program, Watcher(program, jwt) as watcher:
        end = watcher.until_status(job_id, *ENDS)
        with api(program, jwt) as client:
            videos = client.get(f"/api/jobs/{job_id}/videos").json()["items"]
    started_again = log.started()[len(first_life) :]
    assert (end["status"], end["current_video"], end["failed"]) == ("completed", VIDEOS, 0)
    assert stored.isdisjoint(started_again), "a video with a stored result was started again"
    assert set(started_again) == set(ids) - stored
    assert [video["attempts"] for video in videos] == [1] * VIDEOS


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_server_goes_on_at_the_first_video_without_a_stored_result(tmp_path: Path, moment: str) -> None:
    play(tmp_path, moment)


def main(rounds: int = 20) -> None:
    """Run many rounds and print how often each moment was hit."""
    hit: Counter[str] = Counter()
    for number, moment in enumerate(islice(cycle(MOMENTS), rounds), 1):
        with tempfile.TemporaryDirectory() as home:
            play(Path(home), moment)
        hit[moment] += 1
        print(f"round {number:2} of {rounds}: killed at {moment}: ended, nothing lost, nothing done again", flush=True)
    print("hits:", ", ".join(f"{moment} {count}" for moment, count in hit.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
