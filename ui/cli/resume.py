"""`resume`: continue a paused job."""

from __future__ import annotations

from backend.command import command
from backend.domain.texts import counted
from progress_dashboard.protocol import PAUSE, Status
from ui.cli.client import JobArgument, JobState, connected, find_job, request_action
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('resume 8f3a21c9')}"


def resume(job: JobArgument, data_dir: DataDir = None) -> None:
    """Continue a paused job where it stopped, or withdraw a pending request to pause.

    Does nothing to a job that is not paused.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = request_action(client, before, "resume")
    print(f"{after['name']}: {_outcome(before, after)}")


def _outcome(before: JobState, after: JobState) -> str:
    if before["status"] != Status.PAUSED and before["requested"] != PAUSE:
        return f"the job is {Status(after['status']).words}; there is nothing to resume"
    left = after["total_videos"] - after["current_video"]
    return f"continues, {left:,} of {counted(after['total_videos'], 'video')} to do"
