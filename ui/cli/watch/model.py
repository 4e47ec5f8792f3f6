"""What `watch` has to show and to say: values made from updates; no terminal, no socket, no clock.

Names, messages and errors come from strangers: what is made of them here is one line without control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from backend.domain import messages
from backend.domain.pace import Forecast, in_words, rate_in_words
from progress_dashboard.protocol import CANCEL, UNFINISHED, ProgressUpdate, Status

SHORT_ID = 8  # characters, as on the pages
QUARTER = 25
ORDER = (  # what is going on first: the last rows go when the terminal is too low for all of them
    Status.PROCESSING,
    Status.PAUSED,
    Status.PENDING,
    Status.FAILED,
    Status.COMPLETED_WITH_ERRORS,
    Status.COMPLETED,
    Status.CANCELLED,
)
PLACE: Mapping[str, int] = {status.value: place for place, status in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class Followed:
    """A job as it is watched: its newest update, and when it will be done."""

    update: ProgressUpdate
    forecast: Forecast

    @classmethod
    def beginning(cls, update: ProgressUpdate) -> Followed:
        """A job of which nothing was known before."""
        return cls(update, _later(Forecast(), update))

    @classmethod
    def through(cls, past: Iterable[ProgressUpdate], newest: ProgressUpdate) -> Followed:
        """A job in its newest state; what history tells of the time before, oldest first, counts for the pace."""
        first, *others = [*past, newest]
        followed = cls.beginning(first)
        for update in others:
            followed = followed.then(update)
        return followed

    def then(self, update: ProgressUpdate) -> Followed:
        """After the next update; what is older than the newest changes nothing."""
        if update.seq <= self.update.seq:
            return self
        return Followed(update, _later(self.forecast, update))

    def estimated(self, at: datetime) -> Followed:
        """With the estimate to show now (`at`, by the server's clock)."""
        left = self.update.total_videos - self.update.current_video
        return Followed(self.update, self.forecast.estimated(left, at))

    @property
    def rate(self) -> str:
        """Videos in a time, as in "12.3 / min"; "" while it is unknown or nothing is done."""
        return rate_in_words(self.forecast.estimate) if self.forecast.estimate else ""

    @property
    def left(self) -> str:
        """Time to the end, as in "about 12 min"; "" like `rate`."""
        return in_words(self.forecast.estimate) if self.forecast.estimate else ""


@dataclass(frozen=True, slots=True)
class JobLine:
    """What is shown of one job.

    `done` and `failed` are the shares of the bar that are filled for good and failed videos, from 0 to 1; `detail` is
    the current video, or what the server says of a job that is not at work.
    """

    name: str
    short_id: str
    status: Status
    word: str
    percent: int
    done: float
    failed: float
    place: str
    failures: str
    rate: str
    left: str
    detail: str


@dataclass(frozen=True, slots=True)
class News:
    """Something to be read once: when by the server's clock (ISO 8601), of which job, and what."""

    at: str
    job: str
    words: str
    is_failure: bool


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """How the connection stands: its state in one word, all that is to be said of it, and which attempt is on."""

    state: str
    words: str
    attempt: int = 0

    @property
    def is_live(self) -> bool:
        """Whether what is shown is what the server knows."""
        return self.state == "connected"


def connection(
    *,
    is_connected: bool,
    attempt: int,
    attempts: int,
    seconds: float | None,
    nobody_at: str | None = None,
    has_stopped: bool = False,
) -> ConnectionState:
    """The state in words: `attempt` 0 is the first try, `seconds` are left until the attempt.

    `nobody_at`: the server's address, as long as it never answered.

    >>> connection(is_connected=False, attempt=3, attempts=10, seconds=11.2).words
    'reconnecting: attempt 3 of 10 in 12 s'
    """
    if is_connected:
        return ConnectionState("connected", "connected")
    if has_stopped:
        return ConnectionState("disconnected", "disconnected")
    if not attempt:
        return ConnectionState("connecting", "connecting")
    when = f"in {ceil(seconds)} s" if seconds else "now"
    if nobody_at:
        return ConnectionState(
            "connecting", f"no server answers at {nobody_at}: attempt {attempt} of {attempts} {when}", attempt
        )
    return ConnectionState("reconnecting", f"reconnecting: attempt {attempt} of {attempts} {when}", attempt)


def row(followed: Followed) -> JobLine:
    """The job as it is shown."""
    update, status = followed.update, Status(followed.update.status)
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
        place=_place(update),
        failures=_failures(update),
        rate=followed.rate,
        left=followed.left,
        detail=plain((update.video_id or "") if is_at_work(update) else update.message),
    )


