"""What `watch` shows and says, as values: no terminal and no server."""

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
from ui.cli.watch.model import Connection, Followed, connection, exit_status, in_order, news, row

LIVE = Connection("connected", "connected")
JOB = {"job_id": "8f3a21c9-0000-4000-8000-000000000000", "total_videos": 40, "name": "nightly.csv"}


def told(seq: int, *, seconds: float = 0, **facts: Any) -> ProgressUpdate:
    """An update of a job that is at work, so many seconds after noon."""
    at_work = {
        "status": "processing",
        "progress": 0,
        "current_video": 0,
        "message": "Processing videos...",
        "failed": 0,
        "video_id": None,
    }
    stamp = {"seq": seq, "timestamp": iso(NOON + timedelta(seconds=seconds)), "attempt": 1, "requested": None}
    return msgspec.convert({**JOB, **at_work, **stamp, **facts}, ProgressUpdate)


def said(before: ProgressUpdate, after: ProgressUpdate) -> list[str]:
    return [one.words for one in news(before, Followed.beginning(after))]


def test_a_failed_video_is_said_once_in_its_own_words() -> None:
    failed = told(2, current_video=1, failed=1, video_id="abc", error="The file\x1b[2J is cut off.")
    assert said(told(1), failed) == ["abc failed: The file [2J is cut off."]
    assert said(failed, msgspec.structs.replace(failed, seq=3)) == []


def test_a_quarter_of_the_way_and_a_change_of_status_are_said() -> None:
    assert said(told(1, progress=24), told(2, progress=25, current_video=10)) == ["processing, 25 %, 10/40"]
    assert said(told(1), told(2, requested="pause")) == ["pausing, 0 %, 0/40"]
    assert said(told(1, progress=26), told(2, progress=49)) == []


def test_a_job_tells_rate_and_time_left_once_enough_was_seen_and_stays_with_them_for_5_s() -> None:
    past = [told(seq, seconds=3 * seq, current_video=seq) for seq in range(1, 7)]
    followed = Followed.through(past, told(7, seconds=21, current_video=7))
    at_once = followed.estimated(NOON + timedelta(seconds=21))
    assert (at_once.rate, at_once.left) == ("20.0 / min", "about 2 min")
    later = at_once.then(told(8, seconds=22, current_video=30)).estimated(NOON + timedelta(seconds=22))
    assert later.left == "about 2 min"
    assert later.estimated(NOON + timedelta(seconds=27)).left != "about 2 min"
    assert (followed.rate, followed.left) == ("", "")


def test_a_paused_or_retried_job_tells_no_time_left() -> None:
    past = [told(seq, seconds=3 * seq, current_video=seq) for seq in range(1, 8)]
    followed = Followed.through(past, told(8, seconds=24, current_video=8)).estimated(NOON + timedelta(seconds=24))
    assert followed.left
    assert followed.then(told(9, seconds=25, status="paused", current_video=8)).left == ""
    assert followed.then(told(9, seconds=25, attempt=2)).left == ""


def test_what_is_older_changes_nothing() -> None:
    followed = Followed.beginning(told(5, progress=50))
    assert followed.then(told(4, progress=40)) is followed


def test_what_goes_on_stands_first() -> None:
    jobs = [Followed.beginning(told(1, status=status)) for status in ("completed", "failed", "pending", "processing")]
    assert [job.update.status for job in in_order(jobs)] == ["processing", "pending", "failed", "completed"]


@pytest.mark.parametrize(
    ("status", "code"),
    [("completed", 0), ("failed", 1), ("completed_with_errors", 1), ("cancelled", 1), ("paused", None)],
)
def test_the_exit_status_is_that_of_the_job(status: str, code: int | None) -> None:
    assert exit_status(told(1, status=status)) == code


def test_the_connection_says_which_attempt_comes_when() -> None:
    away = connection(is_connected=False, attempt=3, attempts=10, seconds=11.2)
    never = connection(is_connected=False, attempt=1, attempts=10, seconds=None, nobody_at="http://here")
    assert (away.state, away.words) == ("reconnecting", "reconnecting: attempt 3 of 10 in 12 s")
    assert (never.state, never.words) == ("connecting", "no server answers at http://here: attempt 1 of 10 now")


@pytest.mark.parametrize("width", [20, 40, 71, 72, 80, 200])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, is_ascii: bool) -> None:
    wordy = told(1, name="名" * 100, progress=75, current_video=30, failed=2, video_id="x" * 128)
    rows = [row(Followed.beginning(wordy)), row(Followed.beginning(told(2)))]
    lines = picture(
        rows, connection(is_connected=False, attempt=2, attempts=10, seconds=3), width=width, is_ascii=is_ascii
    )
    assert max(line.cell_len for line in lines) <= width


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    rows = [row(Followed.beginning(told(1, progress=50, current_video=20, failed=1)))]
    text = "\n".join(line.plain for line in picture(rows, LIVE, width=80, is_ascii=True, more=3))
    assert text.isascii()
    assert "#" in text
    assert "and 3 more jobs" in text


def test_the_bar_shows_good_failed_and_open_videos() -> None:
    shown = row(Followed.beginning(told(1, progress=50, current_video=20, failed=1)))
    [_, bar, _] = picture([shown], LIVE, width=80, is_ascii=True)
    good, failed, open_ = (bar.plain.count(sign) for sign in "#x-")
    assert failed == 1
    assert 0 <= open_ - (good + failed) <= 1
    assert picture([replace(shown, status=Status.PAUSED)], LIVE, width=80)[0].plain.startswith("‖")
