"""The cards of an audience: each is sent whole once, and from then on only its changes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from backend.delivery.batches import Change, Removal, View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.pace import Estimate
from progress_dashboard.protocol import Status
from tests.support.jobs import ERA, a_job
from ui.audience import UNSEEN_PER_SECOND, Audience, CardFacts
from ui.nicegui_internals import MethodBroadcast
from ui.text import headline, tab_state

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
    return a_job(**{"status": Status.PROCESSING, **facts})


def view(*jobs: Job, removed: tuple[str, ...] = (), snapshot: bool = False) -> View:
    removals = [Removal(job_id, "ana", 9) for job_id in removed]
    return View(prev=1, seq=9, snapshot=snapshot, entries=(*map(Change, jobs), *removals))


def sent(audience: Audience, *jobs: Job, facts: CardFacts | None = None, **of_view: Any) -> list[dict[str, Any]]:
    """Return what an audience is sent for a view of these jobs."""
    audience.take(view(*jobs, **of_view))
    return [dict(card) for card in audience.renew(audience.due(0.0), facts or Circumstances().facts)]


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


def watched(audience: Audience, *ids: str) -> None:
    """Let a tab show these jobs."""
    tab: Any = object()
    audience.show(tab, frozenset(ids), Circumstances().facts)


def due(audience: Audience, now: float = 0.0) -> list[str]:
    return sorted(job.id for job in audience.due(now))


def an_audience_of(count: int) -> Audience:
    """Return an audience that has been sent this many running jobs."""
    audience = an_audience()
    sent(audience, *(running(id=f"job-{number:03}", seq=number + 1) for number in range(count)))
    audience.due(0.0)
    return audience


def get_on(audience: Audience, *ids: str, seq: int = 1_000, **facts: Any) -> None:
    """Let these jobs change, from the position of the audience to `seq`."""
    jobs = [running(id=job_id, seq=seq, **{"progress": 5, **facts}) for job_id in ids]
    audience.take(View(prev=audience.seq, seq=seq, snapshot=False, entries=(*map(Change, jobs),)))


def test_few_changes_are_all_due_at_once() -> None:
    audience = an_audience_of(UNSEEN_PER_SECOND)
    get_on(audience, *audience.jobs)
    assert due(audience) == sorted(audience.jobs)


def test_of_many_changes_those_that_a_tab_shows_are_due_and_of_the_others_so_many_a_second() -> None:
    audience = an_audience_of(2 * UNSEEN_PER_SECOND)
    last = f"job-{2 * UNSEEN_PER_SECOND - 1:03}"
    watched(audience, last)
    get_on(audience, *audience.jobs)
    first = due(audience)
    assert first == [*sorted(audience.jobs)[:UNSEEN_PER_SECOND], last]
    assert due(audience) == []
    assert len(due(audience, now=0.5)) == UNSEEN_PER_SECOND // 2
    assert len(due(audience, now=9.0)) == UNSEEN_PER_SECOND // 2 - 1


@pytest.mark.parametrize(
    "change",
    [
        {"status": Status.FAILED},
        {"failed": 1, "current_video": 1},
        {"error": "Cut off"},
        {"requested": "pause"},
        {"attempt": 2},
        {"pinned": True},
        {"pause_reason": "The disk is full"},
        {"waiting_reason": "Waiting for a worker: none is connected"},
    ],
)
def test_what_a_user_would_miss_never_waits(change: dict[str, Any]) -> None:
    audience = an_audience_of(2 * UNSEEN_PER_SECOND)
    get_on(audience, *audience.jobs)
    audience.due(0.0)
    last = f"job-{2 * UNSEEN_PER_SECOND - 1:03}"
    get_on(audience, last, seq=1_001, **change)
    assert due(audience) == [last]


def test_a_stalled_job_that_gets_on_again_never_waits() -> None:
    circumstances, audience = Circumstances(), an_audience_of(2 * UNSEEN_PER_SECOND)
    circumstances.stalled["job-399"] = ERA
    audience.age(circumstances.facts)
    audience.renew(audience.due(0.0), circumstances.facts)
    get_on(audience, *audience.jobs)
    assert "job-399" in due(audience)


def test_what_a_tab_begins_to_show_is_due_if_it_was_not_sent() -> None:
    audience = an_audience_of(2 * UNSEEN_PER_SECOND)
    get_on(audience, *audience.jobs)
    audience.due(0.0)
    tab: Any = object()
    assert not audience.show(tab, frozenset({"job-000", "unknown"}), Circumstances().facts)
    assert audience.show(tab, frozenset({"job-399"}), Circumstances().facts)
    assert due(audience) == ["job-399"]


def test_a_tab_resumes_before_the_first_change_that_was_not_sent() -> None:
    audience = an_audience_of(UNSEEN_PER_SECOND + 2)
    before = audience.seq
    get_on(audience, *audience.jobs, seq=1_000)
    get_on(audience, "job-000", seq=1_001)
    audience.due(0.0)
    assert (audience.resumable, audience.seq) == (before, 1_001)
    missed = [card["id"] for card in audience.since(audience.resumable) if "name" in card]
    assert missed == list(audience.jobs)
    audience.due(1.0)
    assert audience.resumable == audience.seq


def test_totals_that_are_kept_up_to_date_equal_totals_that_are_counted_again() -> None:
    audience, chance = an_audience(), random.Random(16)
    for _ in range(300):
        job_id = f"job-{chance.randrange(9)}"
        if chance.random() < 0.2:
            audience.take(view(removed=(job_id,)))
        else:
            paused = chance.choice([None, "The disk is full"])
            progress, videos = chance.randrange(100), chance.randrange(1, 50)
            facts = {"progress": progress, "total_videos": videos, "pause_reason": paused}
            facts["waiting_reason"] = chance.choice([None, "Waiting for a worker: none is connected"])
            audience.take(view(a_job(id=job_id, status=chance.choice(list(Status)), **facts)))
        assert audience.headline == headline(audience.jobs.values())
        assert audience.tab_state == tab_state(audience.jobs.values())
