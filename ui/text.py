"""Numbers, durations and sizes as people read them, and what jobs say in sentences: pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from backend.domain.job import Job
from backend.domain.pace import MIN_VIDEOS, Estimate, in_words, rate_in_words
from backend.domain.texts import counted
from backend.domain.video import VideoTimes
from progress_dashboard.protocol import WITH_FAILURES, Status

MINUTE, HOUR, DAY = 60, 3600, 86_400
SPANS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"))
MIN_SHOWN_SECONDS = 0.1
FOUND_BY = "A name or {error} is found by any part of it, a job or video ID from its beginning"
JOBS_STAY = "Jobs leave the dashboard some time after their end, and stay in History"
# Compared by identity: this runs over all jobs at every tick, and an enum is slow to hash.
NEEDS_SOMEBODY = tuple(WITH_FAILURES)


def count(number: int) -> str:
    """Thousands separated.

    >>> count(2908)
    '2,908'
    """
    return f"{number:,}"


def duration(seconds: float) -> str:
    """How long something took, in at most two units; never negative.

    >>> duration(0.31), duration(4.06), duration(38), duration(72), duration(2468)
    ('0.3 s', '4.1 s', '38 s', '1 min 12 s', '41 min 8 s')
    >>> duration(7500), duration(2 * 86400 + 3 * 3600), duration(-5)
    ('2 h 5 min', '2 d 3 h', '0 s')
    """
    if seconds <= 0:
        return "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two(whole // MINUTE, "min", whole % MINUTE, "s")
    if whole < DAY:
        return _two(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two(whole // DAY, "d", whole % DAY // HOUR, "h")


def took(seconds: float) -> str:
    """How long a video or a job took.

    >>> took(0.04), took(4.06)
    ('< 0.1 s', '4.1 s')
    """
    return duration(seconds) if seconds >= MIN_SHOWN_SECONDS else f"< {duration(MIN_SHOWN_SECONDS)}"


def time_taken(job: Job, now: datetime) -> str:
    """From its start (while it waits: from its making) to its end, or to `now` in whole seconds."""
    began = job.started_at or job.created_at
    if job.is_finished and job.finished_at:
        return took((job.finished_at - began).total_seconds())
    return elapsed((now - began).total_seconds())


def elapsed(seconds: float) -> str:
    """How long something has been going on, or one had to wait: as `duration`, but in whole seconds.

    >>> elapsed(-2), elapsed(4.06), elapsed(72.4)
    ('0 s', '4 s', '1 min 12 s')
    """
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < MINUTE else duration(whole)


def standing_still(since: datetime, now: datetime) -> str:
    """For how long nothing has come of a job, in one unit, as `span` of `browser.js` says it on its card.

    >>> standing_still(datetime(2026, 1, 31, 14, 2), datetime(2026, 1, 31, 14, 6, 50))
    'No progress for 4 min'
    """
    seconds = max(0, int((now - since).total_seconds()))
    length, unit = next(((length, unit) for length, unit in SPANS if seconds >= length), (1, "s"))
    return f"No progress for {seconds // length} {unit}"


def overall_rate(job: Job, tried: int) -> float | None:
    """Videos a minute of a job that has ended, over all the time of its attempt, in which `tried` have their results.

    None where that says nothing. Of a job that runs elsewhere nobody but its sender knows them all.
    """
    if not job.is_finished or job.started_at is None or job.finished_at is None:
        return None
    videos = job.current_video if job.is_external else tried
    seconds = (job.finished_at - job.started_at).total_seconds()
    return videos * MINUTE / seconds if videos >= MIN_VIDEOS and seconds >= 1 else None


def usual_times(times: VideoTimes) -> str:
    """How long the videos of a job take; "" while there are too few.

    >>> usual_times(Times(videos=491, p50=4.1, p95=11.8))
    'p50 4.1 s, p95 11.8 s'
    """
    if times.videos < MIN_VIDEOS:
        return ""
    return f"p50 {_short_time(times.p50)}, p95 {_short_time(times.p95)}"


def explained_times(times: VideoTimes) -> str:
    """The same in sentences, with how many videos it stands for; "" while there are too few.

    >>> explained_times(Times(videos=491, p50=4.1, p95=11.8))
    'Of 491 videos half took up to 4.1 s each, and 95 % up to 11.8 s. The rate of an ended job includes its pauses'
    """
    if times.videos < MIN_VIDEOS:
        return ""
    p50, p95 = _short_time(times.p50), _short_time(times.p95)
    took = f"Of {counted(times.videos, 'video')} half took up to {p50} each, and 95 % up to {p95}"
    return f"{took}. The rate of an ended job includes its pauses"


def pace(estimate: Estimate) -> str:
    """How fast a job gets on, and when it will be done.

    >>> pace(Estimate(960, 900, 1000, 18.24))
    '18.2 / min · about 16 min'
    """
    return f"{rate_in_words(estimate)} · {in_words(estimate)}"


def size(number: float) -> str:
    """Bytes.

    >>> size(0), size(999), size(1500), size(12_345_678), size(3.2e9)
    ('0 bytes', '999 bytes', '1.5 kB', '12.3 MB', '3.2 GB')
    """
    if number < 1000:
        return f"{int(number)} bytes"
    return _scaled(number, ("kB", "MB", "GB", "TB"))


def bit_rate(bits_per_second: float) -> str:
    """Bits a second.

    >>> bit_rate(128_000), bit_rate(4_250_000)
    ('128 kbit/s', '4.2 Mbit/s')
    """
    return _scaled(bits_per_second, ("kbit/s", "Mbit/s", "Gbit/s"))


def spoken_progress(job: Job) -> str:
    """How far a job is, for who hears it: "9 of 20, 2 failed"."""
    failed = f", {count(job.failed)} failed" if job.failed else ""
    return f"{count(job.current_video)} of {count(job.total_videos)}{failed}"


def shares(job: Job) -> tuple[float, float, float]:
    """Of the bar what is ok, what failed and what is on its way, in percent.

    Of a job that runs elsewhere nobody knows how many videos run: what its sender tells beyond those that ended.
    """
    ok, failed, running = (100 * videos / job.total_videos for videos in (job.succeeded, job.failed, job.running))
    if job.is_external and not job.is_finished:
        running = max(0.0, job.progress - ok - failed)
    return round(ok, 3), round(failed, 3), round(running, 3)


def resumed(job: Job) -> str:
    """That the job went on after a restart, and where; "" when it did not, or has ended since."""
    if not job.resumed or job.is_finished:
        return ""
    return f"resumed at {count(job.resumed)}/{count(job.total_videos)} after a restart"


def headline(jobs: Collection[Job], *, stalled: int = 0) -> str:
    """The dashboard in one sentence; `stalled` of the jobs that run stand still.

    >>> headline([])
    'Nothing is running.'
    """
    statuses = [job.status for job in jobs]
    running, waiting = statuses.count(Status.PROCESSING), statuses.count(Status.PENDING)
    attention = stalled + sum(map(statuses.count, NEEDS_SOMEBODY)) + sum(map(_is_in_trouble, jobs))
    parts = []
    if running or waiting:
        parts.append(f"{counted(running, 'job')} running")
    if waiting:
        parts.append(f"{count(waiting)} waiting")
    if attention:
        who = count(attention) if parts else counted(attention, "job")
        parts.append(f"{who} need{'s' if attention == 1 else ''} attention")
    if not parts:
        return "All done." if jobs else "Nothing is running."
    return ", ".join(parts) + "."


def outlook(jobs: Collection[Job], estimate_of: Callable[[Job], Estimate | None]) -> str:
    """When all of several running jobs will be done; "" while one of them cannot tell, or others wait.

    >>> outlook([], lambda job: None)
    ''
    """
    if any(job.status is Status.PENDING for job in jobs):
        return ""
    estimates = [estimate_of(job) for job in jobs if job.status is Status.PROCESSING]
    known = [estimate for estimate in estimates if estimate is not None]
    if len(estimates) < 2 or len(known) < len(estimates):
        return ""
    return f"The last one is done in {in_words(max(known, key=lambda estimate: estimate.seconds))}."


def tab_state(jobs: Iterable[Job]) -> str:
    """What the tab's title starts with: a percent while jobs run, `!` where one failed, `✓` when all ended well, or "".

    >>> tab_state([])
    ''
    """
    shown = list(jobs)
    running = [job for job in shown if job.status is Status.PROCESSING]
    if running:
        videos = sum(job.total_videos for job in running)
        return f"({sum(job.progress * job.total_videos for job in running) // videos} %)"
    if any(job.status in NEEDS_SOMEBODY or _is_in_trouble(job) for job in shown):
        return "!"
    return "✓" if shown and all(job.is_finished for job in shown) else ""


def _is_in_trouble(job: Job) -> bool:
    """Whether it paused itself."""
    return job.pause_reason is not None and job.status is Status.PAUSED


def _short_time(seconds: float) -> str:
    return f"{seconds:.1f} s" if MINUTE > seconds >= MIN_SHOWN_SECONDS else took(seconds)


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first} {unit} {second} {smaller}" if second else f"{first} {unit}"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    scaled = number
    for unit in units:
        scaled /= 1000
        if scaled < 999.5 or unit == units[-1]:
            break
    return f"{scaled:.1f} {unit}" if scaled < 99.95 else f"{scaled:.0f} {unit}"
