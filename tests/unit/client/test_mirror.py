"""What a client of the progress socket knows, told by values: frames in, news out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.job import Job
from progress_dashboard import Mirror, OutOfStep
from progress_dashboard.protocol import NEXT, UNFINISHED, WITH_FAILURES, ProgressUpdate, Status
from tests.support.jobs import ERA, a_job

Seqs = list[tuple[str, int]]
LATER = ERA + timedelta(seconds=10)


def state(job_id: str, seq: int, status: Status = Status.PROCESSING, **given: Any) -> ProgressUpdate:
    return a_job(id=job_id, seq=seq, status=status, **given).update()


def frame(update: ProgressUpdate) -> bytes:
    return msgspec.json.encode(update)


def batch(
    prev: int | None,
    seq: int,
    *updates: ProgressUpdate,
    removed: Iterable[str] = (),
    more: bool = False,
) -> bytes:
    """A frame of `format=batch`; `prev` None: a snapshot."""
    told = {"type": "updates", "prev": prev or 0, "seq": seq, "snapshot": prev is None, "updates": updates}
    return msgspec.json.encode({**told, "removed": list(removed), **({"more": True} if more else {})})


def seqs(updates: Iterable[ProgressUpdate]) -> Seqs:
    return [(update.job_id, update.seq) for update in updates]


def connected() -> Mirror:
    mirror = Mirror()
    mirror.connected()
    return mirror


def hear(mirror: Mirror, *updates: ProgressUpdate) -> Seqs:
    """What is news in these updates, each a frame of the default format."""
    return [news for update in updates for news in seqs(mirror.hear(frame(update), at=ERA))]


def hear_batch(mirror: Mirror, *frames: bytes) -> Seqs:
    return [news for told in frames for news in seqs(mirror.hear(told, at=ERA))]


def fill_in(mirror: Mirror, job_id: str, *updates: ProgressUpdate, whole: bool = True) -> Seqs:
    return seqs(mirror.fill_in(job_id, updates, at=ERA, whole=whole))


def shown(mirror: Mirror) -> dict[str, int]:
    return {job_id: update.seq for job_id, update in mirror.jobs.items()}


# What is heard


def test_updates_are_news_and_the_newest_one_is_kept() -> None:
    mirror = connected()
    assert hear(mirror, state("a", 1), state("b", 2), state("a", 3, progress=5)) == [("a", 1), ("b", 2), ("a", 3)]
    assert shown(mirror) == {"a": 3, "b": 2}
    assert mirror.jobs["a"].progress == 5


def test_what_is_repeated_or_older_is_no_news() -> None:
    mirror = connected()
    assert hear(mirror, state("a", 3), state("a", 3), state("a", 2)) == [("a", 3)]
    assert shown(mirror) == {"a": 3}


def test_text_and_bytes_are_the_same_to_it() -> None:
    assert seqs(connected().hear(frame(state("a", 1)).decode(), at=ERA)) == [("a", 1)]


@pytest.mark.parametrize(
    "word",
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
def test_what_is_no_update_is_ignored(word: str | bytes) -> None:
    mirror = connected()
    assert mirror.hear(word, at=ERA) == []
    assert (shown(mirror), mirror.position) == ({}, None)


@given(st.text() | st.binary())
def test_no_frame_whatsoever_is_an_error(word: str | bytes) -> None:
    assert connected().hear(word, at=ERA) == []


def test_fields_of_a_later_version_are_ignored() -> None:
    told = msgspec.json.decode(frame(state("a", 1)))
    later = batch(None, 1, msgspec.convert({**told, "mood": "good"}, ProgressUpdate))
    assert hear_batch(connected(), later.replace(b'"prev"', b'"weather": [1], "prev"')) == [("a", 1)]
    assert seqs(connected().hear(msgspec.json.encode({**told, "mood": "good"}), at=ERA)) == [("a", 1)]


# Batches


def test_batches_that_follow_on_each_other_move_the_position() -> None:
    mirror = connected()
    assert hear_batch(mirror, batch(None, 4, state("a", 3)), batch(4, 9, state("a", 9))) == [("a", 3), ("a", 9)]
    assert mirror.position == 9


def test_the_default_format_moves_no_position() -> None:
    mirror = connected()
    hear(mirror, state("a", 3))
    assert mirror.position is None


@pytest.mark.parametrize("prev", [3, 5])
def test_a_batch_that_does_not_follow_on_is_out_of_step_and_changes_nothing(prev: int) -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3)))
    with pytest.raises(OutOfStep):
        mirror.hear(batch(prev, 9, state("a", 9), removed=["b"]), at=ERA)
    assert (shown(mirror), mirror.position) == ({"a": 3}, 4)


def test_from_the_beginning_only_a_snapshot_follows_on() -> None:
    with pytest.raises(OutOfStep):
        connected().hear(batch(4, 9), at=ERA)


def test_a_connection_resumes_at_the_position_that_it_asked_with() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3)))
    mirror.connected()
    assert hear_batch(mirror, batch(4, 9, state("a", 9, progress=3))) == [("a", 9)]


def test_a_removal_forgets_a_job_that_has_ended() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3), state("b", 4)))
    news = hear_batch(mirror, batch(4, 9, state("a", 8, Status.COMPLETED), removed=["a", "unheard of"]))
    assert (news, shown(mirror), dict(mirror.missed)) == ([("a", 8)], {"b": 4}, {})


def test_a_snapshot_forgets_every_job_that_is_not_in_it() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3, Status.COMPLETED), state("b", 4)))
    assert hear_batch(mirror, batch(None, 9, state("b", 4), state("c", 8))) == [("c", 8)]
    assert shown(mirror) == {"b": 4, "c": 8}


def test_a_snapshot_in_parts_forgets_with_its_last_part_so_that_nothing_flickers() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 1), state("b", 2), state("old", 3)))
    hear_batch(mirror, batch(None, 5, state("a", 1), more=True))
    assert shown(mirror) == {"a": 1, "b": 2, "old": 3}
    hear_batch(mirror, batch(5, 9, state("b", 9)))
    assert shown(mirror) == {"a": 1, "b": 9}


def test_a_snapshot_that_was_cut_goes_on_after_resuming() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 1), state("b", 2), state("old", 3)))
    hear_batch(mirror, batch(None, 5, state("a", 1), more=True))
    mirror.connected()
    assert mirror.position == 5
    hear_batch(mirror, batch(5, 9, state("b", 9)))
    assert shown(mirror) == {"a": 1, "b": 9}


def test_a_snapshot_may_start_anew_before_its_last_part() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 5, state("a", 1), more=True), batch(None, 9, state("b", 9)))
    assert shown(mirror) == {"b": 9}


# What was missed on a connection that stays


def test_a_reader_in_step_never_has_to_ask() -> None:
    life = [
        state("a", 1, Status.PENDING),
        state("a", 2),
        state("a", 3, failed=1, current_video=1, error="one"),
        state("a", 4, failed=1, current_video=4, error="one"),
        state("a", 5, Status.PENDING, failed=1, current_video=4, error="one"),
        state("a", 6, failed=1, current_video=4, error="one"),
        state("a", 7, Status.COMPLETED_WITH_ERRORS, failed=2, current_video=10, error="two"),
    ]
    mirror = connected()
    assert hear(mirror, *life) == seqs(life)
    assert not mirror.missed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(state("a", 3), state("a", 9, failed=2, error="e"), id="two failed"),
        pytest.param(state("a", 3), state("a", 9, Status.PENDING, attempt=2), id="another attempt"),
        pytest.param(state("a", 3, Status.PENDING), state("a", 9, Status.COMPLETED), id="a status was skipped"),
        pytest.param(state("a", 3), state("a", 9, Status.PAUSED, failed=1, error="e"), id="failed, then paused"),
        pytest.param(state("a", 3), state("a", 9, Status.FAILED, failed=1, error="e"), id="failed, then broken"),
        pytest.param(state("a", 3, Status.COMPLETED), state("a", 9), id="ended jobs go on only by a retry"),
    ],
)
def test_an_update_that_is_more_than_one_step_is_held_back_until_history_tells_the_rest(
    before: ProgressUpdate, after: ProgressUpdate
) -> None:
    mirror = connected()
    hear(mirror, before)
    assert hear(mirror, after) == []
    assert (shown(mirror), dict(mirror.missed)) == ({"a": 9}, {"a": 3})
    between = [state("a", 5, failed=1, error="e"), after]
    assert fill_in(mirror, "a", *between) == [("a", 5), ("a", 9)]
    assert not mirror.missed


def test_a_job_broken_off_or_ended_by_its_last_video_is_one_step() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("b", 2, failed=9, current_video=9, error="e"), state("c", 3))
    fill_in(mirror, "b")
    ends = [
        state("a", 4, Status.FAILED, error="It broke."),
        state("b", 5, Status.FAILED, failed=10, current_video=10, error="last"),
        state("c", 6, Status.COMPLETED_WITH_ERRORS, failed=1, current_video=10, error="last"),
    ]
    assert hear(mirror, *ends) == seqs(ends)


def test_while_history_is_asked_everything_of_the_job_waits_and_nothing_of_others() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("b", 2), state("a", 5, failed=3, error="three"))
    assert hear(mirror, state("b", 6), state("a", 7, failed=4, error="four")) == [("b", 6)]
    told = [state("a", seq, failed=seq - 2, error=str(seq)) for seq in (3, 4, 5)]
    assert fill_in(mirror, "a", *told) == [("a", 3), ("a", 4), ("a", 5), ("a", 7)]


def test_history_in_pages_is_handed_on_page_by_page_and_then_what_waited() -> None:
    mirror = connected()
    hear(
        mirror,
        state("a", 1),
        state("a", 6, failed=3, error="three"),
        state("a", 7, failed=3, progress=9, error="three"),
    )
    early = [state("a", 2, failed=1, error="one"), state("a", 3, failed=2, error="two")]
    assert fill_in(mirror, "a", *early, whole=False) == [("a", 2), ("a", 3)]
    assert dict(mirror.missed) == {"a": 3}
    late = [state("a", 4, failed=2, progress=2, error="two"), state("a", 5, failed=3, error="three")]
    assert fill_in(mirror, "a", *late) == [("a", 4), ("a", 5), ("a", 6), ("a", 7)]
    assert not mirror.missed


def test_what_was_reduced_again_while_history_was_asked_is_asked_again() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 3, failed=2, error="two"))
    hear(mirror, state("a", 9, failed=5, error="five"))
    assert fill_in(mirror, "a", state("a", 2, failed=1, error="one")) == [("a", 2), ("a", 3)]
    assert dict(mirror.missed) == {"a": 3}
    told = [state("a", seq, failed=seq - 1, error=str(seq)) for seq in (4, 5)]
    assert fill_in(mirror, "a", *told) == [("a", 4), ("a", 5), ("a", 9)]
    assert not mirror.missed


def test_history_that_has_no_more_to_say_is_not_asked_for_ever() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 5, failed=3, error="e"), state("a", 9, failed=7, error="e"))
    assert [fill_in(mirror, "a"), fill_in(mirror, "a")] == [[("a", 5)], [("a", 9)]]
    assert not mirror.missed


def test_history_may_be_ahead_of_the_socket() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 5, failed=3, error="e"))
    end = state("a", 9, Status.COMPLETED_WITH_ERRORS, failed=3, current_video=10, error="e")
    assert fill_in(mirror, "a", end) == [("a", 5), ("a", 9)]
    assert hear(mirror, state("a", 8, failed=3), end) == []
    assert shown(mirror) == {"a": 9}


def test_without_history_what_was_held_back_is_handed_on_all_the_same() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 5, failed=3, error="e"), state("a", 6, failed=4, error="f"))
    assert seqs(mirror.give_up("a")) == [("a", 5), ("a", 6)]
    assert (dict(mirror.missed), shown(mirror)) == ({}, {"a": 6})
    assert hear(mirror, state("a", 7, failed=4, error="f")) == [("a", 7)]


def test_a_repetition_of_what_was_handed_on_sets_nothing_free() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 5, failed=2, error="two"), state("a", 1))
    assert dict(mirror.missed) == {"a": 1}


def test_an_answer_that_nobody_asked_for_is_no_news_twice() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 2))
    assert fill_in(mirror, "a", state("a", 1), state("a", 2)) == []
    assert fill_in(mirror, "b", state("b", 3)) == []
    assert mirror.give_up("a") == []


def test_of_the_percents_that_wait_only_the_newest_are_kept() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 2, failed=2, error="e"))
    hear(mirror, *(state("a", 3 + step, failed=2, error="e", progress=step % 100) for step in range(1000)))
    hear(mirror, state("a", 2000, failed=3, error="f"), state("a", 2001, failed=3, error="f", progress=99))
    assert fill_in(mirror, "a") == [("a", seq) for seq in (2, 1002, 2000, 2001)]


# What was missed while away


def test_a_new_job_is_whole_and_one_that_has_seen_errors_is_asked_for_from_its_beginning() -> None:
    mirror = connected()
    jobs = [
        state("new", 1, Status.PENDING),
        state("well", 2, progress=50),
        state("failing", 3, failed=1, error="e"),
        state("again", 4, attempt=2),
        state("broken", 5, Status.FAILED, error="It broke."),
    ]
    assert hear(mirror, *jobs) == [("new", 1), ("well", 2)]
    assert dict(mirror.missed) == {"failing": 0, "again": 0, "broken": 0}
    assert fill_in(mirror, "failing", state("failing", 1), jobs[2]) == [("failing", 1), ("failing", 3)]


def test_on_the_default_format_every_job_is_in_doubt_until_it_is_heard_again() -> None:
    mirror = connected()
    hear(mirror, state("same", 1), state("moved", 2), state("left", 3))
    mirror.connected()
    assert dict(mirror.missed) == {"same": 1, "moved": 2, "left": 3}
    assert hear(mirror, state("same", 1), state("moved", 9, progress=70)) == [("moved", 9)]
    assert dict(mirror.missed) == {"left": 3}
    assert fill_in(mirror, "left", state("left", 8, Status.COMPLETED)) == [("left", 8)]
    assert mirror.jobs["left"].status == "completed"


def test_an_old_state_that_is_repeated_takes_no_doubt_away() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 2))
    mirror.connected()
    hear(mirror, state("a", 1))
    assert dict(mirror.missed) == {"a": 2}


def test_once_heard_again_one_step_is_enough() -> None:
    mirror = connected()
    hear(mirror, state("a", 1))
    mirror.connected()
    assert hear(mirror, state("a", 1), state("a", 2, failed=1, error="e")) == [("a", 2)]


def test_history_that_has_begun_to_answer_is_read_to_its_end() -> None:
    mirror = connected()
    hear(mirror, state("a", 1))
    mirror.connected()
    fill_in(mirror, "a", state("a", 4), whole=False)
    assert hear(mirror, state("a", 9, progress=4)) == []
    rest = [state("a", 6, Status.PENDING), state("a", 7)]
    assert fill_in(mirror, "a", *rest) == [("a", 6), ("a", 7), ("a", 9)]


def test_on_batches_only_what_the_server_tells_is_in_doubt() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("same", 1), state("moved", 2), state("ended", 3)))
    mirror.connected()
    assert not mirror.missed
    news = hear_batch(mirror, batch(4, 9, state("moved", 8, progress=70), state("ended", 9, Status.COMPLETED)))
    assert (news, dict(mirror.missed)) == ([("moved", 8)], {"ended": 3})


def test_after_the_first_batch_of_a_connection_one_step_is_enough() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 1)))
    mirror.connected()
    assert hear_batch(mirror, batch(4, 5), batch(5, 6, state("a", 6, failed=1, error="e"))) == [("a", 6)]


def test_the_first_state_on_a_new_connection_is_held_back_when_an_error_may_have_come_before_it() -> None:
    mirror = connected()
    hear(mirror, state("a", 1))
    mirror.connected()
    assert hear(mirror, state("a", 9, failed=1, error="e", progress=50)) == []
    assert fill_in(mirror, "a", state("a", 5, failed=1, error="e")) == [("a", 5), ("a", 9)]


def test_a_job_with_an_error_is_asked_for_also_when_it_carries_the_same_words_as_before() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 2, error="no space left"))
    mirror.connected()
    assert hear(mirror, state("a", 9, error="no space left")) == []
    between = [state("a", 5, error="no network"), state("a", 6, error="no space left")]
    assert fill_in(mirror, "a", *between) == [("a", 5), ("a", 6), ("a", 9)]


def test_a_job_that_is_in_doubt_again_while_it_waits_is_asked_from_the_same_place() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("a", 4, failed=2, error="two"))
    mirror.connected()
    hear(mirror, state("a", 9, failed=3, error="three", progress=60))
    assert dict(mirror.missed) == {"a": 1}
    early = [state("a", 3, failed=1, error="one"), state("a", 4, failed=2, error="two")]
    assert fill_in(mirror, "a", *early) == [("a", 3), ("a", 4)]
    assert fill_in(mirror, "a", state("a", 7, failed=3, error="three")) == [("a", 7), ("a", 9)]


def test_a_job_that_was_removed_before_its_end_was_heard_leaves_at_once_and_its_end_is_asked_for() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3)))
    mirror.connected()
    hear_batch(mirror, batch(4, 9, removed=["a"]))
    assert (shown(mirror), dict(mirror.missed)) == ({}, {"a": 3})
    assert fill_in(mirror, "a", state("a", 8, Status.COMPLETED)) == [("a", 8)]
    mirror.connected()
    hear_batch(mirror, batch(None, 20))
    assert (shown(mirror), dict(mirror.missed)) == ({}, {})


def test_a_job_that_comes_back_before_history_has_answered_is_shown() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3)), batch(4, 9, removed=["a"]))
    hear_batch(mirror, batch(9, 12, state("a", 12, Status.PENDING, attempt=2)))
    assert shown(mirror) == {"a": 12}
    assert fill_in(mirror, "a", state("a", 8, Status.FAILED, error="e")) == [("a", 8)]
    assert fill_in(mirror, "a") == [("a", 12)]


def test_a_job_that_ended_before_and_was_removed_while_away_may_have_been_retried() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)))
    mirror.connected()
    hear_batch(mirror, batch(4, 9, removed=["a"]))
    assert dict(mirror.missed) == {"a": 3}


def test_a_removal_while_something_is_held_back_waits_with_it() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3)))
    end = state("a", 8, Status.FAILED, failed=10, current_video=10, error="ten")
    hear_batch(mirror, batch(4, 8, end), batch(8, 9, removed=["a"]))
    assert (shown(mirror), dict(mirror.missed)) == ({}, {"a": 3})
    assert fill_in(mirror, "a", state("a", 7, failed=9, error="nine"), end) == [("a", 7), ("a", 8)]
    assert not mirror.missed


def test_a_job_whose_history_is_gone_too_is_forgotten() -> None:
    mirror = connected()
    hear(mirror, state("a", 3))
    mirror.connected()
    assert mirror.give_up("a", gone=True) == []
    assert shown(mirror) == {}


def test_a_job_that_comes_back_goes_on_where_it_left() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)), batch(4, 5, removed=["a"]))
    again = state("a", 9, Status.PENDING, attempt=2)
    assert hear_batch(mirror, batch(5, 9, again)) == []
    assert (shown(mirror), dict(mirror.missed)) == ({"a": 9}, {"a": 3})


# Forgetting by the client's own clock


@pytest.mark.parametrize("status", sorted(frozenset(Status) - UNFINISHED))
def test_a_job_that_ended_is_forgotten_when_its_time_is_over(status: Status) -> None:
    mirror = connected()
    mirror.hear(frame(state("a", 1)), at=ERA)
    mirror.hear(frame(state("a", 2, status)), at=LATER)
    ttl = timedelta(days=1) if status in WITH_FAILURES else timedelta(minutes=5)
    assert mirror.expire(LATER + ttl - timedelta(seconds=1)) == []
    assert mirror.expire(LATER + ttl) == ["a"]
    assert shown(mirror) == {}


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_an_unfinished_job_is_never_forgotten(status: Status) -> None:
    mirror = connected()
    hear(mirror, state("a", 1, status))
    assert mirror.expire(ERA + timedelta(days=1000)) == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_differs_from_the_servers_forgets_neither_sooner_nor_later(hours: int) -> None:
    mirror, here = connected(), ERA + timedelta(hours=hours)
    mirror.hear(frame(state("a", 1, Status.COMPLETED, updated_at=ERA)), at=here)
    assert mirror.expire(here + timedelta(seconds=299)) == []
    assert mirror.expire(here + timedelta(seconds=300)) == ["a"]


def test_what_was_forgotten_is_not_brought_back_by_a_repetition() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    hear(mirror, end)
    mirror.expire(ERA + timedelta(minutes=5))
    mirror.connected()
    assert hear(mirror, end) == []
    assert (shown(mirror), dict(mirror.missed)) == ({}, {})


def test_a_repetition_of_the_end_does_not_make_it_stay() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    mirror.hear(frame(end), at=ERA)
    mirror.hear(frame(end), at=LATER)
    mirror.hear(frame(state("a", 2, Status.COMPLETED, name="renamed")), at=LATER)
    assert mirror.expire(ERA + timedelta(minutes=5)) == ["a"]


def test_a_retried_job_starts_its_time_anew() -> None:
    mirror = connected()
    mirror.hear(frame(state("a", 1, Status.COMPLETED)), at=ERA)
    mirror.hear(frame(state("a", 9, Status.COMPLETED, attempt=2)), at=LATER)
    mirror.fill_in("a", [], at=LATER)
    assert mirror.expire(ERA + timedelta(minutes=5)) == []


def test_what_history_has_to_answer_for_is_not_forgotten_before() -> None:
    mirror = connected()
    hear(mirror, state("a", 1, Status.FAILED, failed=10, error="e"))
    assert mirror.expire(ERA + timedelta(days=2)) == []
    mirror.give_up("a")
    assert mirror.expire(ERA + timedelta(days=2)) == ["a"]


def test_on_batches_a_server_that_speaks_says_what_leaves() -> None:
    mirror = connected()
    hear_batch(mirror, batch(None, 4, state("a", 3, Status.COMPLETED)))
    mirror.hear("pong", at=ERA + timedelta(hours=1))
    assert mirror.expire(ERA + timedelta(hours=1, seconds=299)) == []


def test_on_batches_a_long_silence_forgets_and_the_next_connection_begins_with_a_snapshot() -> None:
    mirror, end = connected(), state("a", 3, Status.COMPLETED)
    hear_batch(mirror, batch(None, 4, end))
    assert mirror.expire(ERA + timedelta(minutes=5)) == ["a"]
    assert mirror.position is None
    mirror.connected()
    assert hear_batch(mirror, batch(None, 4, end)) == []
    assert shown(mirror) == {"a": 3}


# Monitored jobs


def test_from_the_first_call_on_only_monitored_jobs_are_kept() -> None:
    mirror = connected()
    hear(mirror, state("a", 1), state("b", 2), state("c", 3, failed=5, error="e"))
    mirror.monitor("b")
    assert (shown(mirror), dict(mirror.missed)) == ({"b": 2}, {})
    assert hear(mirror, state("a", 4), state("b", 5)) == [("b", 5)]
    mirror.connected()
    assert dict(mirror.missed) == {"b": 5}


def test_a_monitored_job_that_is_not_known_is_asked_for() -> None:
    mirror = connected()
    mirror.monitor("a")
    assert dict(mirror.missed) == {"a": 0}
    assert fill_in(mirror, "a", state("a", 1), state("a", 2, failed=1, error="e")) == [("a", 1), ("a", 2)]
    assert shown(mirror) == {"a": 2}


def test_a_forgotten_job_is_kept_again_when_it_is_monitored() -> None:
    mirror, end = connected(), state("a", 1, Status.COMPLETED)
    hear(mirror, end)
    mirror.expire(ERA + timedelta(minutes=5))
    mirror.monitor("a")
    assert hear(mirror, end) == [("a", 1)]


def test_a_monitored_job_that_nobody_knows_is_no_job() -> None:
    mirror = connected()
    mirror.monitor("a")
    assert mirror.give_up("a", gone=True) == []
    assert (shown(mirror), dict(mirror.missed)) == ({}, {})
    assert hear(mirror, state("a", 1)) == [("a", 1)]


def test_an_unmonitored_job_is_kept_no_more_and_monitored_again_it_starts_anew() -> None:
    mirror = connected()
    mirror.monitor("a")
    hear(mirror, state("a", 1))
    mirror.unmonitor("a")
    assert hear(mirror, state("a", 2)) == []
    assert fill_in(mirror, "a", state("a", 2)) == []
    assert (shown(mirror), dict(mirror.missed)) == ({}, {})
    mirror.monitor("a")
    assert fill_in(mirror, "a", state("a", 1), state("a", 2)) == [("a", 1), ("a", 2)]


def test_without_a_first_monitored_job_nothing_can_be_unmonitored() -> None:
    mirror = connected()
    hear(mirror, state("a", 1))
    mirror.unmonitor("a")
    assert shown(mirror) == {"a": 1}


# Any life of a server, seen over any network


@dataclass
class Told:
    """One tick: updates in order, and what left."""

    seq: int
    updates: list[ProgressUpdate]
    removed: list[str]


@dataclass
class Server:
    """A small model of the server: jobs that change, ticks, history, and what it would send."""

    seq: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    dashboard: dict[str, ProgressUpdate] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    history: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    errors: dict[str, list[ProgressUpdate]] = field(default_factory=dict)

    def change(self, job_id: str, what: str) -> Told:
        """One change of one job, stored and told by a tick of its own."""
        if what == "remove":
            return self._remove(job_id)
        before = self.jobs.get(job_id)
        if before is None:
            return self._tell(a_job(id=job_id), is_kept=True)
        job = CHANGES[what](before, f"{job_id} {self.seq + 1}")
        if job is None or job_id not in self.dashboard:
            return Told(self.seq, [], [])
        is_kept = job.status != before.status or job.error != before.error
        return self._tell(job, is_kept=is_kept, is_error=job.error not in (None, before.error))

    def since(self, position: int) -> Told:
        """Newest states and removals after a position."""
        newest = sorted((update for update in self.dashboard.values() if update.seq > position), key=lambda it: it.seq)
        return Told(self.seq, newest, [job_id for job_id, seq in self.gone.items() if seq > position])

    def _tell(self, job: Job, *, is_kept: bool, is_error: bool = False) -> Told:
        self.seq += 1
        job = self.jobs[job.id] = job.evolve(seq=self.seq)
        update = self.dashboard[job.id] = job.update()
        if is_kept or self.seq % 3 == 0:  # percents are thinned
            self.history.setdefault(job.id, []).append(update)
        if is_error:
            self.errors.setdefault(job.id, []).append(update)
        return Told(self.seq, [update], [])

    def _remove(self, job_id: str) -> Told:
        if job_id not in self.dashboard or not self.jobs[job_id].is_finished:
            return Told(self.seq, [], [])
        self.seq += 1
        del self.dashboard[job_id]
        self.gone[job_id] = self.seq
        return Told(self.seq, [], [job_id])


def result(job: Job, error: str | None) -> Job | None:
    if job.status is not Status.PROCESSING:
        return None
    return job.with_result(video_id="v", error=error, fractions=0, running=0, at=ERA)


def moved(job: Job) -> Job | None:
    return job.moved(fractions=0.5, running=1, at=ERA) if job.status is Status.PROCESSING else None


def became(job: Job, status: Status) -> Job | None:
    if status not in NEXT[job.status]:
        return None
    if not job.is_finished:
        return job.become(status, at=ERA)
    left = job.total_videos - job.failed
    return job.become(status, at=ERA, attempt=job.attempt + 1, failed=0, current_video=left, error=None)


def broken(job: Job, error: str) -> Job | None:
    return job.broken(error, at=ERA) if Status.FAILED in NEXT[job.status] else None


def noted(job: Job, error: str) -> Job | None:
    """An error of the job's own, as jobs that run elsewhere may have it."""
    return job.evolve(error=error) if job.status is Status.PROCESSING else None


