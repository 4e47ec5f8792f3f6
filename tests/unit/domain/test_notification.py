"""Which changes of a job are events, and who is told of them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.notification import (
    DEFAULTS,
    ENDS,
    Channel,
    ChannelFilter,
    ChannelKind,
    EventKind,
    Notification,
    NotificationSettings,
    event_between,
    event_id,
    event_kinds,
)
from progress_dashboard.protocol import NEXT, Status
from tests.support.clock import NOON
from tests.support.jobs import a_job

ENDED = {
    Status.COMPLETED: EventKind.COMPLETED,
    Status.COMPLETED_WITH_ERRORS: EventKind.WITH_ERRORS,
    Status.FAILED: EventKind.FAILED,
}


def a_channel(**given: object) -> Channel:
    """Return a channel of ana's with the fields that are `given`."""
    usual = {
        "id": "channel",
        "owner_id": "ana",
        "kind": ChannelKind.WEBHOOK,
        "name": "mine",
        "url": "https://hooks.example/t0ken",
        "secret": "s3cret",
        "events": None,
        "only": None,
        "tells_details": False,
        "enabled": True,
        "daily_cap": 100,
        "created_at": NOON,
    }
    return Channel(**{**usual, **given})  # type: ignore[arg-type]


def a_notification(event: EventKind = EventKind.FAILED, **given: object) -> Notification:
    """Return a notification for ana with the fields that are `given`."""
    usual = {"event_id": "event", "user_id": "ana", "job_id": "job", "attempt": 1, "seq": 1, "at": NOON, "job": None}
    return Notification(event=event, **{**usual, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "after"), [(before, after) for before in NEXT for after in sorted(NEXT[before])])
def test_every_move_of_the_state_machine_is_the_event_that_it_says(before: Status, after: Status) -> None:
    earlier, job = a_job(status=before), a_job(status=after)
    assert event_between(earlier, job) is ENDED.get(after)
    reason = "3 failures in a row: The disk is full"
    paused = event_between(earlier, job.evolve(pause_reason=reason))
    assert paused is (EventKind.PAUSED_ITSELF if after is Status.PAUSED else ENDED.get(after))


@pytest.mark.parametrize("status", list(Status))
def test_progress_is_no_event(status: Status) -> None:
    job = a_job(status=status, pause_reason="The disk is full")
    assert event_between(job, job.evolve(progress=50, message="on and on")) is None


@given(st.text(), st.sampled_from(EventKind), st.integers(1, 100), st.text())
def test_an_event_has_one_id_and_others_have_others(subject: str, event: EventKind, attempt: int, user: str) -> None:
    mine = event_id(subject, event, attempt, user)
    assert mine == event_id(subject, event, attempt, user)
    others = {event_id(subject, other, attempt, user) for other in EventKind if other is not event}
    others |= {event_id(subject, event, attempt + 1, user), event_id(subject + "x", event, attempt, user)}
    assert mine not in others
    assert len(others) == len(EventKind) + 1


def test_the_usual_events_are_those_that_need_somebody() -> None:
    assert {EventKind.FAILED, EventKind.WITH_ERRORS, EventKind.STALLED, EventKind.PAUSED_ITSELF} <= DEFAULTS
    assert not DEFAULTS & {EventKind.COMPLETED, EventKind.SLOWER, EventKind.FASTER, EventKind.RECOVERED}
    assert {event.words for event in EventKind} - {""} != set()


def test_names_of_events_of_another_version_are_passed_over() -> None:
    assert event_kinds(["failed", "exploded"]) == {EventKind.FAILED}


@pytest.mark.parametrize(("event", "owner"), list(product(EventKind, ("ana", None))))
def test_a_channel_without_events_is_told_what_its_owner_is(event: EventKind, owner: str | None) -> None:
    told, settings = a_notification(event), NotificationSettings(events=ENDS)
    wanted = DEFAULTS if owner is None else ENDS
    assert a_channel(owner_id=owner).takes(told, a_job(), settings) is (event in wanted)


def test_channels_are_told_of_what_is_theirs_only() -> None:
    job, usual = a_job(name="nightly.csv", owner="ana", processor="probe"), NotificationSettings()
    told = a_notification()
    assert not a_channel(owner_id="ben").takes(told, job, usual)
    assert not a_channel(enabled=False).takes(told, job, usual)
    assert not a_channel(owner_id=None).takes(a_notification(for_all=False), job, usual)
    assert a_channel(events=frozenset()).takes(a_notification(wished=True), job, usual)
    assert not a_channel(owner_id=None, events=frozenset()).takes(a_notification(wished=True), job, usual)
    for name, value in (("name", "nightly.csv"), ("owner", "ana"), ("processor", "probe")):
        assert a_channel(only=ChannelFilter(**{name: value})).takes(told, job, usual)
        assert not a_channel(only=ChannelFilter(**{name: "other"})).takes(told, job, usual)


def test_no_address_and_no_secret_is_in_the_repr_of_a_channel() -> None:
    said = repr(a_channel())
    assert "mine" in said
    assert "t0ken" not in said
    assert "s3cret" not in said
