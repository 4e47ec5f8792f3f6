"""Numbers, durations and sizes as people read them, and sentences about jobs. All functions are pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from backend.domain.durations import DAY, HOUR, MINUTE
from backend.domain.durations import duration as duration
from backend.domain.durations import elapsed as elapsed
from backend.domain.job import Job
from backend.domain.pace import MIN_VIDEOS, Estimate, in_words, rate_in_words
from backend.domain.texts import counted
from backend.domain.video import VideoTimes
from progress_dashboard.protocol import WITH_FAILURES, Status

SPANS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"))
MIN_SHOWN_SECONDS = 0.1
FOUND_BY = "The search takes any part of a name or {error}, and the beginning of a job or video ID"
JOBS_STAY = "Jobs leave the dashboard some time after their end, and stay in History"
# A tuple compares by identity. This runs over all jobs at every tick, and an enum is slow to hash.
NEEDS_ATTENTION = tuple(WITH_FAILURES)


def count(number: int) -> str:
    """Return the number with separated thousands.

    >>> count(2908)
    '2,908'
    """
    return f"{number:,}"


def took(seconds: float) -> str:
    """Return the time that a video or a job took.

    >>> took(0.04), took(4.06)
    ('< 0.1 s', '4.1 s')
    """
    return duration(seconds) if seconds >= MIN_SHOWN_SECONDS else f"< {duration(MIN_SHOWN_SECONDS)}"


def time_taken(job: Job, now: datetime) -> str:
    """Return the time from the job's start to its end, or to `now` in whole seconds.

    A job that has not started counts from its creation.
    """
    began = job.started_at or job.created_at
    if job.is_finished and job.finished_at:
        return took((job.finished_at - began).total_seconds())
    return elapsed((now - began).total_seconds())


def stalled_for(since: datetime, now: datetime) -> str:
    """Return for how long a job has been stalled, in one unit, in the same words as `span` of `browser.js` on its card.

    >>> stalled_for(datetime(2026, 1, 31, 14, 2), datetime(2026, 1, 31, 14, 6, 50))
    'No progress for 4 min'
    """
    seconds = max(0, int((now - since).total_seconds()))
    length, unit = next(((length, unit) for length, unit in SPANS if seconds >= length), (1, "s"))
    return f"No progress for {seconds // length} {unit}"


def overall_rate(job: Job, tried: int) -> float | None:
    """Return the videos per minute of an ended job, over the whole time of its attempt.

    `tried` is the number of videos with a result in this attempt. For an external job all finished videos count,
    because its sender may count videos without naming them. Returns None if there is too little to count.
    """
    if not job.is_finished or job.started_at is None or job.finished_at is None:
        return None
    videos = job.current_video if job.is_external else tried
    seconds = (job.finished_at - job.started_at).total_seconds()
    return videos * MINUTE / seconds if videos >= MIN_VIDEOS and seconds >= 1 else None


def video_times(times: VideoTimes) -> str:
    """Return how long the videos of a job take; "" while there are too few.

    >>> video_times(VideoTimes(videos=491, p50=4.1, p95=11.8))
    'p50 4.1 s, p95 11.8 s'
    """
    if times.videos < MIN_VIDEOS:
        return ""
    return f"p50 {_short_time(times.p50)}, p95 {_short_time(times.p95)}"


def video_times_in_full(times: VideoTimes) -> str:
    """Return the same in sentences, with the number of videos; "" while there are too few.

    >>> video_times_in_full(VideoTimes(videos=491, p50=4.1, p95=11.8))
    'Half of 491 videos took up to 4.1 s each, 95 % up to 11.8 s. The rate of an ended job includes its pauses'
    """
    if times.videos < MIN_VIDEOS:
        return ""
    p50, p95 = _short_time(times.p50), _short_time(times.p95)
    shares = f"Half of {counted(times.videos, 'video')} took up to {p50} each, 95 % up to {p95}"
    return f"{shares}. The rate of an ended job includes its pauses"


def pace(estimate: Estimate) -> str:
    """Return how fast a job progresses and when it will be done.

    >>> pace(Estimate(960, 900, 1000, 18.24))
    '18.2 / min · about 16 min'
    """
    return f"{rate_in_words(estimate)} · {in_words(estimate)}"


def size(number: float) -> str:
    """Return a number of bytes in words.

    >>> size(0), size(999), size(1500), size(12_345_678), size(3.2e9)
    ('0 bytes', '999 bytes', '1.5 kB', '12.3 MB', '3.2 GB')
    """
    if number < 1000:
        return f"{int(number)} bytes"
    return _scaled(number, ("kB", "MB", "GB", "TB"))


def bit_rate(bits_per_second: float) -> str:
    """Return a number of bits per second in words.

    >>> bit_rate(128_000), bit_rate(4_250_000)
    ('128 kbit/s', '4.2 Mbit/s')
    """
    return _scaled(bits_per_second, ("kbit/s", "Mbit/s", "Gbit/s"))


def spoken_progress(job: Job) -> str:
    """Return the progress of a job for assistive technology: "9 of 20, 2 failed"."""
    failed = f", {count(job.failed)} failed" if job.failed else ""
    return f"{count(job.current_video)} of {count(job.total_videos)}{failed}"


def shares(job: Job) -> tuple[float, float, float]:
    """Return the shares of the bar that are ok, failed and running, in percent.

    The number of running videos of an external job is unknown. Its third share is the progress that its sender
    reported beyond the finished videos.
    """
    ok, failed, running = (100 * videos / job.total_videos for videos in (job.succeeded, job.failed, job.running))
    if job.is_external and not job.is_finished:
        running = max(0.0, job.progress - ok - failed)
    return round(ok, 3), round(failed, 3), round(running, 3)


def resumed(job: Job) -> str:
    """Return where the job continued after a restart; "" if it did not, or has ended since."""
    if not job.resumed or job.is_finished:
        return ""
    return f"resumed at {count(job.resumed)}/{count(job.total_videos)} after a restart"


@dataclass(slots=True)
class Totals:
    """Counts over many jobs, kept up to date job by job: to count thousands again at each change would be slow."""

    jobs: int = 0
    running: int = 0
    waiting: int = 0
    without_machine: int = 0
    finished: int = 0
    troubled: int = 0
    videos: int = 0
    progress: int = 0

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Totals:
        """Count these jobs."""
        totals = cls()
        for job in jobs:
            totals.add(job, 1)
        return totals

    def add(self, job: Job, sign: int) -> None:
        """Add a job (`sign` 1), or take it out (-1)."""
        self.jobs += sign
        self.without_machine += sign * (job.waiting_reason is not None)
        if job.status is Status.PROCESSING:
            self.running += sign
            self.videos += sign * job.total_videos
            self.progress += sign * job.progress * job.total_videos
        else:
            self.waiting += sign * (job.status is Status.PENDING)
            self.finished += sign * job.is_finished
            self.troubled += sign * (job.status in NEEDS_ATTENTION or _has_paused_itself(job))

    def headline(self, stalled: int) -> str:
        """Return the dashboard in one sentence. `stalled` is the number of running jobs that are stalled."""
        attention = stalled + self.troubled
        parts = []
        if self.running or self.waiting:
            parts.append(f"{counted(self.running, 'job')} running")
        if self.waiting:
            parts.append(f"{count(self.waiting)} waiting")
        if self.without_machine:
            parts.append(f"{count(self.without_machine)} wait{'s' if self.without_machine == 1 else ''} for a worker")
        if attention:
            number = count(attention) if parts else counted(attention, "job")
            parts.append(f"{number} need{'s' if attention == 1 else ''} attention")
        if not parts:
            return "All done." if self.jobs else "Nothing is running."
        return ", ".join(parts) + "."

    @property
    def tab_state(self) -> str:
        """The beginning of the title: a percent while jobs run, `!` if one needs attention, `✓` if all ended well."""
        if self.running:
            return f"({self.progress // self.videos} %)"
        if self.troubled:
            return "!"
        return "✓" if self.jobs and self.finished == self.jobs else ""


def headline(jobs: Iterable[Job], *, stalled: int = 0) -> str:
    """Return the dashboard in one sentence. `stalled` is the number of running jobs that are stalled.

    >>> headline([])
    'Nothing is running.'
    """
    return Totals.of(jobs).headline(stalled)


def tab_state(jobs: Iterable[Job]) -> str:
    """Return the beginning of the tab's title.

    It is a percent while jobs run, `!` if one failed or paused itself, `✓` if all ended well, otherwise "".

    >>> tab_state([])
    ''
    """
    return Totals.of(jobs).tab_state


def _has_paused_itself(job: Job) -> bool:
    return job.pause_reason is not None and job.status is Status.PAUSED


def _short_time(seconds: float) -> str:
    return f"{seconds:.1f} s" if MINUTE > seconds >= MIN_SHOWN_SECONDS else took(seconds)


def _scaled(number: float, units: tuple[str, ...]) -> str:
    scaled = number
    for unit in units:
        scaled /= 1000
        if scaled < 999.5 or unit == units[-1]:
            break
    return f"{scaled:.1f} {unit}" if scaled < 99.95 else f"{scaled:.0f} {unit}"
