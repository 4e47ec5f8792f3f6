"""The cards of an audience: each is sent whole once, and from then on only its changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from backend.delivery.batches import Change, Removal, View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.pace import Estimate
from progress_dashboard.protocol import Status
from tests.support.jobs import ERA, a_job
from ui.audience import Audience, CardFacts
from ui.nicegui_internals import MethodBroadcast

ANA = User(id="ana", name="ana", is_admin=False)


@dataclass
class Circumstances:
    """The facts of cards that are not in their jobs, as a test sets them."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    stalled: dict[str, datetime] = field(default_factory=dict)

    @property
    def facts(self) -> CardFacts:
        return CardFacts(lambda _: None, lambda job: self.estimates.get(job.id), lambda job: self.stalled.get(job.id))


def an_audience() -> Audience:
    return Audience(ANA, MethodBroadcast())


def running(**facts: Any) -> Job:
    return a_job(status=Status.PROCESSING, **facts)


def view(*jobs: Job, removed: tuple[str, ...] = (), snapshot: bool = False) -> View:
    removals = [Removal(job_id, "ana", 9) for job_id in removed]
    return View(prev=1, seq=9, snapshot=snapshot, entries=(*map(Change, jobs), *removals))


def sent(audience: Audience, *jobs: Job, facts: CardFacts | None = None, **of_view: Any) -> list[dict[str, Any]]:
    """Return what an audience is sent for a view of these jobs."""
    changed = audience.take(view(*jobs, **of_view))
    return [dict(card) for card in audience.renew(changed, facts or Circumstances().facts)]


def test_a_card_is_sent_whole_once_and_then_only_its_changes() -> None:
    audience = an_audience()
    first, *_ = sent(audience, running(message="Working"))
    assert first["name"] == "list.csv"
    assert first["leaves"] is None
    later, *_ = sent(audience, running(message="Working", progress=10, current_video=1, video_id="a"))
    assert later["progress"] == 10
    assert "name" not in later
    assert "leaves" not in later
    assert audience.cards[later["id"]] == {**first, **later}


def test_a_fact_that_is_cleared_is_sent_too() -> None:
    audience = an_audience()
    sent(audience, running(error="Cut off", failed=1, current_video=1))
    retried, *_ = sent(audience, running(current_video=0))
    assert (retried["error"], retried["failed"]) == (None, "")


def test_a_snapshot_sends_whole_cards_and_drops_other_jobs() -> None:
    audience = an_audience()
    sent(audience, running(), running(id="left"))
    again, *_ = sent(audience, running(), snapshot=True)
    assert again["name"] == "list.csv"
    assert list(audience.cards) == list(audience.jobs) == [again["id"]]


def test_a_removed_job_is_no_longer_sent() -> None:
    audience = an_audience()
    sent(audience, running())
    assert sent(audience, running(progress=5), removed=(running().id,)) == []
    assert audience.cards == {}


def test_a_card_becomes_stale_when_its_job_stalls_or_slows_down() -> None:
    circumstances, audience, job = Circumstances(), an_audience(), running()
    sent(audience, job, facts=circumstances.facts)
    assert not audience.is_stale(job, circumstances.facts)
    circumstances.estimates[job.id] = Estimate(960, 900, 1000, 18.2)
    assert audience.is_stale(job, circumstances.facts)
    audience.renew([job], circumstances.facts)
    assert not audience.is_stale(job, circumstances.facts)
    circumstances.stalled[job.id] = ERA - timedelta(minutes=4)
    assert audience.is_stale(job, circumstances.facts)
    assert audience.renew([job], circumstances.facts) == [
        {"id": job.id, "stalled": audience.cards[job.id]["stalled"], "rank": 0}
    ]
    assert audience.headline == "1 job running, 1 needs attention."


def test_after_a_position_changed_cards_are_whole() -> None:
    audience = an_audience()
    sent(audience, running(id="before", seq=4), running(id="after", seq=5))
    whole = [card for card in audience.since(4) if "name" in card]
    assert whole == [audience.cards["after"]]


def test_after_a_position_other_running_jobs_send_what_time_changes() -> None:
    circumstances, audience = Circumstances(stalled={"quiet": ERA}), an_audience()
    quiet, ended = running(id="quiet", seq=4), a_job(id="ended", status=Status.COMPLETED, seq=3)
    sent(audience, quiet, ended, facts=circumstances.facts)
    [facts] = audience.since(4)
    assert facts == {"id": "quiet", "pace": "", "stalled": audience.cards["quiet"]["stalled"], "rank": 0}
    assert facts["stalled"] is not None
