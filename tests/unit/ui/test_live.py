"""What the live room tells of a job: all of its card once, and from then on what is other on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from backend.delivery.hub import Change, Removal, View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.pace import Estimate
from progress_dashboard.protocol import Status
from tests.support.jobs import ERA, a_job
from ui.live import Known, Room

ANA = User(id="ana", name="ana", is_admin=False)


@dataclass
class Circumstances:
    """What is known of the jobs besides, as a test sets it."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    stalled: dict[str, datetime] = field(default_factory=dict)

    @property
    def known(self) -> Known:
        return Known(lambda job: None, lambda job: self.estimates.get(job.id), lambda job: self.stalled.get(job.id))


def running(**facts: Any) -> Job:
    return a_job(status=Status.PROCESSING, **facts)


def view(*jobs: Job, removed: tuple[str, ...] = (), snapshot: bool = False) -> View:
    gone = [Removal(job_id, "ana", 9) for job_id in removed]
    return View(prev=1, seq=9, snapshot=snapshot, entries=(*map(Change, jobs), *gone))


def told(room: Room, *jobs: Job, known: Known | None = None, **of_view: Any) -> list[dict[str, Any]]:
    return [dict(card) for card in room.renew(room.take(view(*jobs, **of_view)), known or Circumstances().known)]


def test_a_job_is_told_whole_once_and_then_only_what_is_other() -> None:
    room = Room(ANA)
    first, *_ = told(room, running(message="Working"))
    assert first["name"] == "list.csv"
    assert first["leaves"] is None
    later, *_ = told(room, running(message="Working", progress=10, current_video=1, video_id="a"))
    assert later["progress"] == 10
    assert "name" not in later
    assert "leaves" not in later
    assert room.cards[later["id"]] == {**first, **later}


def test_what_is_no_longer_so_is_told_as_well() -> None:
    room = Room(ANA)
    told(room, running(error="Cut off", failed=1, current_video=1))
    retried, *_ = told(room, running(current_video=0))
    assert (retried["error"], retried["failed"]) == (None, "")


def test_a_snapshot_tells_everything_anew_and_forgets_what_is_not_in_it() -> None:
    room = Room(ANA)
    told(room, running(), running(id="gone"))
    again, *_ = told(room, running(), snapshot=True)
    assert again["name"] == "list.csv"
    assert list(room.cards) == list(room.jobs) == [again["id"]]


def test_a_removed_job_is_told_no_more() -> None:
    room = Room(ANA)
    told(room, running())
    assert told(room, running(progress=5), removed=(running().id,)) == []
    assert room.cards == {}


def test_time_alone_makes_a_card_untrue_when_its_job_stands_still_or_gets_slower() -> None:
    circumstances, room, job = Circumstances(), Room(ANA), running()
    told(room, job, known=circumstances.known)
    assert not room.is_behind(job, circumstances.known)
    circumstances.estimates[job.id] = Estimate(960, 900, 1000, 18.2)
    assert room.is_behind(job, circumstances.known)
    room.renew([job], circumstances.known)
    assert not room.is_behind(job, circumstances.known)
    circumstances.stalled[job.id] = ERA - timedelta(minutes=4)
    assert room.is_behind(job, circumstances.known)
    assert room.renew([job], circumstances.known) == [
        {"id": job.id, "stalled": room.cards[job.id]["stalled"], "rank": 0}
    ]
    assert room.headline == "1 job running, 1 needs attention."
