"""The speed of a job and its remaining time: one pure rule for the cards, the pages, REST and the terminal.

The rate is an average over time in which older seconds count less: a third as much after 60 s, or after five gaps
between finished videos if that is longer. With videos of ten minutes each, a memory of 60 s would hold only the last
one; with sixteen that finish together once a minute, only the last few. The rate is constant within a gap, so a burst
after a silence is averaged with the silence. Paused time does not count.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import exp, expm1, inf, sqrt

import msgspec

MIN_VIDEOS, MIN_SECONDS = 5, 10.0  # before the first estimate
REPAINT_SECONDS = 5.0  # between two changes of the estimate that is shown
MEMORY_SECONDS, MEMORY_GAPS = 60.0, 5
MIN_RANGE_RATIO = 1.5  # of `high` to `low`; a narrower range is shown as one number
MINUTE, HOUR, DAY = 60, 3600, 86_400
ROUNDING = ((MINUTE, 5), (HOUR, MINUTE), (10 * HOUR, 10 * MINUTE), (2 * DAY, HOUR), (inf, DAY))
"""Steps of rounding: a duration below the first number of seconds is rounded to a multiple of the second."""


class Estimate(msgspec.Struct, frozen=True):
    """The remaining videos take `seconds` from now, probably between `low` and `high`."""

    seconds: float
    low: float
    high: float
    videos_per_minute: float


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of one attempt of a job since `began`, when it had `first` finished videos.

    `last` is when the newest video finished. `videos` and `seconds` are the videos seen and the time they took; `gaps`
    is the sum of the squared gaps between them, so that `gaps / seconds` is the gap at a random moment. In all three,
    older time counts less.
    `began` and `last` are moved forward by the time that the job was paused.
    """

    began: datetime
    first: int
    last: datetime
    finished: int
    paused_at: datetime | None = None
    videos: float = 0.0
    seconds: float = 0.0
    gaps: float = 0.0

    @classmethod
    def starting(cls, at: datetime, finished: int) -> Pace:
        """Return an empty pace, for an attempt that begins or that a restart of the server interrupted."""
        return cls(began=at, first=finished, last=at, finished=finished)

    def reached(self, finished: int, at: datetime) -> Pace:
        """Return the pace with this number of finished videos. Ignores a smaller number than before.

        Videos that finish while the job is paused take no time.
        """
        new = finished - self.finished
        if new <= 0:
            return self
        now = self._moment(at)
        gap = (now - self.last).total_seconds()
        age = gap / self._memory
        decay, weight = exp(-age), -expm1(-age) / age if age else 1.0
        return msgspec.structs.replace(
            self,
            last=now,
            finished=finished,
            videos=self.videos * decay + new * weight,
            seconds=self.seconds * decay + gap * weight,
            gaps=self.gaps * decay + gap * gap * weight,
        )

    def paused(self, at: datetime) -> Pace:
        """Stop counting time at this moment."""
        return self if self.paused_at else msgspec.structs.replace(self, paused_at=self._moment(at))

    def resumed(self, at: datetime) -> Pace:
        """Count time again, as if none had passed during the pause."""
        if self.paused_at is None:
            return self
        lost = max(timedelta(), at - self.paused_at)
        return msgspec.structs.replace(self, began=self.began + lost, last=self.last + lost, paused_at=None)

    def estimate(self, left: int, at: datetime) -> Estimate | None:
        """Return the time for `left` more videos; None if too few were seen or none is left."""
        now = self._moment(at)
        seen, elapsed = self.finished - self.first, (now - self.began).total_seconds()
        if left <= 0 or seen < MIN_VIDEOS or elapsed < MIN_SECONDS:
            return None
        silence, gap = (now - self.last).total_seconds(), self._gap
        each = (self.seconds + max(0.0, silence - gap)) / self.videos  # a longer silence than usual slows the job
        usual = left * each
        seconds = max(usual / 2, usual - min(silence, gap))
        spread = 1 + self._spread(left)
        return Estimate(seconds, seconds / spread, seconds * spread, MINUTE / each)

    @property
    def _gap(self) -> float:
        """The expected length in seconds of the gap around a moment chosen at random."""
        return self.gaps / self.seconds if self.seconds else 0.0

    @property
    def _memory(self) -> float:
        """The seconds after which time counts a third as much; infinite before the first video."""
        return max(MEMORY_SECONDS, MEMORY_GAPS * self._gap) if self.seconds else inf

    def _spread(self, left: int) -> float:
        """Return the standard deviation of the remaining time as a share of it.

        It follows from how much the time between two videos varied, over the videos seen and those to come.
        """
        if not self.seconds:
            return 0.0
        variation = max(0.0, self._gap * self.videos / self.seconds - 1)
        return sqrt(variation * (1 / self.videos + 1 / left))

    def _moment(self, at: datetime) -> datetime:
        return self.paused_at or max(self.last, at)


