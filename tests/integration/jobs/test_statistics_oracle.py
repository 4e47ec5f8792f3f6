"""Random nights: what the statistics say is what a plain count of the raw results says, whatever happened.

Jobs of two users run, fail, pause themselves, are retried, cancelled and deleted; the server is killed between two
ticks, the database refuses ticks, and the clock is set back and ahead.

`python -m tests.integration.jobs.test_statistics_oracle [nights] [--database postgresql]` runs a long round.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from backend.delivery.hub import ProgressHub
from backend.domain.auth import User
from backend.domain.job import Action, Job, Selection
from backend.errors import DashboardError, Fault
from backend.jobs.leases import Lease, VideoFinished
from backend.jobs.outputs import Outputs
from backend.jobs.retention import Erasure
from backend.jobs.statistics import Question, StatisticsQueries
from backend.settings import load_settings
from backend.store.database import Database
from backend.store.tables import USERS
from progress_dashboard.protocol import Status
from tests.support.clock import QuickClock
from tests.support.databases import chosen, new_database
from tests.support.jobs import ERA
from tests.support.managed_backend import (
    ADMIN,
    ANA,
    BEN,
    PAUSE_AFTER_FAILURES,
    Parts,
    RecordingExecutor,
    RefusingStore,
    build_parts,
)
from tests.support.plain_statistics import RawNight, assert_agrees, plain_causes, plain_figures, plain_work

pytestmark = pytest.mark.acceptance  # long rounds

NIGHTS_IN_THE_GATE, NIGHTS_IN_A_ROUND = 30, 2_000
MAX_STEPS = 60
ERRORS = ("The file is cut off.", 'The codec "abc" is unknown.', "Time-out after 30 s.", "HTTP 404 from the source.")
DISK_FULL = "The disk is full."
SLOTS = 2

Step = tuple[str, Any]
EVENING: tuple[Step, ...] = (("submit", (ANA, 9)), ("submit", (BEN, 7)))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.tuples(st.sampled_from([ANA, BEN]), st.integers(1, 6))),
        st.tuples(st.just("claim"), st.integers(0, 5)),
        *[st.tuples(st.just("finish"), st.tuples(st.integers(0, 5), st.integers(1, 8), st.integers(0, 7_200_000)))] * 4,
        st.tuples(st.just("fail"), st.tuples(st.integers(0, 5), st.sampled_from(ERRORS), st.integers(0, 90_000))),
        st.tuples(st.just("disk_full"), st.integers(0, 5)),
        st.tuples(st.just("retry"), st.tuples(st.integers(0, 5), st.booleans())),
        st.tuples(st.just("resume"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("dismiss"), st.integers(0, 5)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        *[st.tuples(st.just("wait"), st.integers(1, 20_000))] * 2,
        st.tuples(st.just("set_clock"), st.integers(-30, 30)),
        st.tuples(st.just("kill"), st.just(None)),
        st.tuples(st.just("refuse"), st.just(None)),
        st.tuples(st.just("fold"), st.just(None)),
        st.tuples(st.just("count"), st.just(None)),
        st.tuples(st.just("erase"), st.just(None)),
    ),
    min_size=10,
    max_size=MAX_STEPS,
)


class NightClock(QuickClock):
    """A clock that is also set ahead and back."""

    def set_by(self, hours: int) -> None:
        self._start += timedelta(hours=hours)


@dataclass
class Night:
    """The parts over one database, from one kill to the next."""

    covered: ClassVar[Counter[str]] = Counter()
    database: Database
    directory: Path
    clock: NightClock = field(default_factory=NightClock)
    raw: RawNight = field(default_factory=RawNight)
    leases: dict[str, Lease] = field(default_factory=dict)
    videos: int = 0

    async def start(self) -> None:
        self.store = RefusingStore(self.database)
        executor = RecordingExecutor(self.store)
        self.parts: Parts = build_parts(self.store, self.directory, executor, self.clock, hub=ProgressHub())
        await self.parts.journal.load()
        self.ticking = asyncio.create_task(self.parts.journal.run())
        await self.parts.manager.recover()
        await self.parts.journal.durable()

    async def end(self) -> None:
        self.parts.journal.close()
        await self.ticking

    async def do(self, step: Step) -> None:
        name, value = step
        with suppress(DashboardError):  # what users may ask too late is refused
            await getattr(self, f"_{name}")(value)
            self.covered[name] += 1

    async def _submit(self, given: tuple[User, int]) -> None:
        owner, number = given
        video_ids = [f"v{self.videos + place}" for place in range(number)]
        self.videos += number
        await self.parts.submit(*video_ids, by=owner)

    async def _claim(self, place: int) -> None:
        job = await self._job(place, Status.PENDING)
        lease = await self.parts.leases.claim(job.id)
        assert lease is not None
        self.leases[job.id] = lease

    async def _finish(self, given: tuple[int, int, int]) -> None:
        place, number, millis = given
        for _ in range(number):
            await self._report(place, millis=millis, result={"duration_seconds": millis % 977 / 10, "frames": 3})

    async def _fail(self, given: tuple[int, str, int]) -> None:
        place, error, millis = given
        await self._report(place, millis=millis, error=error, fault=Fault.PERMANENT)

    async def _disk_full(self, place: int) -> None:
        for _ in range(PAUSE_AFTER_FAILURES):
            await self._report(place, millis=1000, error=DISK_FULL, fault=Fault.MACHINE)
        await self._release(await self._job(place, Status.PROCESSING))

    async def _report(self, place: int, *, millis: int, **outcome: Any) -> None:
        with suppress(DashboardError):
            await self._claim(place)
        job = await self._job(place, Status.PROCESSING)
        lease = self.leases[job.id]
        async for video in self.parts.leases.pending_videos(lease):
            started_at = self.clock.now() - timedelta(milliseconds=millis)
            self.parts.leases.record(lease, VideoFinished(video, started_at, millis / 1000, **outcome))
            return

    async def _release(self, job: Job) -> None:
        await self.parts.leases.release(self.leases[job.id])

    async def _retry(self, given: tuple[int, bool]) -> None:
        place, everything = given
        job = await self._job(place, Status.FAILED, Status.COMPLETED_WITH_ERRORS, Status.COMPLETED, Status.CANCELLED)
        selection = Selection(everything=everything)
        await self.parts.manager.act(job.id, Action.RETRY, by=ADMIN, selection=selection)

    async def _resume(self, place: int) -> None:
        job = await self._job(place, Status.PAUSED)
        await self.parts.manager.act(job.id, Action.RESUME, by=ADMIN)

    async def _cancel(self, place: int) -> None:
        job = await self._job(place, Status.PENDING, Status.PROCESSING, Status.PAUSED)
        await self.parts.manager.act(job.id, Action.CANCEL, by=ADMIN)
        if job.status is Status.PROCESSING:
            await self._release(job)

    async def _dismiss(self, place: int) -> None:
        job = await self._job(place, Status.COMPLETED, Status.FAILED, Status.COMPLETED_WITH_ERRORS)
        await self.parts.manager.act(job.id, Action.DISMISS, by=ADMIN)

    async def _delete(self, place: int) -> None:
        job = await self._job(place, Status.COMPLETED, Status.FAILED, Status.COMPLETED_WITH_ERRORS, Status.CANCELLED)
        await self.parts.journal.durable()
        self.raw.remember(self.database, job.id)
        await self.parts.manager.act(job.id, Action.DELETE, by=ADMIN)
        await self.parts.journal.durable()

    async def _wait(self, seconds: int) -> None:
        await self.clock.advance(seconds)

    async def _set_clock(self, hours: int) -> None:
        self.clock.set_by(hours)

    async def _kill(self, _: None) -> None:
        self.ticking.cancel()  # what is staged is lost
        await asyncio.gather(self.ticking, return_exceptions=True)
        self.leases.clear()
        await self.start()

    async def _refuse(self, _: None) -> None:
        self.store.refuse()
        await asyncio.sleep(0.01)
        self.store.accept()

    async def _count(self, _: None) -> None:
        await self.store.statistics.count()

    async def _erase(self, _: None) -> None:
        erasure = Erasure(self.store, Outputs(self.directory / "outputs"), load_settings(), self.clock)
        await erasure.run_once()

    async def _fold(self, _: None) -> None:
        while await self.store.statistics.fold(before=self.clock.now() - timedelta(hours=3)):
            pass

    async def _job(self, place: int, *statuses: Status) -> Job:
        await self.parts.journal.durable()
        jobs = [job for job in (await self.parts.queries.jobs(by=ADMIN)).items if job.status in statuses]
        if not jobs:
            raise DashboardError
        return jobs[place % len(jobs)]

    async def assert_true(self) -> None:
        await self.parts.journal.durable()
        jobs = self.raw.jobs(self.database)
        accounts: Any = None  # nobody asks for another user here
        queries = StatisticsQueries(
            self.store.statistics,
            self.parts.hub,
            accounts,
            load_settings(time_zone="UTC"),
            self.clock,
            slots=lambda: SLOTS,
        )
        await queries.mark()
        now = self.clock.now()
        for hours in (3, 30, 300, 3_000):
            for by, owned in ((ADMIN, jobs), (ANA, {key: job for key, job in jobs.items() if job.owner_id == "ana"})):
                found = await queries.of(Question(begin=now - timedelta(hours=hours), end=now), by=by)
                begin, end = found.span.begin, found.span.end
                expected = plain_figures(owned, begin, end)
                for name, (exact, n) in expected.items():
                    assert found.figures[name].n == n, f"n of {name}"
                    assert_agrees(found.figures[name].value, exact, name)
                _assert_shares(found, owned)
                assert sum(part.videos for part in found.bins) == found.figures["videos"].n
                exact_causes = plain_causes(owned, begin, end)
                assert {cause.fingerprint: (cause.videos, cause.jobs) for cause in found.causes} == exact_causes
                self.covered["videos"] += found.figures["videos"].n
                self.covered["retries"] += found.figures["retries_helped"].n


def _assert_shares(found: Any, owned: dict[str, Any]) -> None:
    span, videos = found.span, found.figures["videos"]
    if videos.value is not None:
        assert found.figures["videos_per_hour"].value == pytest.approx(videos.n / span.hours)
    work = plain_work(owned, span.begin, span.end)
    busy = found.figures["slots_busy"].value
    if busy is not None:
        assert 0 <= busy <= 1
        assert (busy == 0) == (work == 0)


def a_night(directory: Path, happens: list[Step]) -> None:
    """Let all of it happen, and compare."""

    async def whole() -> None:
        database = new_database(directory / "dashboard.sqlite3")
        users = [
            {"id": name, "name": name, "is_admin": False, "disabled": False, "created_at": ERA}
            for name in ("ana", "ben")
        ]
        database.write_now(lambda connection: connection.execute(insert(USERS), users))
        (directory / "media").mkdir()
        night = Night(database, directory)
        await night.start()
        try:
            for step in (*EVENING, *happens):
                await night.do(step)
            await night.assert_true()
        finally:
            await night.end()
            database.close()

    asyncio.run(whole())


def explore(nights: int, *, derandomize: bool = False) -> None:
    """Run so many random nights, always the same ones if they are derandomized."""

    @settings(
        max_examples=nights,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(steps)
    def run(happens: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            a_night(Path(directory), happens)

    run()


def test_the_statistics_are_what_the_raw_results_say() -> None:
    Night.covered.clear()
    explore(NIGHTS_IN_THE_GATE, derandomize=True)
    missing = {"submit", "finish", "retry", "kill", "delete", "set_clock", "refuse", "videos"} - set(Night.covered)
    assert not missing, f"no night had {missing}"


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as rest:
        explore(int(rest[0]) if rest else NIGHTS_IN_A_ROUND)
    print(dict(Night.covered))
