"""The values that `watch` shows, made from updates: no terminal, no socket, no clock.

Names, messages and errors come from other programs, so each becomes one line without control characters here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from backend.domain import messages
from backend.domain.pace import Forecast, in_words, rate_in_words, share_of_work
from backend.domain.usual import Usual
from progress_dashboard.protocol import CANCEL, UNFINISHED, ProgressUpdate, Status

SHORT_ID = 8  # characters, as on the pages
MILESTONE_PERCENT = 25
STATUS_ORDER = (  # active jobs first: a terminal that is too low for all jobs does not show the last ones
    Status.PROCESSING,
    Status.PAUSED,
    Status.PENDING,
    Status.FAILED,
    Status.COMPLETED_WITH_ERRORS,
    Status.COMPLETED,
    Status.CANCELLED,
)
STATUS_RANK: Mapping[str, int] = {status.value: rank for rank, status in enumerate(STATUS_ORDER)}


@dataclass(frozen=True, slots=True)
class FollowedJob:
    """A followed job: its newest update, the forecast of its end, and how many of its videos had a file, if known."""

    update: ProgressUpdate
    forecast: Forecast
    found: int | None = None

    @classmethod
    def first(cls, update: ProgressUpdate, found: int | None = None) -> FollowedJob:
        """Return a job of which nothing was known before."""
        return cls(update, _forecast_after(Forecast(), update), found)

    @classmethod
    def from_history(
        cls, past: Iterable[ProgressUpdate], newest: ProgressUpdate, found: int | None = None
    ) -> FollowedJob:
        """Return a job in its newest state, with the pace of its past updates (oldest first)."""
        first, *others = [*past, newest]
        job = cls.first(first, found)
        for update in others:
            job = job.with_update(update)
        return job

    def with_update(self, update: ProgressUpdate) -> FollowedJob:
        """Return the job after the next update. An update that is not newer changes nothing."""
        if update.seq <= self.update.seq:
            return self
        return FollowedJob(update, _forecast_after(self.forecast, update), self.found)

    def estimated(self, at: datetime) -> FollowedJob:
        """Return the job with the estimate to show now (`at`, by the server's clock)."""
        total, finished = self.update.total_videos, self.update.current_video
        share = 1.0
        if self.found is not None:
            share = share_of_work(found=self.found, total=total, finished=finished, failed=self.update.failed)
        return FollowedJob(self.update, self.forecast.estimated(total - finished, at, share), self.found)

    @property
    def rate(self) -> str:
        """Speed, such as "12.3 / min"; "" while it is unknown or no video is processed."""
        return rate_in_words(self.forecast.estimate) if self.forecast.estimate else ""

    @property
    def left(self) -> str:
        """Remaining time, such as "about 12 min"; "" under the conditions of `rate`."""
        return in_words(self.forecast.estimate) if self.forecast.estimate else ""


@dataclass(frozen=True, slots=True)
class JobLine:
    """The texts and numbers that show one job.

    `done` and `failed` are the shares of the bar for good and failed videos, from 0 to 1. `detail` is the current
    video, or the server's message if the job is not processing.
    """

    name: str
    short_id: str
    status: Status
    word: str
    percent: int
    done: float
    failed: float
    count: str
    failures: str
    rate: str
    left: str
    detail: str


@dataclass(frozen=True, slots=True)
class News:
    """A line to print once: the time by the server's clock (ISO 8601), the title of the job, and the text."""

    at: str
    job: str
    text: str
    is_failure: bool


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """The state of the connection in one word, its full text, and what its wait is about.

    `attempt` is the number of the current attempt, `cause` why it waits; "" for a short wait.
    """

    state: str
    text: str
    attempt: int = 0
    cause: str = ""

    @property
    def is_live(self) -> bool:
        """True if the display shows the server's newest state."""
        return self.state == "connected"


CONNECTED = ConnectionState("connected", "connected")


def connection_state(
    *,
    is_connected: bool,
    attempt: int,
    attempts: int,
    seconds: float | None,
    unreachable_url: str | None = None,
    has_stopped: bool = False,
    problem: str = "",
    waiting_for: str = "",
) -> ConnectionState:
    """Return the state with its text.

    `attempt` 0 is the first connection, `seconds` are left until the attempt. `unreachable_url` is the server's address
    until it has answered once. `problem` is why there is no connection, `waiting_for` what a long wait is for.

    >>> connection_state(is_connected=False, attempt=3, attempts=10, seconds=11.2).text
    'reconnecting: attempt 3 of 10 in 12 s'
    >>> connection_state(is_connected=True, attempt=0, attempts=10, seconds=None, waiting_for="the jobs").text
    'waiting for the jobs'
    """
    waiting = f"waiting for {waiting_for}"
    if is_connected:
        return ConnectionState("waiting", waiting, 0, waiting_for) if waiting_for else CONNECTED
    if has_stopped:
        return ConnectionState("disconnected", "disconnected")
    if not attempt:
        return ConnectionState("connecting", waiting if waiting_for else "connecting", 0, waiting_for)
    next_attempt = f"attempt {attempt} of {attempts} {f'in {ceil(seconds)} s' if seconds else 'now'}"
    if unreachable_url:
        why = plain(problem) or f"no server answers at {unreachable_url}"
        return ConnectionState("connecting", f"{why}: {next_attempt}", attempt, problem)
    why = f" ({plain(problem)})" if problem else ""
    return ConnectionState("reconnecting", f"reconnecting: {next_attempt}{why}", attempt, problem)


def job_line(job: FollowedJob) -> JobLine:
    """Return the line of a job."""
    update, status = job.update, Status(job.update.status)
    share = update.progress / 100
    failed = min(share, update.failed / max(1, update.total_videos))
    return JobLine(
        name=plain(update.name),
        short_id=update.job_id[:SHORT_ID],
        status=status,
        word=_word(update),
        percent=update.progress,
        done=share - failed,
        failed=failed,
        count=_count(update),
        failures=_failures(update),
        rate=job.rate,
        left=job.left,
        detail=plain((update.video_id or "") if _shows_video(update) else update.message),
    )


def in_order(jobs: Iterable[FollowedJob]) -> list[FollowedJob]:
    """Return the jobs with active ones first, otherwise in the given order."""
    return sorted(jobs, key=lambda job: STATUS_RANK[job.update.status])


def news(before: ProgressUpdate, after: FollowedJob) -> Iterator[News]:
    """Yield the news in a change: a failed video, the job's own error, another status, each quarter of the way."""
    update = after.update
    if failure := _failure(before, update):
        yield News(update.timestamp, title(update), failure, is_failure=True)
    if _is_milestone(before, update):
        yield summary(after)


def summary(job: FollowedJob) -> News:
    """Return the present state of the job as news."""
    update = job.update
    facts = [_word(update), f"{update.progress} %", _count(update), _failures(update), job.left]
    text = ", ".join(fact for fact in facts if fact)
    message = plain(update.message) if update.message != messages.PROCESSING else ""
    return News(update.timestamp, title(update), f"{text}: {message}" if message else text, is_failure=False)


def already_ended(update: ProgressUpdate) -> str:
    """Return the sentence for a job that had ended before it was followed."""
    counts = ", ".join(filter(None, (f"{_count(update)} videos", _failures(update))))
    return f"{title(update)}: already {Status(update.status).words}, {counts}"


def unusual(job: Mapping[str, Any]) -> str:
    """Return the sentence for an ended job whose run was slower or faster than usual, from its answer; else "".

    >>> unusual({"name": "a.csv", "job_id": "8f3a21c9-0", "unusual": "slower", "usual": {"low": 60, "high": 90}})
    'a.csv 8f3a21c9: slower than usual, which is 1 min to 1 min 30 s'
    """
    if not job.get("unusual"):
        return ""
    usual = job.get("usual")
    which = f", which is {Usual(usual['low'], usual['high'], 0).words}" if usual else ""
    return f"{plain(job['name'])} {job['job_id'][:SHORT_ID]}: {job['unusual']} than usual{which}"


def title(update: ProgressUpdate) -> str:
    """Return the name and short ID of the job."""
    return f"{plain(update.name)} {update.job_id[:SHORT_ID]}"


def exit_status(update: ProgressUpdate) -> int | None:
    """Return 0 for a completed job, 1 for another ended one, None for an unfinished one."""
    if update.status in UNFINISHED:
        return None
    return 0 if update.status == Status.COMPLETED else 1


def is_processing(update: ProgressUpdate) -> bool:
    """Return True if the job's videos are being processed."""
    return update.status == Status.PROCESSING


def is_waiting(update: ProgressUpdate) -> bool:
    """Return True if no machine takes the job's videos."""
    return update.status in UNFINISHED and update.message.startswith(messages.WAITING_FOR_WORKER)


def moment(update: ProgressUpdate) -> datetime:
    """Return the time of an update, by the server's clock."""
    return datetime.fromisoformat(update.timestamp)


def plain(text: str) -> str:
    """Return the text as one line without characters that control a terminal.

    >>> plain("night\\x1b[2J\\n of  the")
    'night [2J of the'
    """
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _forecast_after(forecast: Forecast, update: ProgressUpdate) -> Forecast:
    return forecast.after(
        attempt=update.attempt,
        finished=update.current_video,
        failed=update.failed,
        is_at_work=is_processing(update),
        at=moment(update),
    )


def _shows_video(update: ProgressUpdate) -> bool:
    return is_processing(update) and not is_waiting(update)


def _word(update: ProgressUpdate) -> str:
    """Return the status, or the pending request; from the second attempt on with its number."""
    word = Status(update.status).words
    if update.requested:
        word = "cancelling" if update.requested == CANCEL else "pausing"
    return f"{word} (attempt {update.attempt})" if update.attempt > 1 else word


def _count(update: ProgressUpdate) -> str:
    return f"{update.current_video:,}/{update.total_videos:,}"


def _failures(update: ProgressUpdate) -> str:
    return f"{update.failed:,} failed" if update.failed else ""


def _failure(before: ProgressUpdate, after: ProgressUpdate) -> str:
    """Return the text of the error that came with this update; an error without a video is the job's own."""
    if not isinstance(after.error, str):
        return ""
    is_new_attempt = after.attempt != before.attempt
    if after.failed > (0 if is_new_attempt else before.failed) and after.video_id:
        return f"{plain(after.video_id)} failed: {plain(after.error)}"
    is_known = after.error == before.error or is_new_attempt
    return "" if is_known else f"failed: {plain(after.error)}"


def _is_milestone(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    if (before.status, before.requested, before.attempt) != (after.status, after.requested, after.attempt):
        return True
    if is_waiting(before) != is_waiting(after):
        return True
    return before.progress // MILESTONE_PERCENT < after.progress // MILESTONE_PERCENT