class Forecast(msgspec.Struct, frozen=True):
    """The pace of a job's newest attempt, and the estimate that is shown for at least `REPAINT_SECONDS`."""

    attempt: int = 0
    pace: Pace | None = None
    estimate: Estimate | None = None
    estimated_at: datetime | None = None

    def after(self, *, attempt: int, finished: int, is_at_work: bool, at: datetime) -> Forecast:
        """Return the forecast with the job's newest state. The pace is paused while no video is worked on."""
        if attempt != self.attempt:
            return Forecast(attempt).after(attempt=attempt, finished=finished, is_at_work=is_at_work, at=at)
        if is_at_work:
            pace = (self.pace or Pace.starting(at, finished)).resumed(at).reached(finished, at)
            return self if pace is self.pace else msgspec.structs.replace(self, pace=pace)
        return Forecast(attempt, self.pace.reached(finished, at).paused(at) if self.pace else None)

    def estimated(self, left: int, at: datetime) -> Forecast:
        """Return the forecast with the estimate to show now for `left` more videos."""
        if self.estimate and self.estimated_at and at - self.estimated_at < timedelta(seconds=REPAINT_SECONDS):
            return self
        estimate = self.pace and not self.pace.paused_at and self.pace.estimate(left, at)
        return msgspec.structs.replace(self, estimate=estimate or None, estimated_at=at)


def in_words(estimate: Estimate) -> str:
    """Return the remaining time, rounded.

    >>> in_words(Estimate(700, 600, 800, 5)), in_words(Estimate(700, 480, 890, 5)), in_words(Estimate(3, 1, 9, 5))
    ('about 12 min', '8 to 15 min', 'a few seconds')
    >>> in_words(Estimate(60, 38, 95, 5)), in_words(Estimate(4000, 3000, 6000, 5))
    ('40 s to 2 min', '50 min to 1 h 40 min')
    """
    if estimate.seconds < MIN_SECONDS:
        return "a few seconds"
    low, high = _parts(estimate.low), _parts(estimate.high)
    if estimate.high < MIN_RANGE_RATIO * estimate.low or low == high:
        return "about " + " ".join(_parts(estimate.seconds))
    (low_number, low_unit), (high_number, high_unit) = low, high
    is_one_unit = low_unit == high_unit and " " not in high_number
    return f"{low_number} to {high_number} {high_unit}" if is_one_unit else f"{' '.join(low)} to {' '.join(high)}"


def rate_in_words(estimate: Estimate) -> str:
    """Return the rate of the estimate.

    >>> rate_in_words(Estimate(0, 0, 0, 18.24))
    '18.2 / min'
    """
    return per_time(estimate.videos_per_minute)


def per_time(videos_per_minute: float) -> str:
    """Return a rate per minute, or per hour if it is slow.

    >>> per_time(18.24), per_time(1234.5), per_time(0.07)
    ('18.2 / min', '1,234 / min', '4.2 / h')
    """
    rate, unit = (videos_per_minute, "min") if videos_per_minute >= 1 else (60 * videos_per_minute, "h")
    return f"{rate:,.1f} / {unit}" if rate < 99.95 else f"{rate:,.0f} / {unit}"


def _parts(seconds: float) -> tuple[str, str]:
    """Return a rounded duration as a number and a unit. Of two units, the first belongs to the number."""
    step = next(step for below, step in ROUNDING if seconds < below)
    whole = max(step, round(seconds / step) * step)
    if whole < MINUTE:
        return str(whole), "s"
    if whole < HOUR:
        return str(whole // MINUTE), "min"
    if whole >= 2 * DAY:
        return str(whole // DAY), "d"
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return (f"{hours} h {minutes}", "min") if minutes else (str(hours), "h")
