"""`retry`: retry videos of an ended job."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from backend.command import command
from backend.domain.texts import counted
from ui.cli.client import JobArgument, JobState, checked, connected, find_job, request_action
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('retry 8f3a21c9 --all')}"


def retry(
    job: JobArgument,
    everything: Annotated[bool, typer.Option("--all", help="All videos, including those that succeeded.")] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Videos that failed for this cause, given by its fingerprint; may be repeated."),
    ] = None,
    video: Annotated[list[str] | None, typer.Option(help="This video; may be repeated.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Retry the failed videos of an ended job, as its next attempt. Earlier results are kept.

    Videos without a result are always retried too.
    """
    selection = _selection(everything, group, video)
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = request_action(client, before, "retry", selection)
        retried = _count_retried(client, before, after)
    print(f"{after['name']}: {_outcome(before, after, retried)}")


def _selection(everything: bool, groups: list[str] | None, videos: list[str] | None) -> dict[str, Any]:
    selection: dict[str, Any] = {"only": "all"} if everything else {}
    selection |= {"group": groups} if groups else {}
    selection |= {"video_ids": videos} if videos else {}
    if len(selection) > 1:
        raise typer.BadParameter("Give only one of --all, --group and --video.")
    return selection or {"only": "failed"}


def _count_retried(client: httpx.Client, before: JobState, after: JobState) -> int:
    """Return how many videos the attempt began with. Some of them may have finished since."""
    path = f"/api/jobs/{after['job_id']}/progress-history"
    updates = checked(client.get(path, params={"after": before["seq"]})).json()
    first = next((update for update in updates if update["attempt"] == after["attempt"]), after)
    return int(first["total_videos"] - first["current_video"])


def _outcome(before: JobState, after: JobState, retried: int) -> str:
    attempt = f"attempt {after['attempt']}"
    if after["attempt"] == before["attempt"]:
        return f"already being retried ({attempt})"
    return f"retrying {retried:,} of {counted(after['total_videos'], 'video')} ({attempt})"
