"""The state of a client of the progress socket: frames and pages of history in, updates out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_dashboard import Mirror, OutOfStep
from progress_dashboard.protocol import UNFINISHED, WITH_FAILURES, ProgressUpdate, Status
from tests.support.jobs import ERA
from tests.unit.client.frames import Seqs, batch, frame, seqs, state

LATER = ERA + timedelta(seconds=10)


def connected() -> Mirror:
    mirror = Mirror()
    mirror.connected()
    return mirror


def receive(mirror: Mirror, *updates: ProgressUpdate) -> Seqs:
    """Receive each update in a frame of the default format; return those that were delivered."""
    return receive_batches(mirror, *map(frame, updates))


def receive_batches(mirror: Mirror, *frames: bytes) -> Seqs:
    return [delivered for data in frames for delivered in seqs(mirror.receive(data, at=ERA))]


def fill_in(mirror: Mirror, job_id: str, *updates: ProgressUpdate, whole: bool = True) -> Seqs:
    return seqs(mirror.fill_in(job_id, updates, at=ERA, whole=whole))


def shown(mirror: Mirror) -> dict[str, int]:
    return {job_id: update.seq for job_id, update in mirror.jobs.items()}


# Frames


def test_updates_are_delivered_and_the_newest_one_is_kept() -> None:
    mirror = connected()
    assert receive(mirror, state("a", 1), state("b", 2), state("a", 3, progress=5)) == [("a", 1), ("b", 2), ("a", 3)]
    assert shown(mirror) == {"a": 3, "b": 2}
    assert mirror.jobs["a"].progress == 5


def test_repeated_and_older_updates_are_not_delivered() -> None:
    mirror = connected()
    assert receive(mirror, state("a", 3), state("a", 3), state("a", 2)) == [("a", 3)]
    assert shown(mirror) == {"a": 3}


def test_a_frame_may_be_text_or_bytes() -> None:
    assert seqs(connected().receive(frame(state("a", 1)).decode(), at=ERA)) == [("a", 1)]


@pytest.mark.parametrize(
    "other",
    [
        "pong",
        '{"type": "pong"}',
        '{"type": "updates"}',
        '{"type": "updates", "prev": 0, "seq": 1, "snapshot": true, "updates": [{}], "removed": []}',
        '{"job_id": "a"}',
        '{"type": 5}',
        "",
        "null",
        "[]",
        "\ud800",
        "[" * 100_000,
        b"\xff\xfe",
        b'{"type": "\xff"}',
    ],
)
def test_other_frames_are_ignored(other: str | bytes) -> None:
    mirror = connected()
    assert mirror.receive(other, at=ERA) == []
    assert (shown(mirror), mirror.position) == ({}, None)


@given(st.text() | st.binary())
def test_no_frame_raises_an_error(data: str | bytes) -> None:
    assert connected().receive(data, at=ERA) == []


def test_fields_of_a_later_version_are_ignored() -> None:
    update = frame(state("a", 1)).replace(b'"seq"', b'"new": {}, "seq"')
    snapshot = batch(None, 1, state("a", 1)).replace(b'"prev"', b'"new": [1], "prev"')
    assert receive_batches(connected(), update) == [("a", 1)]
    assert receive_batches(connected(), snapshot) == [("a", 1)]


# Batches


def test_batches_in_step_move_the_position() -> None:
    mirror = connected()
    assert receive_batches(mirror, batch(None, 4, state("a", 3)), batch(4, 9, state("a", 9))) == [("a", 3), ("a", 9)]
    assert mirror.position == 9


def test_the_default_format_moves_no_position() -> None:
    mirror = connected()
    receive(mirror, state("a", 3))
    assert mirror.position is None


@pytest.mark.parametrize("prev", [3, 5])
def test_a_batch_out_of_step_raises_and_changes_nothing(prev: int) -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3)))
    with pytest.raises(OutOfStep):
        mirror.receive(batch(prev, 9, state("a", 9), removed=["b"]), at=ERA)
    assert (shown(mirror), mirror.position) == ({"a": 3}, 4)


def test_the_first_batch_must_be_a_snapshot() -> None:
    with pytest.raises(OutOfStep):
        connected().receive(batch(4, 9), at=ERA)


def test_a_new_connection_resumes_at_the_position() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3)))
    mirror.connected()
    assert receive_batches(mirror, batch(4, 9, state("a", 9, progress=3))) == [("a", 9)]


def test_a_removal_forgets_an_ended_job() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3), state("b", 4)))
    end = batch(4, 9, state("a", 8, Status.COMPLETED), removed=["a", "unknown"])
    assert receive_batches(mirror, end) == [("a", 8)]
    assert (shown(mirror), dict(mirror.gaps)) == ({"b": 4}, {})


def test_a_snapshot_removes_the_jobs_that_it_lacks() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3, Status.COMPLETED), state("b", 4)))
    assert receive_batches(mirror, batch(None, 9, state("b", 4), state("c", 8))) == [("c", 8)]
    assert shown(mirror) == {"b": 4, "c": 8}


def test_a_snapshot_in_parts_removes_jobs_with_its_last_part() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 1), state("b", 2), state("old", 3)))
    receive_batches(mirror, batch(None, 5, state("a", 1), more=True))
    assert shown(mirror) == {"a": 1, "b": 2, "old": 3}
    receive_batches(mirror, batch(5, 9, state("b", 9)))
    assert shown(mirror) == {"a": 1, "b": 9}


def test_a_snapshot_that_was_cut_continues_after_resuming() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 1), state("b", 2), state("old", 3)))
    receive_batches(mirror, batch(None, 5, state("a", 1), more=True))
    mirror.connected()
    assert mirror.position == 5
    receive_batches(mirror, batch(5, 9, state("b", 9)))
    assert shown(mirror) == {"a": 1, "b": 9}


def test_a_snapshot_may_start_again_before_its_last_part() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 5, state("a", 1), more=True), batch(None, 9, state("b", 9)))
    assert shown(mirror) == {"b": 9}


# Gaps on a connection that stays open


def test_single_steps_open_no_gap() -> None:
    steps = [
        state("a", 1, Status.PENDING),
        state("a", 2),
        state("a", 3, failed=1, current_video=1, error="one"),
        state("a", 4, failed=1, current_video=4, error="one"),
        state("a", 5, Status.PENDING, failed=1, current_video=4, error="one"),
        state("a", 6, failed=1, current_video=4, error="one"),
        state("a", 7, Status.COMPLETED_WITH_ERRORS, failed=2, current_video=10, error="two"),
    ]
    mirror = connected()
    assert receive(mirror, *steps) == seqs(steps)
    assert dict(mirror.gaps) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(state("a", 3), state("a", 9, failed=2, error="e"), id="two failed"),
        pytest.param(state("a", 3), state("a", 9, Status.PENDING, attempt=2), id="another attempt"),
        pytest.param(state("a", 3, Status.PENDING), state("a", 9, Status.COMPLETED), id="a status was skipped"),
        pytest.param(state("a", 3), state("a", 9, Status.PAUSED, failed=1, error="e"), id="failed, then paused"),
        pytest.param(
            state("a", 3), state("a", 9, Status.FAILED, failed=1, error="e"), id="failed, then an error of the job"
        ),
        pytest.param(state("a", 3, Status.COMPLETED), state("a", 9), id="an ended job continues only by a retry"),
    ],
)
def test_more_than_one_step_is_held_until_history_answers(before: ProgressUpdate, after: ProgressUpdate) -> None:
    mirror = connected()
    receive(mirror, before)
    assert receive(mirror, after) == []
    assert (shown(mirror), dict(mirror.gaps)) == ({"a": 9}, {"a": 3})
    between = [state("a", 5, failed=1, error="e"), after]
    assert fill_in(mirror, "a", *between) == [("a", 5), ("a", 9)]
    assert dict(mirror.gaps) == {}


def test_an_end_by_an_error_or_the_last_video_is_one_step() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("b", 2, failed=9, current_video=9, error="e"), state("c", 3))
    fill_in(mirror, "b")
    ends = [
        state("a", 4, Status.FAILED, error="It failed."),
        state("b", 5, Status.FAILED, failed=10, current_video=10, error="last"),
        state("c", 6, Status.COMPLETED_WITH_ERRORS, failed=1, current_video=10, error="last"),
    ]
    assert receive(mirror, *ends) == seqs(ends)


def test_a_gap_holds_back_its_own_job_only() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("b", 2), state("a", 5, failed=3, error="three"))
    assert receive(mirror, state("b", 6), state("a", 7, failed=4, error="four")) == [("b", 6)]
    history = [state("a", seq, failed=seq - 2, error=str(seq)) for seq in (3, 4, 5)]
    assert fill_in(mirror, "a", *history) == [("a", 3), ("a", 4), ("a", 5), ("a", 7)]


def test_pages_of_history_are_delivered_before_held_updates() -> None:
    mirror = connected()
    receive(
        mirror,
        state("a", 1),
        state("a", 6, failed=3, error="three"),
        state("a", 7, failed=3, progress=9, error="three"),
    )
    early = [state("a", 2, failed=1, error="one"), state("a", 3, failed=2, error="two")]
    assert fill_in(mirror, "a", *early, whole=False) == [("a", 2), ("a", 3)]
    assert dict(mirror.gaps) == {"a": 3}
    late = [state("a", 4, failed=2, progress=2, error="two"), state("a", 5, failed=3, error="three")]
    assert fill_in(mirror, "a", *late) == [("a", 4), ("a", 5), ("a", 6), ("a", 7)]
    assert dict(mirror.gaps) == {}


def test_a_second_gap_during_a_request_needs_another_request() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 3, failed=2, error="two"))
    receive(mirror, state("a", 9, failed=5, error="five"))
    assert fill_in(mirror, "a", state("a", 2, failed=1, error="one")) == [("a", 2), ("a", 3)]
    assert dict(mirror.gaps) == {"a": 3}
    history = [state("a", seq, failed=seq - 1, error=str(seq)) for seq in (4, 5)]
    assert fill_in(mirror, "a", *history) == [("a", 4), ("a", 5), ("a", 9)]
    assert dict(mirror.gaps) == {}


def test_empty_answers_close_the_gap() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 5, failed=3, error="e"), state("a", 9, failed=7, error="e"))
    assert [fill_in(mirror, "a"), fill_in(mirror, "a")] == [[("a", 5)], [("a", 9)]]
    assert dict(mirror.gaps) == {}


def test_history_may_be_ahead_of_the_socket() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 5, failed=3, error="e"))
    end = state("a", 9, Status.COMPLETED_WITH_ERRORS, failed=3, current_video=10, error="e")
    assert fill_in(mirror, "a", end) == [("a", 5), ("a", 9)]
    assert receive(mirror, state("a", 8, failed=3), end) == []
    assert shown(mirror) == {"a": 9}


def test_giving_up_delivers_the_held_updates() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 5, failed=3, error="e"), state("a", 6, failed=4, error="f"))
    assert seqs(mirror.give_up("a")) == [("a", 5), ("a", 6)]
    assert (dict(mirror.gaps), shown(mirror)) == ({}, {"a": 6})
    assert receive(mirror, state("a", 7, failed=4, error="f")) == [("a", 7)]


def test_a_repetition_does_not_close_a_gap() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 5, failed=2, error="two"), state("a", 1))
    assert dict(mirror.gaps) == {"a": 1}


def test_an_unrequested_answer_delivers_nothing_twice() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 2))
    assert fill_in(mirror, "a", state("a", 1), state("a", 2)) == []
    assert fill_in(mirror, "b", state("b", 3)) == []
    assert mirror.give_up("a") == []


def test_of_held_percents_in_a_row_the_newest_is_kept() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 2, failed=2, error="e"))
    receive(mirror, *(state("a", 3 + step, failed=2, error="e", progress=step % 100) for step in range(1000)))
    receive(mirror, state("a", 2000, failed=3, error="f"), state("a", 2001, failed=3, error="f", progress=99))
    assert fill_in(mirror, "a") == [("a", seq) for seq in (2, 1002, 2000, 2001)]


# Gaps after a new connection


def test_an_unknown_job_has_a_gap_if_it_has_had_errors() -> None:
    mirror = connected()
    jobs = [
        state("new", 1, Status.PENDING),
        state("active", 2, progress=50),
        state("failing", 3, failed=1, error="e"),
        state("retried", 4, attempt=2),
        state("failed", 5, Status.FAILED, error="It failed."),
    ]
    assert receive(mirror, *jobs) == [("new", 1), ("active", 2)]
    assert dict(mirror.gaps) == {"failing": 0, "retried": 0, "failed": 0}
    assert fill_in(mirror, "failing", state("failing", 1), jobs[2]) == [("failing", 1), ("failing", 3)]


def test_on_the_default_format_a_gap_is_suspected_in_every_job() -> None:
    mirror = connected()
    receive(mirror, state("same", 1), state("changed", 2), state("left", 3))
    mirror.connected()
    assert dict(mirror.gaps) == {"same": 1, "changed": 2, "left": 3}
    assert receive(mirror, state("same", 1), state("changed", 9, progress=70)) == [("changed", 9)]
    assert dict(mirror.gaps) == {"left": 3}
    assert fill_in(mirror, "left", state("left", 8, Status.COMPLETED)) == [("left", 8)]
    assert mirror.jobs["left"].status == "completed"


def test_an_older_state_does_not_close_a_suspected_gap() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 2))
    mirror.connected()
    receive(mirror, state("a", 1))
    assert dict(mirror.gaps) == {"a": 2}


def test_after_the_repeated_state_one_step_leaves_no_gap() -> None:
    mirror = connected()
    receive(mirror, state("a", 1))
    mirror.connected()
    assert receive(mirror, state("a", 1), state("a", 2, failed=1, error="e")) == [("a", 2)]


def test_history_is_read_to_its_last_page() -> None:
    mirror = connected()
    receive(mirror, state("a", 1))
    mirror.connected()
    fill_in(mirror, "a", state("a", 4), whole=False)
    assert receive(mirror, state("a", 9, progress=4)) == []
    rest = [state("a", 6, Status.PENDING), state("a", 7)]
    assert fill_in(mirror, "a", *rest) == [("a", 6), ("a", 7), ("a", 9)]


def test_with_batches_only_changed_jobs_may_have_a_gap() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("same", 1), state("changed", 2), state("ended", 3)))
    mirror.connected()
    assert dict(mirror.gaps) == {}
    changes = [state("changed", 8, progress=70), state("ended", 9, Status.COMPLETED)]
    assert receive_batches(mirror, batch(4, 9, *changes)) == [("changed", 8)]
    assert dict(mirror.gaps) == {"ended": 3}


def test_after_the_first_batch_one_step_leaves_no_gap() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 1)))
    mirror.connected()
    assert receive_batches(mirror, batch(4, 5), batch(5, 6, state("a", 6, failed=1, error="e"))) == [("a", 6)]


def test_a_first_state_with_an_error_is_held_back() -> None:
    mirror = connected()
    receive(mirror, state("a", 1))
    mirror.connected()
    assert receive(mirror, state("a", 9, failed=1, error="e", progress=50)) == []
    assert fill_in(mirror, "a", state("a", 5, failed=1, error="e")) == [("a", 5), ("a", 9)]


def test_a_first_state_with_the_same_error_is_held_back_too() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 2, error="no space left"))
    mirror.connected()
    assert receive(mirror, state("a", 9, error="no space left")) == []
    between = [state("a", 5, error="no network"), state("a", 6, error="no space left")]
    assert fill_in(mirror, "a", *between) == [("a", 5), ("a", 6), ("a", 9)]


def test_a_gap_over_two_connections_begins_at_the_same_seq() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("a", 4, failed=2, error="two"))
    mirror.connected()
    receive(mirror, state("a", 9, failed=3, error="three", progress=60))
    assert dict(mirror.gaps) == {"a": 1}
    early = [state("a", 3, failed=1, error="one"), state("a", 4, failed=2, error="two")]
    assert fill_in(mirror, "a", *early) == [("a", 3), ("a", 4)]
    assert fill_in(mirror, "a", state("a", 7, failed=3, error="three")) == [("a", 7), ("a", 9)]


def test_the_end_of_a_removed_job_is_requested() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3)))
    mirror.connected()
    receive_batches(mirror, batch(4, 9, removed=["a"]))
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {"a": 3})
    assert fill_in(mirror, "a", state("a", 8, Status.COMPLETED)) == [("a", 8)]
    mirror.connected()
    receive_batches(mirror, batch(None, 20))
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {})


def test_a_removed_job_that_returns_before_the_answer_is_shown() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3)), batch(4, 9, removed=["a"]))
    receive_batches(mirror, batch(9, 12, state("a", 12, Status.PENDING, attempt=2)))
    assert shown(mirror) == {"a": 12}
    assert fill_in(mirror, "a", state("a", 8, Status.FAILED, error="e")) == [("a", 8)]
    assert fill_in(mirror, "a") == [("a", 12)]


def test_a_job_removed_while_away_may_have_been_retried() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)))
    mirror.connected()
    receive_batches(mirror, batch(4, 9, removed=["a"]))
    assert dict(mirror.gaps) == {"a": 3}


def test_a_removal_waits_for_held_updates() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3)))
    end = state("a", 8, Status.FAILED, failed=10, current_video=10, error="ten")
    receive_batches(mirror, batch(4, 8, end), batch(8, 9, removed=["a"]))
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {"a": 3})
    assert fill_in(mirror, "a", state("a", 7, failed=9, error="nine"), end) == [("a", 7), ("a", 8)]
    assert dict(mirror.gaps) == {}


def test_a_job_without_history_is_forgotten() -> None:
    mirror = connected()
    receive(mirror, state("a", 3))
    mirror.connected()
    assert mirror.give_up("a", gone=True) == []
    assert shown(mirror) == {}


def test_a_job_that_returns_continues_after_its_last_update() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)), batch(4, 5, removed=["a"]))
    again = state("a", 9, Status.PENDING, attempt=2)
    assert receive_batches(mirror, batch(5, 9, again)) == []
    assert (shown(mirror), dict(mirror.gaps)) == ({"a": 9}, {"a": 3})


# Forgetting by the client's clock


@pytest.mark.parametrize("status", sorted(frozenset(Status) - UNFINISHED))
def test_an_ended_job_is_forgotten_after_its_time(status: Status) -> None:
    mirror = connected()
    mirror.receive(frame(state("a", 1)), at=ERA)
    mirror.receive(frame(state("a", 2, status)), at=LATER)
    ttl = timedelta(days=1) if status in WITH_FAILURES else timedelta(minutes=5)
    assert mirror.expire(LATER + ttl - timedelta(seconds=1)) == []
    assert mirror.expire(LATER + ttl) == ["a"]
    assert shown(mirror) == {}


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_an_unfinished_job_is_never_forgotten(status: Status) -> None:
    mirror = connected()
    receive(mirror, state("a", 1, status))
    assert mirror.expire(ERA + timedelta(days=1000)) == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_the_server_clock_does_not_count_for_forgetting(hours: int) -> None:
    mirror, here = connected(), ERA + timedelta(hours=hours)
    mirror.receive(frame(state("a", 1, Status.COMPLETED, updated_at=ERA)), at=here)
    assert mirror.expire(here + timedelta(seconds=299)) == []
    assert mirror.expire(here + timedelta(seconds=300)) == ["a"]


def test_a_repetition_does_not_bring_back_a_forgotten_job() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    receive(mirror, end)
    mirror.expire(ERA + timedelta(minutes=5))
    mirror.connected()
    assert receive(mirror, end) == []
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {})


def test_a_repeated_end_does_not_delay_forgetting() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    mirror.receive(frame(end), at=ERA)
    mirror.receive(frame(end), at=LATER)
    mirror.receive(frame(state("a", 2, Status.COMPLETED, name="renamed")), at=LATER)
    assert mirror.expire(ERA + timedelta(minutes=5)) == ["a"]


def test_a_retry_restarts_the_time_to_forget() -> None:
    mirror = connected()
    mirror.receive(frame(state("a", 1, Status.COMPLETED)), at=ERA)
    mirror.receive(frame(state("a", 9, Status.COMPLETED, attempt=2)), at=LATER)
    mirror.fill_in("a", [], at=LATER)
    assert mirror.expire(ERA + timedelta(minutes=5)) == []


def test_a_job_with_a_gap_is_not_forgotten() -> None:
    mirror = connected()
    receive(mirror, state("a", 1, Status.FAILED, failed=10, error="e"))
    assert mirror.expire(ERA + timedelta(days=2)) == []
    mirror.give_up("a")
    assert mirror.expire(ERA + timedelta(days=2)) == ["a"]


def test_with_batches_frames_delay_forgetting() -> None:
    mirror = connected()
    receive_batches(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)))
    mirror.receive("pong", at=ERA + timedelta(hours=1))
    assert mirror.expire(ERA + timedelta(hours=1, seconds=299)) == []


def test_with_batches_silence_forgets_and_asks_for_a_snapshot() -> None:
    mirror, end = connected(), state("a", 3, Status.COMPLETED)
    receive_batches(mirror, batch(None, 4, end))
    assert mirror.expire(ERA + timedelta(minutes=5)) == ["a"]
    assert mirror.position is None
    mirror.connected()
    assert receive_batches(mirror, batch(None, 4, end)) == []
    assert shown(mirror) == {"a": 3}


# Monitored jobs


def test_after_the_first_call_only_monitored_jobs_are_kept() -> None:
    mirror = connected()
    receive(mirror, state("a", 1), state("b", 2), state("c", 3, failed=5, error="e"))
    mirror.monitor("b")
    assert (shown(mirror), dict(mirror.gaps)) == ({"b": 2}, {})
    assert receive(mirror, state("a", 4), state("b", 5)) == [("b", 5)]
    mirror.connected()
    assert dict(mirror.gaps) == {"b": 5}


def test_an_unknown_monitored_job_is_requested() -> None:
    mirror = connected()
    mirror.monitor("a")
    assert dict(mirror.gaps) == {"a": 0}
    assert fill_in(mirror, "a", state("a", 1), state("a", 2, failed=1, error="e")) == [("a", 1), ("a", 2)]
    assert shown(mirror) == {"a": 2}


def test_a_forgotten_job_returns_when_it_is_monitored() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    receive(mirror, end)
    mirror.expire(ERA + timedelta(minutes=5))
    mirror.monitor("a")
    assert receive(mirror, end) == [("a", 1)]


def test_a_monitored_job_that_does_not_exist_is_forgotten() -> None:
    mirror = connected()
    mirror.monitor("a")
    assert mirror.give_up("a", gone=True) == []
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {})
    assert receive(mirror, state("a", 1)) == [("a", 1)]


def test_an_unmonitored_job_is_dropped_with_its_history() -> None:
    mirror = connected()
    mirror.monitor("a")
    receive(mirror, state("a", 1))
    mirror.unmonitor("a")
    assert receive(mirror, state("a", 2)) == []
    assert fill_in(mirror, "a", state("a", 2)) == []
    assert (shown(mirror), dict(mirror.gaps)) == ({}, {})
    mirror.monitor("a")
    assert fill_in(mirror, "a", state("a", 1), state("a", 2)) == [("a", 1), ("a", 2)]


def test_unmonitoring_before_monitoring_changes_nothing() -> None:
    mirror = connected()
    receive(mirror, state("a", 1))
    mirror.unmonitor("a")
    assert shown(mirror) == {"a": 1}
