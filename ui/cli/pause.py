"""`pause`: begin no more of a job's videos."""

from __future__ import annotations

from backend.command import command
from progress_dashboard.protocol import CANCEL, PAUSE, Status
from ui.cli.client import JobArgument, JobState, ask, connected, find_job
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('pause 8f3a21c9')}"


def pause(job: JobArgument, data_dir: DataDir = None) -> None:
    """Begin no more of a job's videos; those that run are finished first.

    Returns once the server has noted it. Twice, or too late, is not an error.
    """
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = ask(client, before, "pause")
    print(f"{after['name']}: {_said(before, after)}")


def _said(before: JobState, after: JobState) -> str:
    if after["requested"] == CANCEL:
        return "it is being cancelled; nothing was paused"
    is_asked, is_paused = after["requested"] == PAUSE, after["status"] == Status.PAUSED
    if not (is_asked or is_paused):
        return f"it is {Status(after['status']).words} already"
    if before["requested"] == PAUSE or before["status"] == Status.PAUSED:
        return "it is paused already" if is_paused else "it is being paused already"
    message: str = after["message"]
    return message[:1].lower() + message[1:]
