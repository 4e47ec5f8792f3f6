"""When a message is sent, tried again, joined with others, or left for the morning."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from backend.domain.notification import EventKind, NotificationSettings
from backend.domain.sending import (
    GROUP_SECONDS,
    MAX_SINGLE,
    MAX_TEXT_LENGTH,
    QuietHours,
    Verdict,
    Waiting,
    answer_of_status,
    gone_after,
    group_text,
    group_title,
    next_try,
    off_because,
    plan,
    quiet_hours,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def waiting(seq: int, job: str = "", *, tries: int = 0, due: float = 0, group: str | None = None) -> Waiting:
    """Return a delivery of an event of its own; of a job of its own, too, unless one is named."""
    return Waiting(
        event_id=f"event-{seq}",
        job_id=job or f"job-{seq}",
        seq=seq,
        due_at=NOW + timedelta(seconds=due),
        tries=tries,
        group_id=group,
    )


def sent_now(*line: Waiting, **options: object) -> list[list[int]]:
    """Return the places in line of what is sent now, by message."""
    planned = plan(line, now=NOW, **{"groups": False, "room": 100, **options})  # type: ignore[arg-type]
    return [[member.seq for member in unit.members] for unit in planned.units]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_taken(status: int) -> None:
    assert answer_of_status(status).verdict is Verdict.TAKEN


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    answer = answer_of_status(status)
    assert (answer.verdict, answer.error, answer.is_gone) == (Verdict.AGAIN, f"The receiver answered {status}.", False)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 422])
def test_what_is_permanent_ends_it(status: int) -> None:
    answer = answer_of_status(status)
    assert (answer.verdict, answer.is_gone) == (Verdict.ENDED, status in (404, 410))


def test_tries_follow_after_1_10_and_60_seconds() -> None:
    delays = [(at - NOW).total_seconds() for tries in (1, 2, 3) if (at := next_try(tries, NOW)) is not None]
    assert delays == [1, 10, 60]
    assert next_try(4, NOW) is None


def test_a_receiver_that_is_gone_three_times_in_a_row_switches_the_channel_off() -> None:
    gone = 0
    for status in (404, 500, 410):  # what may pass says nothing about it
        gone = gone_after(gone, answer_of_status(status))
        assert off_because("The receiver answered 410.", gone) is None
    gone = gone_after(gone, answer_of_status(410))
    assert off_because("The receiver answered 410.", gone) == (
        "The receiver answered 410, 3 times in a row; correct the address, then switch the channel on again."
    )


def test_a_message_that_is_taken_begins_the_count_again() -> None:
    assert gone_after(2, answer_of_status(200)) == 0


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-01-31T20:59:00Z", None),  # 21:59 in Berlin
        ("2026-01-31T21:00:00Z", "2026-02-01T06:00:00Z"),
        ("2026-02-01T05:59:00Z", "2026-02-01T06:00:00Z"),
        ("2026-02-01T06:00:00Z", None),
        ("2026-03-28T22:00:00Z", "2026-03-29T05:00:00Z"),  # the clocks go forward in this night
    ],
)
def test_quiet_hours_go_over_midnight_in_the_zone_of_the_user(now: str, until: str | None) -> None:
    found = QuietHours(time(22), time(7), BERLIN).until(datetime.fromisoformat(now))
    assert found == (None if until is None else datetime.fromisoformat(until))


def test_quiet_hours_may_lie_within_a_day() -> None:
    quiet = QuietHours(time(12), time(13, 30), UTC)
    assert (quiet.until(NOW), quiet.until(NOW + timedelta(hours=2))) == (NOW + timedelta(hours=1.5), None)


def test_without_hours_there_is_no_quiet() -> None:
    assert quiet_hours(NotificationSettings(), UTC) is None
    assert quiet_hours(NotificationSettings(quiet_from=60, quiet_to=60), UTC) is None


def test_the_zone_of_the_user_goes_before_that_of_the_server() -> None:
    settings = NotificationSettings(quiet_from=22 * 60, quiet_to=7 * 60 + 30, zone="Europe/Berlin")
    assert quiet_hours(settings, UTC) == QuietHours(time(22), time(7, 30), BERLIN)


def test_deliveries_of_several_jobs_are_under_way_at_once() -> None:
    assert sent_now(waiting(1), waiting(2), waiting(3)) == [[1], [2], [3]]


def test_deliveries_of_one_job_keep_their_order() -> None:
    assert sent_now(waiting(1, "a"), waiting(2, "a"), waiting(3, "b")) == [[1], [3]]
    assert sent_now(waiting(2, "a"), waiting(3, "b"), busy={"a"}) == [[3]]


def test_a_try_that_is_not_due_holds_up_its_job_only() -> None:
    line = (waiting(1, "a", tries=1, due=10), waiting(2, "a"), waiting(3, "b"))
    assert sent_now(*line) == [[3]]
    assert plan(line, now=NOW, groups=False, room=9).look_at == NOW + timedelta(seconds=10)


def test_no_more_is_sent_than_there_is_room_for() -> None:
    assert sent_now(*map(waiting, range(5)), room=2) == [[0], [1]]


def test_a_few_events_stay_single() -> None:
    assert sent_now(*map(waiting, range(MAX_SINGLE)), groups=True) == [[0], [1], [2]]


def test_more_than_three_events_become_one() -> None:
    line = tuple(map(waiting, range(4)))
    planned = plan(line, now=NOW, groups=True, room=2)
    assert (planned.units, planned.group) == ((), line)


def test_after_three_messages_the_others_wait_and_become_one() -> None:
    recent = [NOW - timedelta(seconds=seconds) for seconds in (20, 10, 5)]
    line = (waiting(1), waiting(2))
    planned = plan(line, now=NOW, recent=recent, groups=True, room=2)
    assert (planned.units, planned.group) == ((), ())
    assert planned.look_at == recent[0] + timedelta(seconds=GROUP_SECONDS)
    assert plan(line, now=planned.look_at, recent=recent, groups=True, room=2).group == line


def test_programs_get_each_event() -> None:
    assert len(sent_now(*map(waiting, range(50)))) == 50


def test_a_group_is_sent_again_as_it_was() -> None:
    """After a kill, or a try that failed: nothing joins it, and its jobs wait for it."""
    line = (waiting(1, "a", group="g"), waiting(2, "b", group="g"), waiting(3, "b"), waiting(4, "c"))
    assert sent_now(*line, groups=True) == [[1, 2], [4]]


def test_a_message_that_was_tried_joins_no_group() -> None:
    line = (waiting(0, tries=1), *map(waiting, range(1, 6)))
    planned = plan(line, now=NOW, groups=True, room=2)
    assert [unit.members for unit in planned.units] == [line[:1]]
    assert planned.group == line[1:]


def test_several_events_of_one_job_share_a_group_in_order() -> None:
    line = (waiting(1, "a"), waiting(2, "a"), waiting(3, "b"), waiting(4, "c"))
    assert plan(line, now=NOW, groups=True, room=1).group == line


def test_nothing_joins_a_group_past_an_earlier_delivery_of_its_job() -> None:
    line = (waiting(0, "a", tries=1, due=60), waiting(1, "a"), *map(waiting, range(2, 7)))
    assert plan(line, now=NOW, groups=True, room=2).group == line[2:]


def test_a_group_is_told_in_numbers_and_in_as_many_titles_as_fit() -> None:
    assert group_title([EventKind.FAILED] * 9 + [EventKind.STALLED]) == "10 notifications: 9 failed, 1 stalled"
    text = group_text([f"list-{number}.csv: failed" for number in range(2_000)])
    assert len(text) <= MAX_TEXT_LENGTH
    shown = text.splitlines()
    assert shown[-1] == f"and {2_000 - (len(shown) - 1):,} more"
