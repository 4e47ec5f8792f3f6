"""How fast a job gets on, and when it will be done: pure, one rule for the cards, the pages, REST and the terminal.

The rate is an average over time in which a second counts the less the longer ago it was: a third as much after 60 s, or
after five gaps between finished videos where that is longer. Of videos that take ten minutes each, 60 s would know only
the last one, and of sixteen that end together once a minute only the last handful. Within a gap the rate is the same
all along, so a burst after a silence counts as what both were together. Halted time does not count.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import exp, expm1, inf, sqrt

import msgspec

MIN_VIDEOS, MIN_SECONDS = 5, 10.0  # seen, before anything is said
REPAINT_SECONDS = 5.0  # what is shown changes no more often
MEMORY_SECONDS, MEMORY_GAPS = 60.0, 5
WIDE = 1.5  # times `low` is `high` where a range is said
MINUTE, HOUR, DAY = 60, 3600, 86_400
ROUNDED = ((MINUTE, 5), (HOUR, MINUTE), (10 * HOUR, 10 * MINUTE), (2 * DAY, HOUR), (inf, DAY))
"""Below how many seconds, and to how many of them."""


class Estimate(msgspec.Struct, frozen=True):
    """The videos that are left take `seconds` from now, likely between `low` and `high`."""

    seconds: float
    low: float
    high: float
    videos_per_minute: float


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one attempt of a job got on since `began`, when it had `first` videos finished.

    `last` is when the newest video finished. `videos` and `seconds` are those seen and what they took, `gaps` the
    length of the gaps between them, summed over the seconds spent in each; all count the less the older they are. Both
    moments are later by the time that the job was halted.
    """

    began: datetime
    first: int
    last: datetime
    finished: int
    halted_at: datetime | None = None
    videos: float = 0.0
    seconds: float = 0.0
    gaps: float = 0.0

    @classmethod
    def starting(cls, at: datetime, finished: int) -> Pace:
        """Nothing is known yet: an attempt begins, or the server was started anew in the middle of it."""
        return cls(began=at, first=finished, last=at, finished=finished)

    def reached(self, finished: int, at: datetime) -> Pace:
        """So many videos are finished by now; fewer than before is old news. While halted they cost no time."""
        new = finished - self.finished
        if new <= 0:
            return self
        now = self._moment(at)
        gap = (now - self.last).total_seconds()
        age = gap / self._memory
        kept, weight = exp(-age), -expm1(-age) / age if age else 1.0
        return msgspec.structs.replace(
            self,
            last=now,
            finished=finished,
            videos=self.videos * kept + new * weight,
            seconds=self.seconds * kept + gap * weight,
            gaps=self.gaps * kept + gap * gap * weight,
        )

    def halted(self, at: datetime) -> Pace:
        """From now on time does not count."""
        return self if self.halted_at else msgspec.structs.replace(self, halted_at=self._moment(at))

    def going_on(self, at: datetime) -> Pace:
        """Time counts again, as if none had passed since it was halted."""
        if self.halted_at is None:
            return self
        lost = max(timedelta(), at - self.halted_at)
        return msgspec.structs.replace(self, began=self.began + lost, last=self.last + lost, halted_at=None)

    def estimate(self, left: int, at: datetime) -> Estimate | None:
        """How long `left` more videos take; None while too little was seen, and where none is left."""
        now = self._moment(at)
        seen, elapsed = self.finished - self.first, (now - self.began).total_seconds()
        if left <= 0 or seen < MIN_VIDEOS or elapsed < MIN_SECONDS:
            return None
        silence, gap = (now - self.last).total_seconds(), self._gap
        each = (self.seconds + max(0.0, silence - gap)) / self.videos  # a longer silence than usual: it got slower
        usual = left * each
        seconds = max(usual / 2, usual - min(silence, gap))
        spread = 1 + self._spread(left)
        return Estimate(seconds, seconds / spread, seconds * spread, MINUTE / each)

    @property
    def _gap(self) -> float:
        """Seconds: how long the gap usually is that one finds oneself in."""
        return self.gaps / self.seconds if self.seconds else 0.0

    @property
    def _memory(self) -> float:
        """Seconds after which something counts a third as much; nothing is forgotten before the first video."""
        return max(MEMORY_SECONDS, MEMORY_GAPS * self._gap) if self.seconds else inf

    def _spread(self, left: int) -> float:
        """The standard deviation of the time that is left, as a share of it: by how much the time between two videos
        varied, over those seen and those to come.
        """
        if not self.seconds:
            return 0.0
        variation = max(0.0, self._gap * self.videos / self.seconds - 1)
        return sqrt(variation * (1 / self.videos + 1 / left))

    def _moment(self, at: datetime) -> datetime:
        return self.halted_at or max(self.last, at)


