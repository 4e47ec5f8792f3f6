"""`resume`: go on with a paused job."""

from __future__ import annotations

from backend.command import command
from backend.domain.texts import counted
from progress_dashboard.protocol import PAUSE, Status
from ui.cli.client import JobArgument, JobState, ask, connected, find_job
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('resume 8f3a21c9')}"


def resume(job: JobArgument, data_dir: DataDir = None) -> None:
    """Go on with a paused job where it was, or take back the wish to pause it.

    Where nothing is paused, nothing happens.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = ask(client, before, "resume")
    print(f"{after['name']}: {_said(before, after)}")


def _said(before: JobState, after: JobState) -> str:
    if before["status"] != Status.PAUSED and before["requested"] != PAUSE:
        return f"it is {Status(after['status']).words}; there is nothing to resume"
    left = after["total_videos"] - after["current_video"]
    return f"goes on, {left:,} of {counted(after['total_videos'], 'video')} to do"
