"""The speed of a job and its remaining time: one pure rule for the cards, the pages, REST and the terminal.

The time that a job worked is cut into stretches. Where the rate of the newest ones differs from what was before beyond
chance, only the newest count: a mass of videos that fail at once, because they have no file, says nothing about those
that are worked on. Within what counts, older time counts less: a third as much after 60 s, or after fifteen gaps
between finished videos if that is longer. The rate is constant within a gap, so a burst after a silence is averaged
with the silence. Paused time does not count. Nothing is said while the range would be too wide to be of use.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import accumulate
from math import exp, hypot, inf, log, sqrt

import msgspec

from backend.domain.video import MIN_WORK_SECONDS

MIN_VIDEOS, MIN_SECONDS = 5, 10.0  # before the first estimate
REPAINT_SECONDS = 5.0  # between two changes of the estimate that is shown
MEMORY_SECONDS, MEMORY_GAPS = 60.0, 15
MEMORY_STRETCHES, MAX_STRETCHES = 8, 24  # in one memory, and in all
CHANGE_RATIO, CHANGE_DEVIATIONS = 2.0, 3.0  # two rates differ if they do by more than both
USUAL_VARIATION, USUAL_VIDEOS = 0.1, 4  # assumed of the time between videos, as if so many had been seen
RANGE_DEVIATIONS = 1.8
MAX_DRIFT = 20.0  # a greater change of the rate is that to another kind of video
MAX_EXPONENT = 100.0  # of a range that is too wide anyway
MAX_RANGE_RATIO = 16.0  # of `high` to `low`; about a wider range nothing is said
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


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of a job's work: its seconds, the videos that finished in it, and how many of them failed.

    `squares` is the sum of the squared gaps between them, so that `squares / seconds` is the gap at a random moment.
    """

    seconds: float = 0.0
    videos: float = 0.0
    failed: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Stretch) -> Stretch:
        return Stretch(
            self.seconds + other.seconds,
            self.videos + other.videos,
            self.failed + other.failed,
            self.squares + other.squares,
        )

    def weighing(self, weight: float) -> Stretch:
        """Return the stretch as it counts in a sum."""
        return Stretch(self.seconds * weight, self.videos * weight, self.failed * weight, self.squares * weight)

    @property
    def each(self) -> float:
        """The seconds that a video took."""
        return self.seconds / self.videos

    @property
    def gap(self) -> float:
        """The expected length in seconds of the gap around a moment chosen at random."""
        return self.squares / self.seconds if self.seconds else 0.0

    @property
    def is_work(self) -> bool:
        """False if its videos failed so fast that they were not worked on."""
        return self.failed < self.videos or self.each >= MIN_WORK_SECONDS

    @property
    def variation(self) -> float:
        """The variance of the time between two videos as a share of its squared mean."""
        seen = max(0.0, self.gap / self.each - 1) if self.seconds else 0.0
        return (seen * self.videos + USUAL_VARIATION * USUAL_VIDEOS) / (self.videos + USUAL_VIDEOS)

    def change_from(self, before: Stretch) -> float:
        """Return how far the two rates are apart, in standard deviations; 0 if that may be chance."""
        if not (self.seconds and before.seconds) or before.videos < MIN_VIDEOS:
            return 0.0
        difference = abs(log(self.each / before.each))
        deviations = difference / self._chance(before, 1.0)
        return deviations if difference > log(CHANGE_RATIO) and deviations > CHANGE_DEVIATIONS else 0.0

    def drift_since(self, before: Stretch) -> float:
        """Return the logarithm of how much the rate changed beyond chance; 0 if nothing comparable was before."""
        if not (self.seconds and before.seconds and before.is_work):
            return 0.0
        difference = abs(log(self.each / before.each))
        return max(0.0, difference - self._chance(before, 0.0)) if difference <= log(MAX_DRIFT) else 0.0

    def _chance(self, other: Stretch, least: float) -> float:
        """Return the standard deviation of the logarithm of the ratio of two rates that are the same."""
        return sqrt((least + self.variation) / self.videos + (least + other.variation) / other.videos)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of one attempt of a job since `began`, when it had `first` finished videos.

    `last` is when the newest video finished; `failed` counts the videos that had failed then. `began` and `last` are
    moved forward by the time that the job was paused. `step` is how long the next stretch may become, in seconds.
    """

    began: datetime
    first: int
    last: datetime
    finished: int
    failed: int = 0
    paused_at: datetime | None = None
    stretches: tuple[Stretch, ...] = ()
    step: float = MEMORY_SECONDS / MEMORY_STRETCHES

    @classmethod
    def starting(cls, at: datetime, finished: int, failed: int = 0) -> Pace:
        """Return an empty pace, for an attempt that begins or that a restart of the server interrupted."""
        return cls(began=at, first=finished, last=at, finished=finished, failed=failed)

    def reached(self, finished: int, at: datetime, failed: int = 0) -> Pace:
        """Return the pace with this number of finished and failed videos. Ignores a smaller number than before.

        Videos that finish while the job is paused take no time.
        """
        new = finished - self.finished
        if new <= 0:
            return self
        now = self._moment(at)
        gap = (now - self.last).total_seconds()
        piece = Stretch(gap, new, min(new, max(0, failed - self.failed)), gap * gap)
        stretches = self._with(piece)
        pace = msgspec.structs.replace(
            self, last=now, finished=finished, failed=max(failed, self.failed), stretches=stretches
        )
        is_new = stretches[-1].seconds == gap
        return msgspec.structs.replace(pace, step=pace._memory / MEMORY_STRETCHES) if is_new else pace

    def paused(self, at: datetime) -> Pace:
        """Stop counting time at this moment."""
        return self if self.paused_at else msgspec.structs.replace(self, paused_at=self._moment(at))

    def resumed(self, at: datetime) -> Pace:
        """Count time again, as if none had passed during the pause."""
        if self.paused_at is None:
            return self
        lost = max(timedelta(), at - self.paused_at)
        return msgspec.structs.replace(self, began=self.began + lost, last=self.last + lost, paused_at=None)

    def estimate(self, left: int, at: datetime, share: float = 1.0) -> Estimate | None:
        """Return the time for `left` more videos; None if too few were seen, none is left, or nothing useful is known.

        `share` is how many of them are worked on at least, compared with those that were seen.
        """
        now = self._moment(at)
        elapsed = (now - self.began).total_seconds()
        if left <= 0 or elapsed < MIN_SECONDS or self.finished - self.first < MIN_VIDEOS:
            return None
        change = self._last_change()
        seen = sum(self.stretches[change:], Stretch())
        if seen.videos < MIN_VIDEOS or not seen.is_work:
            return None
        half = change or len(self.stretches) // 2
        older, newer = sum(self.stretches[:half], Stretch()), sum(self.stretches[half:], Stretch())
        silence = (now - self.last).total_seconds()
        return _estimate(self._weighed(self.stretches[change:]), left, silence, share, newer.drift_since(older))

    @property
    def _memory(self) -> float:
        """The seconds after which time counts a third as much."""
        return _memory(sum(self.stretches[-MEMORY_STRETCHES:], Stretch()))

    def _with(self, piece: Stretch) -> tuple[Stretch, ...]:
        """Return the stretches with the next gap; it belongs to the last one while that is short, but not shorter."""
        if not self.stretches:
            return (piece,)
        *others, last = self.stretches
        fits = last.seconds + piece.seconds <= self.step and piece.seconds <= last.seconds
        is_burst = piece.seconds < self.step / 10 and last.seconds < 2 * self.step
        return (*others, last + piece) if fits or is_burst else (*self.stretches, piece)[-MAX_STRETCHES:]

    def _last_change(self) -> int:
        """Return the index of the first stretch after the last change of the rate; 0 if there was none."""
        after = list(accumulate(reversed(self.stretches)))[::-1]
        start = 0
        while True:
            before = accumulate(self.stretches[start:-1])
            changes = [(after[index].change_from(past), index) for index, past in enumerate(before, start + 1)]
            change, index = max(changes, default=(0.0, 0))
            if not change:
                return start
            start = index

    def _weighed(self, stretches: tuple[Stretch, ...]) -> Stretch:
        """Return the sum in which older time counts less."""
        memory, age, total = self._memory, 0.0, Stretch()
        for stretch in reversed(stretches):
            total += stretch.weighing(exp(-age / memory))
            age += stretch.seconds
        return total

    def _moment(self, at: datetime) -> datetime:
        return self.paused_at or max(self.last, at)


def _memory(seen: Stretch) -> float:
    return max(MEMORY_SECONDS, MEMORY_GAPS * seen.gap)


def _estimate(seen: Stretch, left: int, silence: float, share: float, drift: float) -> Estimate | None:
    """Return the time for `left` videos like those seen, after this silence; None if that can be nearly anything."""
    gap = seen.gap
    each = (seen.seconds + max(0.0, silence - gap)) / seen.videos  # a longer silence than usual slows the job
    usual = left * each
    seconds = max(usual / 2, usual - min(silence, gap))
    chance = RANGE_DEVIATIONS * sqrt(seen.variation * (1 / seen.videos + 1 / left))
    spread = exp(min(MAX_EXPONENT, hypot(chance, drift)))
    slowest = max(usual, left * seen.each * silence / gap) if gap else usual  # if all are like the one that hangs
    soonest = min(seconds, max(usual / 8, usual - silence))  # the last one may be nearly done
    low, high = soonest * min(1.0, share) / spread, max(seconds * spread, slowest)
    return Estimate(seconds, low, high, MINUTE / each) if 0 < high <= MAX_RANGE_RATIO * low else None


class Forecast(msgspec.Struct, frozen=True):
    """The pace of a job's newest attempt, and the estimate that is shown for at least `REPAINT_SECONDS`."""

    attempt: int = 0
    pace: Pace | None = None
    estimate: Estimate | None = None
    estimated_at: datetime | None = None

    def after(self, *, attempt: int, finished: int, failed: int, is_at_work: bool, at: datetime) -> Forecast:
        """Return the forecast with the job's newest state. The pace is paused while no video is worked on."""
        if attempt != self.attempt:
            fresh = Forecast(attempt)
            return fresh.after(attempt=attempt, finished=finished, failed=failed, is_at_work=is_at_work, at=at)
        if is_at_work:
            pace = (self.pace or Pace.starting(at, finished, failed)).resumed(at).reached(finished, at, failed)
            return self if pace is self.pace else msgspec.structs.replace(self, pace=pace)
        return Forecast(attempt, self.pace.reached(finished, at, failed).paused(at) if self.pace else None)

    def estimated(self, left: int, at: datetime, share: float = 1.0) -> Forecast:
        """Return the forecast with the estimate to show now for `left` more videos; `share` as in `Pace.estimate`."""
        if self.estimate and self.estimated_at and at - self.estimated_at < timedelta(seconds=REPAINT_SECONDS):
            return self
        estimate = self.pace and not self.pace.paused_at and self.pace.estimate(left, at, share)
        return msgspec.structs.replace(self, estimate=estimate or None, estimated_at=at)


def share_of_work(*, found: int, total: int, finished: int, failed: int) -> float:
    """Return how many of the videos left have a file, compared with those that finished; at most 1.

    `found` counts those that had one at the start. More good results than that tell that files came later.

    >>> share_of_work(found=16, total=316, finished=308, failed=300)  # those without a file came first
    1.0
    >>> share_of_work(found=16, total=316, finished=8, failed=0) < 0.03  # they come last
    True
    >>> share_of_work(found=0, total=316, finished=8, failed=0)  # the directory was not there
    1.0
    """
    good, left = finished - failed, total - finished
    if good <= 0 or left <= 0 or good > found:
        return 1.0
    return min(1.0, (found - good) / left * finished / good)


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
