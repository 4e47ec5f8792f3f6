"""`pause`: pause a job after its running videos."""

from __future__ import annotations

from backend.command import command
from progress_dashboard.protocol import CANCEL, PAUSE, Status
from ui.cli.client import JobArgument, JobState, connected, find_job, request_action
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('pause 8f3a21c9')}"


def pause(job: JobArgument, data_dir: DataDir = None) -> None:
    """Start no further videos of a job. Running videos are finished first.

    Returns after the server has accepted the request. Pausing twice, or too late, is not an error.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = request_action(client, before, "pause")
    print(f"{after['name']}: {_outcome(before, after)}")


def _outcome(before: JobState, after: JobState) -> str:
    if after["requested"] == CANCEL:
        return "the job is being cancelled; nothing was paused"
    is_pausing, is_paused = after["requested"] == PAUSE, after["status"] == Status.PAUSED
    if not (is_pausing or is_paused):
        return f"already {Status(after['status']).words}"
    if before["requested"] == PAUSE or before["status"] == Status.PAUSED:
        return "already paused" if is_paused else "already being paused"
    message: str = after["message"]
    return message[:1].lower() + message[1:]
