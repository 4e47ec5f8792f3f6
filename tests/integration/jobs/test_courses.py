"""Forecasts by the sizes of files and earlier results; what was said is stored, and judged at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from pathlib import Path

import msgspec
import pytest

from backend.app import running
from backend.domain.habits import Work
from backend.domain.job import Action, Job, Source
from backend.domain.judgement import SaidForecast
from backend.domain.measures import MeasureKind
from backend.domain.pace import REPAINT_SECONDS, Estimate
from backend.domain.periods import Period, span_of
from backend.errors import Fault
from backend.jobs.courses import Courses
from backend.jobs.forecasts import Forecasts
from backend.jobs.leases import Lease, VideoFinished, VideoStarted
from backend.jobs.submission import Order
from backend.store import Store
from backend.store.statistics import TallyScope
from tests.support.clock import NOON
from tests.support.databases import rows
from tests.support.managed_backend import ADMIN, ANA, SCAN_SECONDS, Managed, open_managed

KIB = 1024
SECONDS_A_KIB = 0.5
PROBE = Work("probe", Source.MEDIA, Order(name="").checked_options())
LARGE_LAST = [20] * 24 + [600] * 2  # KiB


@asynccontextmanager
async def forecasting(managed: Managed, courses: Courses | None = None) -> AsyncIterator[Forecasts]:
    """Yield forecasts that learn during the block; `courses` takes the place of the server's after a restart."""
    courses = courses or managed.courses
    forecasts = Forecasts(
        lambda: managed.queries.watch(by=ADMIN), managed.clock, courses=courses, say=managed.journal.stage_forecast
    )
    async with running(courses.run(), "courses"), running(forecasts.run(), "forecasts"):
        yield forecasts


async def new_job(managed: Managed, name: str, kib: Sequence[int | None]) -> Job:
    """Return a new job over files of these sizes; None: a video without a file."""
    ids = [f"{name}-{number}" for number in range(len(kib))]
    for video_id, size in zip(ids, kib, strict=True):
        if size is not None:
            (managed.sources.media.root / f"{video_id}.mp4").write_bytes(bytes(KIB * size))
    await managed.clock.advance(SCAN_SECONDS)
    return await managed.submit(*ids, name=name)


async def settled(managed: Managed, courses: Courses, job: Job) -> None:
    """Return when the courses know the job."""
    async with asyncio.timeout(10):
        while courses.known(job) is None:
            await managed.journal.durable()
            await asyncio.sleep(0.001)


async def work(managed: Managed, lease: Lease, kib: Sequence[int], *, pace: float = SECONDS_A_KIB) -> None:
    """Finish the next videos, which have these sizes, one after the other."""
    for size in kib:
        video = await anext(managed.leases.pending_videos(lease))
        await managed.report(lease, VideoStarted(video))
        began = managed.clock.now()
        await managed.clock.advance(pace * size)
        result = {"size_bytes": size * KIB}
        await managed.report(lease, VideoFinished(video, began, pace * size, result=result))
        await asyncio.sleep(0)


async def earlier_job(managed: Managed, name: str = "earlier") -> Job:
    """Return a job that ended, over small and large files."""
    kib = [10, 20, 40, 80, 160, 320] * 3
    job = await new_job(managed, name, kib)
    await work(managed, await managed.claim(job), kib)
    return job


async def newest(managed: Managed, forecasts: Forecasts, job: Job) -> Estimate | None:
    await managed.clock.advance(REPAINT_SECONDS)
    return forecasts.of(await managed.stored(job))


async def said_of(managed: Managed, job: Job, attempt: int = 1) -> dict[int, SaidForecast]:
    await managed.journal.durable()
    return {said.stage: said for said in await managed.store.forecasts.of(job.id, attempt)}


async def begun(managed: Managed, name: str, kib: Sequence[int]) -> tuple[Job, Lease]:
    """Submit a job of files of these sizes and claim it, once its sizes are known."""
    job = await new_job(managed, name, kib)
    lease = await managed.claim(job)
    await settled(managed, managed.courses, job)
    return job, lease


