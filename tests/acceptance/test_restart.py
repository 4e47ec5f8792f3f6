"""kill -9 at the critical moments: every job finishes after the restart, and no result that was sent is computed again.

In the gate one round at each moment; `python -m tests.acceptance.test_restart` runs 20 and prints their moments.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import make_clip
from tests.support.databases import chosen, is_postgresql, locked, rows, until_left
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.servers import Program, api, running, token
from tests.support.watchers import Watcher

VIDEOS = 12
ENDS = ("completed", "completed_with_errors", "failed")


@dataclass
class Round:
    """A running server with a job, a watcher, and the log of the job's processor."""

    program: Program
    watcher: Watcher
    log: StartLog
    job_id: str

    @property
    def received_videos(self) -> int:
        """The largest number of finished videos that the watcher received."""
        counts = [update["current_video"] for update in self.watcher.updates if update["job_id"] == self.job_id]
        return max(counts, default=0)

    def until_received(self, holds: Callable[[dict[str, object]], bool], what: str) -> None:
        """Return when the watcher has received an update of the job for which this holds."""
        self.watcher.until(lambda w: any(holds(u) for u in w.updates if u["job_id"] == self.job_id), what)

    def until_finished(self, videos: int) -> None:
        """Return when the watcher has received that this number of videos have finished."""
        self.until_received(lambda update: int(str(update["current_video"])) >= videos, f"{videos} videos")


def at_claim(round_: Round) -> None:
    """Kill the server as soon as a client receives that the job runs."""
    round_.until_received(lambda update: update["status"] == "processing", "the claim")
    round_.program.kill()


def at_processing(round_: Round) -> None:
    """Kill the server after a third of the videos."""
    round_.until_finished(VIDEOS // 3)
    round_.program.kill()


def at_tick(round_: Round) -> None:
    """Kill the server while a tick has results that it could not commit yet."""
    round_.until_finished(2)
    with locked(round_.program.data_dir):
        stored = stored_results(round_.program.data_dir, round_.job_id)
        round_.log.until_ended(len(stored) + 2)
        round_.program.kill()


def at_finish(round_: Round) -> None:
    """Kill the server after all videos, when the last results and the job's final status are not stored."""
    round_.until_finished(VIDEOS - 3)
    if is_postgresql():
        round_.log.until_started(VIDEOS)  # while the database is locked, nothing can be handed over to a worker
    with locked(round_.program.data_dir):
        round_.log.until_ended(VIDEOS)
        round_.program.kill()


MOMENTS: dict[str, Callable[[Round], None]] = {
    "claim": at_claim,
    "processing": at_processing,
    "tick": at_tick,
    "finish": at_finish,
}


def stored_results(data: Path, job_id: str) -> set[str]:
    """Return the IDs of the videos with a stored result."""
    query = "SELECT video_id FROM result NATURAL JOIN video WHERE job_id = :job_id"
    return {row.video_id for row in rows(data, query, job_id=job_id)}


def held_outcomes(data: Path) -> set[str]:
    """Return the IDs of the videos that ended on a worker, and whose results the server has not stored yet."""
    if not is_postgresql():
        return set()
    return {row.video_id for row in rows(data, "SELECT spec->>'video_id' AS video_id FROM run WHERE state = 'ended'")}


def make_clips(media: Path) -> list[str]:
    """Write the clips and return their IDs."""
    media.mkdir(parents=True)
    ids = [f"clip-{number:02}" for number in range(VIDEOS)]
    first = make_clip(media / f"{ids[0]}.mp4", seconds=0.5)
    for video_id in ids[1:]:
        shutil.copy(first, media / f"{video_id}.mp4")
    return ids


def assert_nothing_is_lost_or_repeated(home: Path, moment: str) -> None:
    """Run a job, kill the server at this moment, start it again, and check the job, its videos and their starts."""
    data, ids = home / "data", make_clips(home / "media")
    jwt = token(data, "admin")
    log = StartLog(home / "starts.log")
    settings: dict[str, Any] = {"media_dir": home / "media"}
    path = install_plug_in(home / "plug-ins")
    with running(data, python_path=path, **settings) as program, Watcher(program, jwt) as watcher:
        order = {"video_ids": ids, "processor": "logged", "options": {"log": str(log.path)}}
        with api(program, jwt) as client:
            job_id = client.post("/api/jobs", json=order).json()["job_id"]
        round_ = Round(program, watcher, log, job_id)
        MOMENTS[moment](round_)
        watcher.until(lambda w: w.close_code is not None, "the end of the connection")
        received = round_.received_videos
    until_left(data)
    stored = stored_results(data, job_id)
    held = held_outcomes(data)
    started = log.started()
    assert received <= len(stored), "a client received a result that was not stored"
    with running(data, python_path=path, **settings) as program, Watcher(program, jwt) as watcher:
        end = watcher.until_status(job_id, *ENDS)
        with api(program, jwt) as client:
            videos = client.get(f"/api/jobs/{job_id}/videos").json()["items"]
    started_again = log.started()[len(started) :]
    assert (end["status"], end["current_video"], end["failed"]) == ("completed", VIDEOS, 0)
    assert stored.isdisjoint(started_again), "a video with a stored result was started again"
    assert set(started_again) == set(ids) - stored - held
    assert [video["attempts"] for video in videos] == [1] * VIDEOS


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_server_continues_with_the_unstored_videos(tmp_path: Path, moment: str) -> None:
    assert_nothing_is_lost_or_repeated(tmp_path, moment)


def main(rounds: int = 20) -> None:
    """Run many rounds and print how many kills came at each moment."""
    kills: Counter[str] = Counter()
    for number, moment in enumerate(islice(cycle(MOMENTS), rounds), 1):
        with tempfile.TemporaryDirectory() as home:
            assert_nothing_is_lost_or_repeated(Path(home), moment)
        kills[moment] += 1
        print(f"round {number:2} of {rounds}: killed at {moment}: finished, nothing lost or repeated", flush=True)
    print("kills:", ", ".join(f"{moment} {count}" for moment, count in kills.items()))


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        main(*map(int, words))
