"""`cancel`: stop a job for good."""

from __future__ import annotations

import httpx

from backend.command import command
from backend.domain.texts import counted
from backend.domain.video import VideoStatus
from progress_dashboard.protocol import CANCEL, Status
from ui.cli.client import JobArgument, JobState, ask, checked, connected, find_job
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('cancel 8f3a21c9')}"
MAX_COUNTED_VIDEOS = 1_000


def cancel(job: JobArgument, data_dir: DataDir = None) -> None:
    """Stop a job for good: its running videos are ended, what is done stays.

    Returns once the server has noted it; the job is cancelled when all its processes are dead. Twice, or too late, is
    not an error.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        running = _count_running(client, before)
        after = ask(client, before, "cancel")
    print(f"{after['name']}: {_said(before, after, running)}")


def _count_running(client: httpx.Client, job: JobState) -> int:
    query: dict[str, str | int] = {"status": VideoStatus.PROCESSING.value, "limit": MAX_COUNTED_VIDEOS}
    return len(checked(client.get(f"/api/jobs/{job['job_id']}/videos", params=query)).json()["items"])


def _said(before: JobState, after: JobState, running: int) -> str:
    status, place = Status(after["status"]), f"{after['current_video']:,} of {counted(after['total_videos'], 'video')}"
    if after["requested"] == CANCEL:
        stopped = f"{counted(running, 'running video')} {'is' if running == 1 else 'are'} stopped"
        return (
            "it is being cancelled already" if before["requested"] == CANCEL else f"cancelling: {stopped}, {place} done"
        )
    if status is Status.CANCELLED and not (before["status"] == status or before["requested"] == CANCEL):
        return f"cancelled, {place} done"
    return f"it is {status.words} already"