def in_order(jobs: Iterable[Followed]) -> list[Followed]:
    """What is going on first, else as they came."""
    return sorted(jobs, key=lambda followed: PLACE[followed.update.status])


def news(before: ProgressUpdate, after: Followed) -> Iterator[News]:
    """What the change has to say: a failed video or the job's own error, a change of status, a quarter of the way."""
    update = after.update
    if failure := _failure(before, update):
        yield News(update.timestamp, title(update), failure, is_failure=True)
    if _is_mark(before, update):
        yield state(after)


def state(followed: Followed) -> News:
    """How the job stands, as a line."""
    update = followed.update
    facts = [_word(update), f"{update.progress} %", _place(update), _failures(update), followed.left]
    words = ", ".join(fact for fact in facts if fact)
    says = plain(update.message) if update.message != messages.PROCESSING else ""
    return News(update.timestamp, title(update), f"{words}: {says}" if says else words, is_failure=False)


def ended_already(update: ProgressUpdate) -> str:
    """What is said of a job that needs no watching."""
    counts = ", ".join(filter(None, (f"{_place(update)} videos", _failures(update))))
    return f"{title(update)}: it is {Status(update.status).words} already, {counts}"


def title(update: ProgressUpdate) -> str:
    """Which job, for somebody who reads."""
    return f"{plain(update.name)} {update.job_id[:SHORT_ID]}"


def exit_status(update: ProgressUpdate) -> int | None:
    """0 for a completed job, 1 for one that ended otherwise, None for one that has not ended."""
    if update.status in UNFINISHED:
        return None
    return 0 if update.status == Status.COMPLETED else 1


def is_at_work(update: ProgressUpdate) -> bool:
    """Whether its videos are being processed."""
    return update.status == Status.PROCESSING


def moment(update: ProgressUpdate) -> datetime:
    """When it was, by the server's clock."""
    return datetime.fromisoformat(update.timestamp)


def plain(text: str) -> str:
    """What may stand in a line: nothing that steers a terminal.

    >>> plain("night\\x1b[2J\\n of  the")
    'night [2J of the'
    """
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _later(forecast: Forecast, update: ProgressUpdate) -> Forecast:
    return forecast.after(
        attempt=update.attempt, finished=update.current_video, is_at_work=is_at_work(update), at=moment(update)
    )


def _word(update: ProgressUpdate) -> str:
    """The status, or what was asked for and has not happened yet; from the second attempt on with its number."""
    word = Status(update.status).words
    if update.requested:
        word = "cancelling" if update.requested == CANCEL else "pausing"
    return f"{word} (attempt {update.attempt})" if update.attempt > 1 else word


def _place(update: ProgressUpdate) -> str:
    return f"{update.current_video:,}/{update.total_videos:,}"


def _failures(update: ProgressUpdate) -> str:
    return f"{update.failed:,} failed" if update.failed else ""


def _failure(before: ProgressUpdate, after: ProgressUpdate) -> str:
    """The error that came with this update; one that belongs to no video is the job's own."""
    if not isinstance(after.error, str):
        return ""
    is_new_attempt = after.attempt != before.attempt
    if after.failed > (0 if is_new_attempt else before.failed) and after.video_id:
        return f"{plain(after.video_id)} failed: {plain(after.error)}"
    is_known = after.error == before.error or is_new_attempt
    return "" if is_known else f"failed: {plain(after.error)}"


def _is_mark(before: ProgressUpdate, after: ProgressUpdate) -> bool:
    if (before.status, before.requested, before.attempt) != (after.status, after.requested, after.attempt):
        return True
    return before.progress // QUARTER < after.progress // QUARTER