CHANGES: dict[str, Callable[[Job, str], Job | None]] = {
    "start": lambda job, _: became(job, Status.PROCESSING),
    "move": lambda job, _: moved(job),
    "good": lambda job, _: result(job, None),
    "fail": result,
    "break": broken,
    "note": noted,
    "wait": lambda job, _: became(job, Status.PENDING),
    "pause": lambda job, _: became(job, Status.PAUSED),
    "cancel": lambda job, _: became(job, Status.CANCELLED),
}


@dataclass
class Client:
    """A mirror at the end of a line that may be cut, lag, repeat and ask."""

    server: Server
    is_batch: bool
    mirror: Mirror = field(default_factory=Mirror)
    line: list[bytes] | None = None
    heard: list[bytes] = field(default_factory=list)
    sent: int = 0
    has_lagged: bool = False
    answers: list[tuple[str, list[ProgressUpdate]]] = field(default_factory=list)
    news: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    ever_missed: int = 0

    def connect(self, *, is_too_old: bool) -> None:
        self.cut()
        self.mirror.connected()
        self.line = []
        position = None if is_too_old or not self.is_batch else self.mirror.position
        self.send(position, self.server.since(position or 0))

    def cut(self) -> None:
        self.line, self.heard, self.answers = None, [], []

    def send(self, prev: int | None, told: Told) -> None:
        """Put what was told on the line: frame by frame, or as a batch in parts of two."""
        if self.line is None:
            return
        if not self.is_batch:
            self.line += map(frame, told.updates)
        elif prev is None:
            self._send_parts(prev, Told(told.seq, told.updates, []))
        elif told.updates or told.removed:
            self._send_parts(prev, told)
        self.sent = told.seq

    def _send_parts(self, prev: int | None, told: Told) -> None:
        assert self.line is not None
        while len(told.updates) > 2:
            part, told = told.updates[:2], replace(told, updates=told.updates[2:])
            self.line.append(batch(prev, part[-1].seq, *part, more=True))
            prev = part[-1].seq
        self.line.append(batch(prev, told.seq, *told.updates, removed=told.removed))

    def lag(self) -> None:
        """Too slow: what was not read yet is reduced to newest states."""
        self.has_lagged = True
        if self.line and self.is_batch and self.mirror.position is not None:
            self.line.clear()
            self.send(self.mirror.position, self.server.since(self.mirror.position))
        elif self.line and not self.is_batch:
            first = msgspec.json.decode(self.line[0], type=ProgressUpdate).seq
            self.line.clear()
            self.send(None, self.server.since(first - 1))

    def read(self) -> None:
        if self.line:
            self.heard.append(self.line.pop(0))
            self.take(self.mirror.hear(self.heard[-1], at=ERA))

    def repeat(self) -> None:
        """The wire may repeat what it said on this connection, but for batches."""
        if self.heard and not self.is_batch:
            self.take(self.mirror.hear(self.heard[len(self.heard) // 2], at=ERA))

    def ask(self) -> None:
        for job_id, after in self.mirror.missed.items():
            if job_id not in {asked for asked, _ in self.answers}:
                rows = self.server.history.get(job_id, [])
                self.answers.append((job_id, [update for update in rows if update.seq > after]))

    def answer(self) -> None:
        if self.answers:
            job_id, rows = self.answers.pop(0)
            if len(rows) > 2:
                self.take(self.mirror.fill_in(job_id, rows[:2], at=ERA, whole=False))
            self.take(self.mirror.fill_in(job_id, rows[2:] if len(rows) > 2 else rows, at=ERA))

    def take(self, updates: list[ProgressUpdate]) -> None:
        for update in updates:
            told = self.news.setdefault(update.job_id, [])
            assert not told or told[-1].seq < update.seq
            told.append(update)
        self.ever_missed += len(self.mirror.missed)

    def settle(self) -> None:
        """Quiet at last: everything is read and asked for.

        The default format tells a slow reader nothing of a job that ended and left meanwhile; a new connection does.
        """
        if self.line is None or (self.has_lagged and not self.is_batch):
            self.connect(is_too_old=False)
        while self.line:
            self.read()
        for _ in range(3):
            self.ask()
            while self.answers:
                self.answer()
        assert not self.mirror.missed


JOBS = st.sampled_from(["a", "b", "c", "d"])
SPEECH = st.sampled_from(
    ["read", "read", "read", "read", "cut", "connect", "reject", "repeat", "ask", "answer", "answer"]
)
FREQUENT = [*CHANGES, "remove", "start", "start", "move", "fail", "fail", "fail", "fail"]
Life = list[tuple[str, str] | str]


def lives(words: st.SearchStrategy[str], changes: list[str]) -> st.SearchStrategy[Life]:
    return st.lists(st.tuples(JOBS, st.sampled_from(changes)) | words, max_size=60)


def live(client: Client, life: Life) -> None:
    client.connect(is_too_old=False)
    newest: dict[str, int] = {}
    for event in life:
        if not isinstance(event, str):
            client.send(client.sent, client.server.change(*event))
        elif event in ("connect", "reject"):
            client.connect(is_too_old=event == "reject")
        else:
            getattr(client, event)()
        now = shown(client.mirror)
        assert all(now[job_id] >= newest.get(job_id, 0) for job_id in now)
        newest |= now
    client.settle()


def assert_it_ends_in_the_servers_state(client: Client) -> None:
    if client.is_batch:
        assert client.mirror.jobs == client.server.dashboard
    assert client.server.dashboard.items() <= client.mirror.jobs.items()
    for job_id, update in client.mirror.jobs.items():
        assert update == client.server.jobs[job_id].update()
        assert client.news[job_id][-1] == update


@settings(max_examples=300, deadline=None)
@given(st.booleans(), lives(SPEECH, FREQUENT))
def test_whatever_is_cut_and_repeated_the_newest_states_and_all_errors_arrive_in_order_once(
    is_batch: bool, life: Life
) -> None:
    client = Client(Server(), is_batch)
    live(client, life)
    assert_it_ends_in_the_servers_state(client)
    for job_id, told in client.news.items():
        assert [error for error in client.server.errors.get(job_id, []) if error not in told] == []


@settings(max_examples=300, deadline=None)
@given(st.booleans(), lives(SPEECH | st.just("lag"), [what for what in FREQUENT if what != "note"]))
def test_a_reader_reduced_to_newest_states_has_the_words_of_all_errors(is_batch: bool, life: Life) -> None:
    client = Client(Server(), is_batch)
    live(client, life)
    assert_it_ends_in_the_servers_state(client)
    for job_id, told in client.news.items():
        words = {update.error for update in told}
        assert [error for error in client.server.errors.get(job_id, []) if error.error not in words] == []


@settings(max_examples=100, deadline=None)
@given(st.booleans(), lives(st.just("read"), [what for what in FREQUENT if what != "wait"]))
def test_over_a_line_that_holds_nobody_has_to_ask(is_batch: bool, life: Life) -> None:
    client = Client(Server(), is_batch)
    live(client, life)
    assert_it_ends_in_the_servers_state(client)
    assert client.ever_missed == 0
