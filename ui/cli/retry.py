"""`retry`: try videos of an ended job again."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from backend.command import command
from backend.domain.texts import counted
from ui.cli.client import JobArgument, JobState, ask, checked, connected, find_job
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('retry 8f3a21c9 --all')}"


def retry(
    job: JobArgument,
    everything: Annotated[bool, typer.Option("--all", help="All videos, also those that went well.")] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Those that failed for this cause: its fingerprint; may be given several times."),
    ] = None,
    video: Annotated[list[str] | None, typer.Option(help="This video; may be given several times.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Try the failed videos of an ended job again, as its next attempt; earlier results are kept.

    Videos that were never done always go along.
    """
    wish = _wish(everything, group, video)
    with connected(data_dir) as client:
        before = find_job(client, job)
        after = ask(client, before, "retry", wish)
        taken = _count_taken(client, before, after)
    print(f"{after['name']}: {_said(before, after, taken)}")


def _wish(everything: bool, groups: list[str] | None, videos: list[str] | None) -> dict[str, Any]:
    wishes: dict[str, Any] = {"only": "all"} if everything else {}
    wishes |= {"group": groups} if groups else {}
    wishes |= {"video_ids": videos} if videos else {}
    if len(wishes) > 1:
        raise typer.BadParameter("--all, --group and --video exclude each other; give one of them.")
    return wishes or {"only": "failed"}


def _count_taken(client: httpx.Client, before: JobState, after: JobState) -> int:
    """How many videos the attempt began with; some may be done by now."""
    path = f"/api/jobs/{after['job_id']}/progress-history"
    updates = checked(client.get(path, params={"after": before["seq"]})).json()
    first = next((update for update in updates if update["attempt"] == after["attempt"]), after)
    return int(first["total_videos"] - first["current_video"])


def _said(before: JobState, after: JobState, taken: int) -> str:
    attempt = f"attempt {after['attempt']}"
    if after["attempt"] == before["attempt"]:
        return f"it is being retried already ({attempt})"
    return f"retrying {taken:,} of {counted(after['total_videos'], 'video')} ({attempt})"