async def test_earlier_results_tell_the_end_at_the_start(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        job = await new_job(managed, "tonight", LARGE_LAST)
        await managed.claim(job)
        await settled(managed, managed.courses, job)
        estimate = forecasts.of(await managed.stored(job))
        assert estimate is not None
        assert estimate.seconds == pytest.approx(SECONDS_A_KIB * sum(LARGE_LAST), rel=0.02)


async def test_videos_without_a_file_and_other_options_do_not_count(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        job = await new_job(managed, "tonight", [100, *[None] * 500, 100])
        await managed.claim(job)
        await settled(managed, managed.courses, job)
        estimate = forecasts.of(await managed.stored(job))
        assert estimate is not None
        assert estimate.seconds == pytest.approx(SECONDS_A_KIB * 200, rel=0.02)


async def test_a_first_job_says_nothing_at_its_start(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        job = await new_job(managed, "first", LARGE_LAST)
        lease = await managed.claim(job)
        await settled(managed, managed.courses, job)
        assert forecasts.of(await managed.stored(job)) is None
        await work(managed, lease, LARGE_LAST[:12])
        estimate = await newest(managed, forecasts, job)
        assert estimate is not None
        assert estimate.high > SECONDS_A_KIB * sum(LARGE_LAST[12:]) / 2


async def test_what_is_known_of_a_job_survives_a_restart(managed: Managed) -> None:
    await earlier_job(managed)
    job = await new_job(managed, "tonight", LARGE_LAST)
    async with forecasting(managed) as forecasts:
        lease = await managed.claim(job)
        await settled(managed, managed.courses, job)
        await work(managed, lease, LARGE_LAST[:12], pace=2 * SECONDS_A_KIB)
        before = await newest(managed, forecasts, job)
    after = Courses(managed.store.forecasts, managed.sources, managed.clock, slots=lambda: 1)
    async with forecasting(managed, after) as forecasts:
        await settled(managed, after, job)
        again = await newest(managed, forecasts, job)
    assert before is not None
    assert again is not None
    assert again.seconds == pytest.approx(before.seconds, rel=0.05)
    assert again.seconds == pytest.approx(2 * SECONDS_A_KIB * sum(LARGE_LAST[12:]), rel=0.15)


async def test_what_was_said_is_stored_once_at_each_stage(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:30])
        said = await said_of(managed, job)
        assert sorted(said) == [0, 10, 25, 50]
        lefts = {stage: one.seconds / (20 * SECONDS_A_KIB) for stage, one in said.items()}
        assert [lefts[stage] for stage in (10, 25, 50)] == pytest.approx([36, 30, 20], rel=0.05)
        assert all(one.ended_at is None for one in said.values())
        assert forecasts.of(await managed.stored(job)) is not None


async def test_what_was_said_is_judged_when_the_job_ends(managed: Managed) -> None:
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:20])
        await work(managed, lease, kib[20:], pace=2 * SECONDS_A_KIB)  # slower than foreseen
        said = await said_of(managed, job)
        ended = await managed.stored(job)
        assert said[25].ended_at == ended.finished_at
        assert said[25].real_seconds == pytest.approx(10 * 10 + 20 * 20, rel=0.01)
        assert said[25].error == pytest.approx(0.4, abs=0.03)
        assert said[50].error == pytest.approx(0.5, abs=0.03)


async def test_a_pause_is_no_error_of_what_was_said(managed: Managed) -> None:
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:20])
        await managed.manager.act(job.id, Action.PAUSE, by=ANA)
        await managed.leases.release(lease)
        await managed.journal.durable()
        await managed.clock.advance(7200)
        await managed.manager.act(job.id, Action.RESUME, by=ANA)
        await managed.clock.advance(60)
        lease = await managed.claim(job)
        await work(managed, lease, kib[20:])
        said = await said_of(managed, job)
        assert said[25].paused_seconds == pytest.approx(7260, abs=1)
        assert said[25].error == pytest.approx(0, abs=0.03)


