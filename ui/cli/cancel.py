"""`cancel`: stop a job for good."""

from __future__ import annotations

import httpx

from backend.command import command
from backend.domain.texts import counted
from backend.domain.video import VideoStatus
from progress_dashboard.protocol import CANCEL, Status
from ui.cli.client import JobArgument, JobState, checked, connected, find_job, request_action
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('cancel 8f3a21c9')}"
MAX_COUNTED_VIDEOS = 1_000


def cancel(job: JobArgument, data_dir: DataDir = None) -> None:
    """Stop a job for good. Running videos are stopped; finished videos keep their results.

    Returns after the server has accepted the request. The job becomes cancelled after all its processes have exited.
    Cancelling twice, or too late, is not an error.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        running = _count_running(client, before)
        after = request_action(client, before, "cancel")
    print(f"{after['name']}: {_outcome(before, after, running)}")


def _count_running(client: httpx.Client, job: JobState) -> int:
    query: dict[str, str | int] = {"status": VideoStatus.PROCESSING.value, "limit": MAX_COUNTED_VIDEOS}
    return len(checked(client.get(f"/api/jobs/{job['job_id']}/videos", params=query)).json()["items"])


def _outcome(before: JobState, after: JobState, running: int) -> str:
    status = Status(after["status"])
    done = f"{after['current_video']:,} of {counted(after['total_videos'], 'video')} done"
    if after["requested"] == CANCEL:
        if before["requested"] == CANCEL:
            return "already being cancelled"
        return f"cancelling: {counted(running, 'running video')} {'is' if running == 1 else 'are'} stopped, {done}"
    if status is Status.CANCELLED and not (before["status"] == status or before["requested"] == CANCEL):
        return f"cancelled, {done}"
    return f"already {status.words}"
