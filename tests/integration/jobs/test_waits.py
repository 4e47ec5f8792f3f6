"""Jobs that wait for a machine say so, and why."""

from __future__ import annotations

import msgspec
import pytest

from backend.domain.job import Job
from backend.errors import Fault
from backend.jobs.leases import TryFailed, VideoStarted
from backend.jobs.waits import CHECK_SECONDS, Waits
from progress_dashboard.protocol import EXTERNAL, ProgressUpdate, Status
from progress_dashboard.tasks import running
from tests.support.clock import VirtualClock
from tests.support.managed_backend import ANA, Managed

NONE = "Waiting for a worker: none is connected"


class Waiting:
    """The check of waiting jobs, with the reasons that a test gives, by processor."""

    def __init__(self, managed: Managed) -> None:
        self.reasons: dict[str, str] = {}
        self._managed = managed
        self._waits = Waits(managed.active, self.reasons.get, managed.clock)

    async def check(self, times: int = 2) -> None:
        """Check so many times; by default long enough for a reason to count."""
        for _ in range(times):
            await self._waits.run_once()
        await self._managed.journal.durable()

    def said_of(self, job: Job) -> str:
        """Return what clients read of the job."""
        newest = self._managed.hub.job(job.id)
        assert newest is not None
        return newest.update().message


@pytest.fixture
def waiting(managed: Managed) -> Waiting:
    return Waiting(managed)


async def test_a_job_says_why_no_machine_takes_its_videos_until_one_does(managed: Managed, waiting: Waiting) -> None:
    job = await managed.submit("one", "two")
    waiting.reasons["probe"] = NONE
    await waiting.check()
    assert waiting.said_of(job) == NONE
    waiting.reasons.clear()
    await waiting.check(times=1)
    assert waiting.said_of(job) == "Waiting to start"


async def test_the_reason_is_in_the_history_of_the_job(managed: Managed, waiting: Waiting) -> None:
    job = await managed.submit("one")
    waiting.reasons["probe"] = NONE
    await waiting.check()
    history = await managed.queries.history(job.id, by=ANA)
    assert msgspec.json.decode(history[-1], type=ProgressUpdate).message == NONE


async def test_a_machine_that_connects_again_within_a_second_is_not_missed(managed: Managed, waiting: Waiting) -> None:
    job = await managed.submit("one")
    waiting.reasons["probe"] = NONE
    await waiting.check(times=1)
    waiting.reasons.clear()
    await waiting.check(times=1)
    waiting.reasons["probe"] = NONE
    await waiting.check(times=1)
    assert waiting.said_of(job) == "Waiting to start"


async def test_a_job_whose_videos_still_run_does_not_wait(managed: Managed, waiting: Waiting) -> None:
    lease = await managed.claim(await managed.submit("one", "two"))
    [video, _] = await managed.videos(lease.job)
    waiting.reasons["probe"] = NONE
    await managed.report(lease, VideoStarted(video))
    await waiting.check()
    assert waiting.said_of(lease.job) == "Processing videos..."
    await managed.report(lease, TryFailed(video, "It took too long.", Fault.TRANSIENT, 2.0))
    await waiting.check()
    assert waiting.said_of(lease.job) == NONE


async def test_a_video_that_begins_ends_the_wait_at_once(managed: Managed, waiting: Waiting) -> None:
    lease = await managed.claim(await managed.submit("one"))
    [video] = await managed.videos(lease.job)
    waiting.reasons["probe"] = NONE
    await waiting.check()
    await managed.report(lease, VideoStarted(video))
    assert waiting.said_of(lease.job) == "Processing videos..."


async def test_a_job_waits_only_for_machines_with_its_processor(managed: Managed, waiting: Waiting) -> None:
    job, external = await managed.submit("one"), await managed.submit("one", processor=EXTERNAL)
    waiting.reasons |= {"other": NONE, EXTERNAL: NONE}
    await waiting.check()
    assert [waiting.said_of(each) for each in (job, external)] == ["Waiting to start", "Waiting for the first report"]


async def test_what_a_user_asks_for_is_said_in_place_of_the_reason(managed: Managed, waiting: Waiting) -> None:
    lease = await managed.claim(await managed.submit("one"))
    pending = await managed.submit("two", name="other.csv")
    waiting.reasons["probe"] = NONE
    await waiting.check()
    await managed.manager.pause(lease.job.id, by=ANA)
    paused = await managed.manager.pause(pending.id, by=ANA)
    await waiting.check()
    assert (waiting.said_of(lease.job), waiting.said_of(pending)) == ("Pausing...", "Paused at 0/1")
    assert paused.status is Status.PAUSED


async def test_nothing_is_said_while_machines_connect_after_a_start(managed: Managed) -> None:
    job = await managed.submit("one")
    clock = VirtualClock()
    waits = Waits(managed.active, {"probe": NONE}.get, clock, settling_seconds=10)
    async with running(waits.run(), "waits"):
        await clock.advance(9)
        assert _message(managed, job) == "Waiting to start"
        await clock.advance(1 + CHECK_SECONDS)
        assert _message(managed, job) == NONE


def _message(managed: Managed, job: Job) -> str:
    active = managed.active.get(job.id)
    assert active is not None
    return active.snapshot().update().message