async def test_the_time_in_which_no_server_ran_is_no_error_of_what_was_said(store: Store, tmp_path: Path) -> None:
    kib = [20] * 40
    async with open_managed(store, tmp_path) as killed, forecasting(killed):
        await earlier_job(killed)
        job, lease = await begun(killed, "tonight", kib)
        await work(killed, lease, kib[:20])
    away = (killed.clock.now() - NOON).total_seconds() + 6 * 3600
    async with open_managed(store, tmp_path) as managed:
        await managed.clock.advance(away)
        await managed.manager.recover()
        async with forecasting(managed):
            await managed.clock.advance(60)
            await work(managed, await managed.claim(job), kib[20:])
            said = await said_of(managed, job)
            assert said[25].paused_seconds == pytest.approx(6 * 3600 + 60, abs=1)
            assert said[25].error == pytest.approx(0, abs=0.03)


async def test_a_cancelled_job_is_not_judged(managed: Managed) -> None:
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:12])
        await managed.manager.act(job.id, Action.CANCEL, by=ANA)
        await managed.leases.release(lease)
        said = await said_of(managed, job)
        assert sorted(said) == [0, 10, 25]
        assert {one.ended_at for one in said.values()} == {None}


async def test_each_attempt_is_judged_by_its_own_videos(managed: Managed) -> None:
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:30])
        for _ in range(10):
            video = await anext(managed.leases.pending_videos(lease))
            error = VideoFinished(video, managed.clock.now(), 0.01, error="torn", fault=Fault.PERMANENT)
            await managed.report(lease, error)
        retried = await managed.manager.act(job.id, Action.RETRY, by=ANA)
        assert retried is not None
        lease = await managed.claim(retried)
        await settled(managed, managed.courses, retried)
        await work(managed, lease, kib[:10])
        again = await said_of(managed, job, attempt=2)
        assert again[0].seconds == pytest.approx(10 * 10, rel=0.1)
        assert again[50].error == pytest.approx(0, abs=0.05)


async def test_what_was_said_first_stays(managed: Managed) -> None:
    """A restarted server says the same stage again."""
    job = await new_job(managed, "tonight", [20] * 8)
    lease = await managed.claim(job)

    def said(seconds: float) -> SaidForecast:
        estimate = Estimate(seconds, seconds / 2, seconds * 2, 6.0)
        return SaidForecast.of(estimate, job_id=job.id, attempt=1, stage=25, processor="probe", at=NOON)

    for seconds in (100.0, 900.0):
        managed.journal.stage_forecast(said(seconds))
        await work(managed, lease, [20])
    assert (await said_of(managed, job))[25].seconds == 100.0


async def test_judged_forecasts_count_in_the_statistics(managed: Managed, tmp_path: Path) -> None:
    """What was said at a quarter: of the earlier job, which knew nothing before, and of this one."""
    async with forecasting(managed):
        earlier = await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib[:20])
        await work(managed, lease, kib[20:], pace=2 * SECONDS_A_KIB)
        errors = [(await said_of(managed, one))[25].error or 0 for one in (earlier, job)]
        await managed.store.statistics.count()
    tallies = rows(tmp_path, f"SELECT count, millis FROM rollup WHERE kind = '{MeasureKind.FORECAST}'")
    assert sum(count for count, _ in tallies) == 2
    assert sum(millis for _, millis in tallies) == pytest.approx(100_000 * sum(errors), abs=2)
    assert min(errors) > 0


async def test_judged_forecasts_count_among_those_of_their_list(managed: Managed) -> None:
    """The statistics of one list come from what is stored of its jobs, and not from the tallies."""
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 40
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib, pace=2 * SECONDS_A_KIB)
        error = (await said_of(managed, job))[25].error or 0
    span = span_of(Period.DAY, now=managed.clock.now(), zone=UTC)
    tallies, _ = await managed.store.statistics.tallies(TallyScope(name="tonight"), span)
    assert tallies.whole()[MeasureKind.FORECAST].count == 1
    assert tallies.whole()[MeasureKind.FORECAST].millis == pytest.approx(100_000 * error, abs=2)


