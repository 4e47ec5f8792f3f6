"""Jobs in each state that matters to steering."""

from __future__ import annotations

from backend.domain.job import Job
from progress_dashboard.protocol import EXTERNAL, SenderReport
from tests.support.managed_backend import ANA, Managed

CUT, SLOW = "File is cut off", "It took too long"
UNFINISHED_STATES = ("pending", "processing", "pausing", "cancelling", "paused")
FINISHED_STATES = ("completed", "completed_with_errors", "failed", "cancelled")
STATES = (*UNFINISHED_STATES, *FINISHED_STATES)
SPECIAL_STATES = ("pinned", "off the dashboard", "external pending", "external processing", "external completed")


def state_of(job: Job) -> str:
    """Return the state of `STATES` that the job is in."""
    return {"pause": "pausing", "cancel": "cancelling", None: job.status.value}[job.requested]


async def job_in(managed: Managed, state: str) -> Job:
    """Return a job of Ana's with two videos in one of `STATES` or `SPECIAL_STATES`.

    If the state needs a job that was started, its first video is done.
    """
    if state.startswith("external"):
        return await _external_job(managed, state)
    job = await managed.submit("one", "two")
    match state:
        case "pending":
            return job
        case "paused":
            return await managed.manager.pause(job.id, by=ANA)
        case "completed":
            return await managed.run(job, [None, None])
        case "completed_with_errors":
            return await managed.run(job, [None, CUT])
        case "failed":
            return await managed.run(job, [CUT, CUT])
        case "pinned":
            failed = await managed.run(job, [CUT, CUT])
            return await managed.manager.keep(failed.id, by=ANA)
        case "off the dashboard":
            failed = await managed.run(job, [CUT, CUT])
            return await managed.manager.dismiss(failed.id, by=ANA)
    return await _started_job(managed, job, state)


async def _started_job(managed: Managed, job: Job, state: str) -> Job:
    started = await managed.run(job, [None])
    if state == "processing":
        return started
    if state == "pausing":
        return await managed.manager.pause(job.id, by=ANA)
    cancelling = await managed.manager.cancel(job.id, by=ANA)
    if state == "cancelling":
        return cancelling
    assert state == "cancelled", state
    await managed.leases.release(managed.held[job.id])
    return await managed.stored(job)


async def _external_job(managed: Managed, state: str) -> Job:
    job = await managed.submit("one", "two", processor=EXTERNAL)
    if state != "external pending":
        status = state.removeprefix("external ")
        await managed.external.apply_reports(job.id, [SenderReport(n=1, status=status)], by=ANA)
    return await managed.stored(job)
