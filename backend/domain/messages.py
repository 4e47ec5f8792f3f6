"""The sentences that a job says of itself in `message`."""

from __future__ import annotations

from backend.domain.texts import counted

PROCESSING = "Processing videos..."
WAITING_TO_START = "Waiting to start"
WAITING_FOR_WORKER = "Waiting for a worker"
WAITING_FOR_REPORT = "Waiting for the first report"
WAITING_TO_CONTINUE = "Waiting to continue"
WAITING_AFTER_RESTART = "Waiting to continue after a restart"
CANCELLING = "Cancelling..."
DONE_WITH_ERRORS = "Done, with errors"
SENDER_FAILED = "The sender reported a failure"


def waiting_for_worker(why: str) -> str:
    """Return why no machine takes the videos of a job."""
    return f"{WAITING_FOR_WORKER}: {why}"


def resumed(place: str) -> str:
    return f"Resumed at {place} after a restart"


def cancelled(place: str) -> str:
    return f"Cancelled at {place}"


def pausing(running: int) -> str:
    return f"Pausing after {counted(running, 'running video')}" if running else "Pausing..."


def pausing_itself(reason: str) -> str:
    return f"Pausing by itself: {reason}"


def paused(place: str, reason: str | None) -> str:
    return f"Paused by itself: {reason}" if reason else f"Paused at {place}"


def waiting_to_retry(videos: int) -> str:
    return f"Waiting to retry {counted(videos, 'video')}"


def completed(videos: int) -> str:
    return f"All done: {counted(videos, 'video')}"


def all_failed(videos: int) -> str:
    return "The video failed" if videos == 1 else f"All {videos:,} videos failed"


def some_failed(failed: int, videos: int) -> str:
    return f"Done, {failed:,} of {videos:,} videos failed"


def failures_in_a_row(failures: int, error: str) -> str:
    """Return why a job paused itself."""
    return f"{counted(failures, 'failure')} in a row: {error}"


def silent_sender(seconds: float) -> str:
    """Return why an external job failed: its sender has sent nothing for `seconds`."""
    silence = counted(round(seconds / 60), "minute") if seconds >= 120 else f"{seconds:g} s"
    return f"No word from the sender for {silence}; check the sender, then create a new job."