async def test_forecasts_that_are_usually_far_off_are_shown_as_ranges(managed: Managed) -> None:
    """Five earlier nights took twice as long as was said at each stage."""
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        kib = [20] * 40
        usual = await new_job(managed, "usual", kib)
        await managed.claim(usual)
        await settled(managed, managed.courses, usual)
        trusted = forecasts.of(await managed.stored(usual))
        assert trusted is not None
        await judged_nights(managed, error=0.8)
        job = await new_job(managed, "tonight", kib)
        await managed.claim(job)
        await settled(managed, managed.courses, job)
        doubted = forecasts.of(await managed.stored(job))
        assert doubted is not None
        assert doubted.high / doubted.low > max(trusted.high / trusted.low, 1.8**2 - 0.01)
        await judged_nights(managed, error=9.0)
        last = await new_job(managed, "last", kib)
        await managed.claim(last)
        await settled(managed, managed.courses, last)
        assert forecasts.of(await managed.stored(last)) is None


async def judged_nights(managed: Managed, *, error: float) -> None:
    """Let forty jobs end for which the first forecast was off by this share."""
    lease = await managed.claim(await new_job(managed, f"nights-{error}", [1] * 40))
    ended = managed.clock.now() + timedelta(seconds=1000)
    for number in range(40):
        seconds = 1000 * (1 + error)
        estimate = Estimate(seconds, seconds, seconds, 1.0)
        said = SaidForecast.of(
            estimate, job_id=f"{error}-{number}", attempt=1, stage=0, processor="probe", at=managed.clock.now()
        )
        managed.journal.stage_forecast(msgspec.structs.replace(said, ended_at=ended))
    await work(managed, lease, [1])


async def test_deleted_jobs_take_what_was_said_along(managed: Managed) -> None:
    async with forecasting(managed):
        await earlier_job(managed)
        kib = [20] * 20
        job, lease = await begun(managed, "tonight", kib)
        await work(managed, lease, kib)
        assert await said_of(managed, job)
        await managed.manager.act(job.id, Action.DELETE, by=ANA)
        while await managed.store.jobs.erase_some(job.id):
            pass
        assert await said_of(managed, job) == {}


async def test_a_list_is_forecast_before_its_start(managed: Managed) -> None:
    """By the sizes of its files, and by earlier results with the same options."""
    nothing = await managed.courses.preview(["tonight-0"], PROBE)
    await earlier_job(managed)
    await new_job(managed, "tonight", LARGE_LAST)
    ids = [f"tonight-{number}" for number in range(len(LARGE_LAST))]
    preview = await managed.courses.preview([*ids, "nowhere"], PROBE)
    assert nothing is None
    assert preview is not None
    assert (preview.videos, preview.size, preview.slots, preview.results) == (26, KIB * sum(LARGE_LAST), 1, 18)
    assert preview.estimate.seconds == pytest.approx(SECONDS_A_KIB * sum(LARGE_LAST), rel=0.02)
    other_options = PROBE._replace(options={**PROBE.options, "max_speed": 2.0})
    assert await managed.courses.preview(ids, other_options) is None


async def test_a_list_is_forecast_as_far_as_such_forecasts_were_true(managed: Managed) -> None:
    await earlier_job(managed)
    await new_job(managed, "tonight", [20] * 40)
    ids = [f"tonight-{number}" for number in range(40)]
    trusted = await managed.courses.preview(ids, PROBE)
    await judged_nights(managed, error=0.8)
    doubted = await managed.courses.preview(ids, PROBE)
    await judged_nights(managed, error=9.0)
    assert await managed.courses.preview(ids, PROBE) is None
    assert trusted is not None
    assert doubted is not None
    assert doubted.estimate.high / doubted.estimate.low > trusted.estimate.high / trusted.estimate.low
    assert doubted.estimate.high >= 1.8 * doubted.estimate.seconds
