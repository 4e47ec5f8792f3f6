"""The values that `watch` shows: no terminal and no server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from backend.clock import iso
from progress_dashboard.protocol import ProgressUpdate, Status
from tests.support.clock import NOON
from ui.cli.watch.display import picture
from ui.cli.watch.model import ConnectionState, FollowedJob, connection_state, exit_status, in_order, job_line, news

LIVE = ConnectionState("connected", "connected")
JOB = {"job_id": "8f3a21c9-0000-4000-8000-000000000000", "total_videos": 40, "name": "nightly.csv"}


def update(seq: int, *, seconds: float = 0, **facts: Any) -> ProgressUpdate:
    """Return an update of a processing job, `seconds` after noon."""
    processing = {
        "status": "processing",
        "progress": 0,
        "current_video": 0,
        "message": "Processing videos...",
        "failed": 0,
        "video_id": None,
    }
    stamp = {"seq": seq, "timestamp": iso(NOON + timedelta(seconds=seconds)), "attempt": 1, "requested": None}
    return msgspec.convert({**JOB, **processing, **stamp, **facts}, ProgressUpdate)


def texts(before: ProgressUpdate, after: ProgressUpdate) -> list[str]:
    return [one.text for one in news(before, FollowedJob.first(after))]


def test_a_failed_video_is_reported_once_with_its_error() -> None:
    failed = update(2, current_video=1, failed=1, video_id="abc", error="The file\x1b[2J is cut off.")
    assert texts(update(1), failed) == ["abc failed: The file [2J is cut off."]
    assert texts(failed, msgspec.structs.replace(failed, seq=3)) == []


def test_each_quarter_and_each_status_change_is_reported() -> None:
    assert texts(update(1, progress=24), update(2, progress=25, current_video=10)) == ["processing, 25 %, 10/40"]
    assert texts(update(1), update(2, requested="pause")) == ["pausing, 0 %, 0/40"]
    assert texts(update(1, progress=26), update(2, progress=49)) == []


def test_a_wait_for_a_machine_is_reported_when_it_begins_and_when_it_ends() -> None:
    why = "Waiting for a worker: none is connected"
    waiting = update(2, message=why, video_id="abc")
    assert texts(update(1), waiting) == [f"processing, 0 %, 0/40: {why}"]
    assert texts(waiting, msgspec.structs.replace(waiting, seq=3)) == []
    assert texts(waiting, update(3)) == ["processing, 0 %, 0/40"]


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_a_job_that_waits_for_a_machine_shows_why_in_place_of_its_video(status: str) -> None:
    why = "Waiting for a worker: none has the processor probe"
    assert job_line(FollowedJob.first(update(1, status=status, message=why, video_id="abc"))).detail == why
    assert job_line(FollowedJob.first(update(1, video_id="abc"))).detail == "abc"


def test_rate_and_time_left_appear_and_stay_for_5_s() -> None:
    past = [update(seq, seconds=3 * seq, current_video=seq) for seq in range(1, 7)]
    job = FollowedJob.from_history(past, update(7, seconds=21, current_video=7))
    at_once = job.estimated(NOON + timedelta(seconds=21))
    assert (at_once.rate, at_once.left) == ("20.0 / min", "about 2 min")
    later = at_once.with_update(update(8, seconds=22, current_video=30)).estimated(NOON + timedelta(seconds=22))
    assert later.left == "about 2 min"
    assert later.estimated(NOON + timedelta(seconds=27)).left != "about 2 min"
    assert (job.rate, job.left) == ("", "")


def test_a_paused_or_retried_job_has_no_time_left() -> None:
    past = [update(seq, seconds=3 * seq, current_video=seq) for seq in range(1, 8)]
    job = FollowedJob.from_history(past, update(8, seconds=24, current_video=8)).estimated(NOON + timedelta(seconds=24))
    assert job.left
    assert job.with_update(update(9, seconds=25, status="paused", current_video=8)).left == ""
    assert job.with_update(update(9, seconds=25, attempt=2)).left == ""


def test_an_older_update_changes_nothing() -> None:
    job = FollowedJob.first(update(5, progress=50))
    assert job.with_update(update(4, progress=40)) is job


def test_active_jobs_come_first() -> None:
    jobs = [FollowedJob.first(update(1, status=status)) for status in ("completed", "failed", "pending", "processing")]
    assert [job.update.status for job in in_order(jobs)] == ["processing", "pending", "failed", "completed"]


@pytest.mark.parametrize(
    ("status", "code"),
    [("completed", 0), ("failed", 1), ("completed_with_errors", 1), ("cancelled", 1), ("paused", None)],
)
def test_the_exit_status_follows_the_status_of_the_job(status: str, code: int | None) -> None:
    assert exit_status(update(1, status=status)) == code


def test_the_connection_shows_the_attempt_and_its_time() -> None:
    lost = connection_state(is_connected=False, attempt=3, attempts=10, seconds=11.2)
    never = connection_state(is_connected=False, attempt=1, attempts=10, seconds=None, unreachable_url="http://here")
    assert (lost.state, lost.text) == ("reconnecting", "reconnecting: attempt 3 of 10 in 12 s")
    assert (never.state, never.text) == ("connecting", "no server answers at http://here: attempt 1 of 10 now")


@pytest.mark.parametrize("width", [20, 40, 71, 72, 80, 200])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, is_ascii: bool) -> None:
    long = update(1, name="名" * 100, progress=75, current_video=30, failed=2, video_id="x" * 128)
    jobs = [job_line(FollowedJob.first(long)), job_line(FollowedJob.first(update(2)))]
    lines = picture(
        jobs, connection_state(is_connected=False, attempt=2, attempts=10, seconds=3), width=width, is_ascii=is_ascii
    )
    assert max(line.cell_len for line in lines) <= width


def test_a_terminal_without_utf_8_shows_ascii() -> None:
    jobs = [job_line(FollowedJob.first(update(1, progress=50, current_video=20, failed=1)))]
    text = "\n".join(line.plain for line in picture(jobs, LIVE, width=80, is_ascii=True, more=3))
    assert text.isascii()
    assert "#" in text
    assert "and 3 more jobs" in text


def test_the_bar_shows_good_failed_and_remaining_videos() -> None:
    shown = job_line(FollowedJob.first(update(1, progress=50, current_video=20, failed=1)))
    [_, bar, _] = picture([shown], LIVE, width=80, is_ascii=True)
    good, failed, open_ = (bar.plain.count(sign) for sign in "#x-")
    assert failed == 1
    assert 0 <= open_ - (good + failed) <= 1
    assert picture([replace(shown, status=Status.PAUSED)], LIVE, width=80)[0].plain.startswith("‖")


def with_missing_files_first(found: int | None) -> FollowedJob:
    """Return a job of which 24 videos failed within a second, and 8 took 5 s each; 8 are left."""
    gone = [update(seq, seconds=seq / 24, current_video=seq, failed=seq) for seq in range(1, 25)]
    good = [update(24 + n, seconds=1 + 5 * n, current_video=24 + n, failed=24) for n in range(1, 9)]
    return FollowedJob.from_history([*gone, *good[:-1]], good[-1], found).estimated(NOON + timedelta(seconds=41))


@pytest.mark.parametrize("found", [16, None], ids=["files were counted", "files are unknown"])
def test_videos_that_failed_at_once_do_not_shorten_the_time_left(found: int | None) -> None:
    job = with_missing_files_first(found)
    assert (job.rate, job.left) == ("12.0 / min", "about 40 s")


def test_nothing_is_said_where_nearly_no_file_is_left() -> None:
    """Videos that took 5 s each are followed by a mass of IDs without a file: nobody knows how long they take."""
    good = [update(n, seconds=5 * n, current_video=n, total_videos=316) for n in range(1, 9)]
    job = FollowedJob.from_history(good[:-1], good[-1], 16).estimated(NOON + timedelta(seconds=41))
    assert job.left == ""
