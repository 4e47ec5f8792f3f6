"""Problems: what fails over all jobs by newest results, what is remembered and said of causes, retries over jobs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from backend.domain.problem import ProblemPeriod
from backend.domain.video import VideoStatus
from backend.errors import Conflict, Fault, Invalid, NotFound
from backend.jobs.leases import VideoStarted
from backend.jobs.problems import Saying
from backend.store.changes import Tick, VideoChange
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.clock import NOON
from tests.support.job_states import CUT, SLOW
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, finished
from tests.support.problem_desk import CUT_CAUSE, SLOW_CAUSE, Desk


@pytest.fixture
def desk(managed: Managed, tmp_path: Path) -> Desk:
    return Desk.over(managed, tmp_path)


async def test_a_good_morning_has_no_problems(desk: Desk) -> None:
    await desk.ended({"a": None, "b": None})
    assert (await desk.problems.causes(ProblemPeriod.ALL, by=ANA)).items == ()


async def test_causes_are_counted_over_all_jobs_of_a_user(desk: Desk) -> None:
    first = await desk.ended({"a": CUT, "b": CUT, "c": SLOW, "d": None})
    await desk.ended({"e": CUT}, name="second.csv")
    assert await desk.numbers() == {CUT_CAUSE: (3, 2), SLOW_CAUSE: (1, 1)}
    example = (await desk.causes())[SLOW_CAUSE].example
    assert (example.error, example.job_name, example.job_id) == (SLOW, "list.csv", first.id)
    assert (example.video_id, example.position, example.fault) == ("c", 2, Fault.PERMANENT)


async def test_a_video_counts_once_with_its_newest_result(desk: Desk) -> None:
    """The same ID in two lists is one video of its owner, and what it failed for last counts."""
    await desk.ended({"a": CUT, "b": CUT})
    await desk.managed.clock.advance(60)
    await desk.ended({"a": SLOW})
    assert await desk.numbers() == {CUT_CAUSE: (1, 1), SLOW_CAUSE: (1, 1)}


async def test_what_a_retry_mended_is_gone(desk: Desk) -> None:
    job = await desk.ended({"a": CUT, "b": CUT})
    await desk.retried(job, None, CUT)
    assert await desk.numbers() == {CUT_CAUSE: (1, 1)}
    await desk.retried(job, None)
    assert await desk.numbers() == {}


async def test_what_another_job_mended_is_gone(desk: Desk) -> None:
    await desk.ended({"a": CUT, "b": CUT})
    await desk.ended({"a": None, "c": None})
    assert await desk.numbers() == {CUT_CAUSE: (1, 1)}


async def test_a_video_of_another_user_mends_nothing(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    await desk.ended({"a": None}, by=BEN)
    assert (await desk.numbers(), await desk.numbers(BEN)) == ({CUT_CAUSE: (1, 1)}, {})


async def test_users_see_their_own_and_an_administrator_all(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    await desk.ended({"a": CUT, "b": SLOW}, by=BEN)
    assert await desk.numbers() == {CUT_CAUSE: (1, 1)}
    assert await desk.numbers(BEN) == {CUT_CAUSE: (1, 1), SLOW_CAUSE: (1, 1)}
    assert await desk.numbers(ADMIN) == {CUT_CAUSE: (2, 2), SLOW_CAUSE: (1, 1)}


async def test_the_good_videos_of_an_external_job_mend_too(desk: Desk) -> None:
    managed = desk.managed
    await desk.ended({"a": CUT, "b": CUT})
    await managed.clock.advance(60)
    job = await managed.submit("a", "c", processor=EXTERNAL)
    reports = [SenderReport(n=0, current_video=1), SenderReport(n=1, status=Status.COMPLETED)]
    await managed.external.apply_reports(job.id, reports, by=ANA)
    await managed.journal.durable()
    assert await desk.numbers() == {CUT_CAUSE: (1, 1)}


async def test_a_deleted_job_has_no_problems_and_leaves_no_rows(desk: Desk) -> None:
    job = await desk.ended({"a": CUT})
    await desk.managed.manager.delete(job.id, by=ANA)
    assert await desk.numbers() == {}
    while await desk.managed.store.jobs.erase_some(job.id):
        pass
    assert await desk.numbers() == {}
    history = (await desk.ended({"b": CUT}), (await desk.causes())[CUT_CAUSE].history)[1]
    assert history.jobs == 2, "the cause is remembered"


async def test_a_period_takes_the_videos_that_failed_last_in_it(desk: Desk) -> None:
    await desk.ended({"a": CUT, "b": CUT})  # at noon
    await desk.managed.clock.advance(8 * 86_400)
    await desk.ended({"a": CUT})
    seen = {period: await desk.causes(period=period) for period in ProblemPeriod}
    assert seen[ProblemPeriod.ALL][CUT_CAUSE].videos == 2
    # the twin of the lease reports that all work began at noon of the first day
    assert not seen[ProblemPeriod.WEEK]
    assert not seen[ProblemPeriod.NIGHT]


async def test_the_memory_tells_in_how_many_jobs_and_if_retries_helped(desk: Desk) -> None:
    first = await desk.ended({"a": CUT, "b": CUT})
    await desk.retried(first, None, CUT)
    await desk.retried(first, None)
    await desk.ended({"c": CUT})
    history = (await desk.causes())[CUT_CAUSE].history
    assert (history.jobs, history.retried, history.helped) == (2, 3, 2)
    assert history.since == NOON + timedelta(seconds=1.5)


async def test_a_retry_over_jobs_tells_job_by_job(desk: Desk) -> None:
    """Ended jobs are retried, one that runs is refused with the reason, other causes stay as they are."""
    managed = desk.managed
    ended = [await desk.ended({f"{name}-1": CUT, f"{name}-2": SLOW}) for name in ("a", "b")]
    running = await managed.submit("c-1", "c-2")
    lease = await managed.claim(running)
    video = await anext(managed.leases.pending_videos(lease))
    await managed.report(lease, VideoStarted(video), finished(video, CUT))
    many = await desk.problems.retry(CUT_CAUSE, ProblemPeriod.ALL, by=ANA)
    assert sorted(many.done) == sorted(job.id for job in ended)
    [refused] = many.refused
    assert (refused.job_id, "has not ended" in refused.detail) == (running.id, True)
    again = [await managed.stored(job) for job in ended]
    assert [(job.status, job.attempt, job.undone) for job in again] == [(Status.PENDING, 2, 1)] * 2
    assert [len((await managed.queries.timeline(job.id, by=ANA)).actions) for job in again] == [1, 1]


async def test_a_cause_that_is_gone_has_nothing_to_retry(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    await desk.ended({"a": None})
    with pytest.raises(Conflict, match="nothing to retry"):
        await desk.problems.retry(CUT_CAUSE, ProblemPeriod.ALL, by=ANA)
    with pytest.raises(NotFound):
        await desk.problems.retry(CUT_CAUSE, ProblemPeriod.ALL, by=BEN)


async def test_what_is_said_of_a_cause_is_seen_by_all_who_met_it(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    await desk.ended({"b": CUT}, by=BEN)
    until = desk.managed.clock.now() + timedelta(days=2)
    await desk.problems.say(CUT_CAUSE, Saying(note=" The disk of the recorder. ", known_until=until), by=ANA)
    await desk.problems.say(CUT_CAUSE, Saying(claimed=True), by=BEN)
    said = (await desk.causes())[CUT_CAUSE].said
    assert (said.note, said.noted_by, said.known_until, said.known_by) == (
        "The disk of the recorder.",
        "ana",
        until,
        "ana",
    )
    assert (said.claimed_by, said.claimed_at) == ("ben", desk.managed.clock.now())
    assert (await desk.causes(BEN))[CUT_CAUSE].said == said
    taken_back = await desk.problems.say(CUT_CAUSE, Saying(note="", known_until="", claimed=False), by=BEN)
    assert (taken_back.note, taken_back.known_until, taken_back.claimed_by) == (None, None, None)


async def test_nobody_else_can_see_or_change_a_cause(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    for name in (CUT_CAUSE, "0" * 12):
        with pytest.raises(NotFound, match="no such cause"):
            await desk.problems.say(name, Saying(note="hello"), by=BEN)
    await desk.problems.say(CUT_CAUSE, Saying(note="by an administrator"), by=ADMIN)
    assert await desk.causes(BEN) == {}


async def test_a_claim_is_taken_over_and_given_back_by_its_holder_only(desk: Desk) -> None:
    await desk.ended({"a": CUT})
    await desk.ended({"b": CUT}, by=BEN)
    first = await desk.problems.say(CUT_CAUSE, Saying(claimed=True), by=BEN)
    await desk.managed.clock.advance(60)
    assert await desk.problems.say(CUT_CAUSE, Saying(claimed=True), by=BEN) == first, "since then, not since now"
    assert (await desk.problems.say(CUT_CAUSE, Saying(claimed=False), by=ANA)).claimed_by == "ben"
    assert (await desk.problems.say(CUT_CAUSE, Saying(claimed=True), by=ANA)).claimed_by == "ana"
    assert (await desk.problems.say(CUT_CAUSE, Saying(claimed=False), by=ANA)).claimed_by is None


@pytest.mark.parametrize(
    "saying",
    [
        Saying(note="x" * 2_001),
        Saying(note="a\0b"),
        Saying(note="a\ud800b"),
        Saying(known_until=NOON),
        Saying(known_until=NOON + timedelta(days=1_000)),
    ],
)
async def test_what_cannot_be_said_is_refused_in_words(desk: Desk, saying: Saying) -> None:
    await desk.ended({"a": CUT})
    with pytest.raises(Invalid):
        await desk.problems.say(CUT_CAUSE, saying, by=ANA)


async def test_a_known_cause_is_known_until_then_and_not_longer(desk: Desk) -> None:
    await desk.ended({"a": CUT, "b": SLOW})
    now = desk.managed.clock.now()
    await desk.problems.say(CUT_CAUSE, Saying(known_until=now + timedelta(hours=1)), by=ANA)
    assert desk.became_known == [CUT_CAUSE]
    memory, names = desk.managed.store.cause_memory, {CUT_CAUSE, SLOW_CAUSE}
    assert await memory.known(names, at=now) == {CUT_CAUSE}
    assert await memory.known(names, at=now + timedelta(hours=1)) == set()
    problems = await desk.problems.causes(ProblemPeriod.ALL, by=ANA)
    assert (problems.unknown(now), problems.unknown(now + timedelta(hours=1))) == (1, 2)


async def test_the_newest_jobs_of_a_cause_are_named(desk: Desk) -> None:
    first = await desk.ended({"a": CUT, "b": CUT, "c": None}, name="first.csv")
    await desk.managed.clock.advance(60)
    second = await desk.ended({"d": CUT}, by=BEN, name="second.csv")
    found = await desk.problems.jobs(CUT_CAUSE, ProblemPeriod.ALL, by=ADMIN)
    assert {(one.job.id, one.job.name, one.job.owner, one.videos) for one in found} == set()
    await desk.causes()  # counts what ticks noted
    found = await desk.problems.jobs(CUT_CAUSE, ProblemPeriod.ALL, by=ADMIN)
    assert {(one.job.id, one.job.name, one.job.owner, one.videos) for one in found} == {
        (first.id, "first.csv", "ana", 2),
        (second.id, "second.csv", "ben", 1),
    }
    assert [one.job.id for one in await desk.problems.jobs(CUT_CAUSE, ProblemPeriod.ALL, by=BEN)] == [second.id]


async def test_open_pages_are_told_when_something_changed_and_read_once(desk: Desk) -> None:
    """A page waits without asking; results of its user, and what is said of a cause, wake it."""
    news, version = desk.problems.news, desk.problems.news.version(ANA)
    waiting = asyncio.create_task(news.changed(by=ANA, after=version))
    job = await desk.ended({"a": CUT})
    telling = asyncio.create_task(news.run())
    result = VideoChange(job_id=job.id, position=0, status=VideoStatus.FAILED, attempts=1, duration_seconds=1.5)
    news.take(Tick(jobs=[job], videos=[result]))
    async with asyncio.timeout(10):
        version = await waiting
    assert await desk.problems.shown(ProblemPeriod.ALL, by=ANA) is await desk.problems.shown(ProblemPeriod.ALL, by=ANA)
    others = asyncio.create_task(news.changed(by=BEN, after=news.version(BEN)))
    await desk.problems.say(CUT_CAUSE, Saying(claimed=True), by=ANA)
    async with asyncio.timeout(10):
        assert await news.changed(by=ANA, after=version) > version
        await others
    assert (await desk.problems.shown(ProblemPeriod.ALL, by=ANA)).items[0].said.claimed_by == "ana"
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