class Forecast(msgspec.Struct, frozen=True):
    """The pace of a job's newest attempt, and the estimate that is shown, which stays for `REPAINT_SECONDS`."""

    attempt: int = 0
    pace: Pace | None = None
    estimate: Estimate | None = None
    estimated_at: datetime | None = None

    def after(self, *, attempt: int, finished: int, is_at_work: bool, at: datetime) -> Forecast:
        """With what is known of the job now; the pace rests while nothing is worked on."""
        if attempt != self.attempt:
            return Forecast(attempt).after(attempt=attempt, finished=finished, is_at_work=is_at_work, at=at)
        if is_at_work:
            pace = (self.pace or Pace.starting(at, finished)).going_on(at).reached(finished, at)
            return self if pace is self.pace else msgspec.structs.replace(self, pace=pace)
        return Forecast(attempt, self.pace.reached(finished, at).halted(at) if self.pace else None)

    def estimated(self, left: int, at: datetime) -> Forecast:
        """With the estimate to show now for `left` more videos."""
        if self.estimate and self.estimated_at and at - self.estimated_at < timedelta(seconds=REPAINT_SECONDS):
            return self
        estimate = self.pace and not self.pace.halted_at and self.pace.estimate(left, at)
        return msgspec.structs.replace(self, estimate=estimate or None, estimated_at=at)


def in_words(estimate: Estimate) -> str:
    """When it will be done, rounded.

    >>> in_words(Estimate(700, 600, 800, 5)), in_words(Estimate(700, 480, 890, 5)), in_words(Estimate(3, 1, 9, 5))
    ('about 12 min', '8 to 15 min', 'a few seconds')
    >>> in_words(Estimate(60, 38, 95, 5)), in_words(Estimate(4000, 3000, 6000, 5))
    ('40 s to 2 min', '50 min to 1 h 40 min')
    """
    if estimate.seconds < MIN_SECONDS:
        return "a few seconds"
    low, high = _parts(estimate.low), _parts(estimate.high)
    if estimate.high < WIDE * estimate.low or low == high:
        return "about " + " ".join(_parts(estimate.seconds))
    (low_number, low_unit), (high_number, high_unit) = low, high
    is_one_unit = low_unit == high_unit and " " not in high_number
    return f"{low_number} to {high_number} {high_unit}" if is_one_unit else f"{' '.join(low)} to {' '.join(high)}"


def rate_in_words(estimate: Estimate) -> str:
    """How fast it gets on.

    >>> rate_in_words(Estimate(0, 0, 0, 18.24))
    '18.2 / min'
    """
    return per_time(estimate.videos_per_minute)


def per_time(videos_per_minute: float) -> str:
    """A rate, in the larger unit where it is slow.

    >>> per_time(18.24), per_time(1234.5), per_time(0.07)
    ('18.2 / min', '1,234 / min', '4.2 / h')
    """
    rate, unit = (videos_per_minute, "min") if videos_per_minute >= 1 else (60 * videos_per_minute, "h")
    return f"{rate:,.1f} / {unit}" if rate < 99.95 else f"{rate:,.0f} / {unit}"


def _parts(seconds: float) -> tuple[str, str]:
    """A rounded duration as its number and its unit; of two units the first belongs to the number."""
    step = next(step for below, step in ROUNDED if seconds < below)
    whole = max(step, round(seconds / step) * step)
    if whole < MINUTE:
        return str(whole), "s"
    if whole < HOUR:
        return str(whole // MINUTE), "min"
    if whole >= 2 * DAY:
        return str(whole // DAY), "d"
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return (f"{hours} h {minutes}", "min") if minutes else (str(hours), "h")
