"""What was said about the end of a job on the way, and how true it was."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import inf
from statistics import median

import msgspec

from backend.domain.pace import MAX_RANGE_RATIO, Estimate

STAGES = (0, 10, 25, 50)  # percent of the videos of an attempt
JUDGED_STAGE = 25  # the one that counts in the statistics
MIN_JUDGED = 5  # fewer do not tell how far off forecasts usually are
JUDGED_AT_MOST = 40  # the newest ones
USUAL_ERROR = 0.5  # a forecast that is usually further off is shown as a range


class SaidForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was said at a stage of an attempt: the rest would take `seconds`, probably `low` to `high`.

    `ended_at` is when the job ended by itself, None until then; `paused_seconds` of the time until then it did not run.
    """

    job_id: str
    attempt: int
    stage: int
    processor: str
    said_at: datetime
    seconds: float
    low: float
    high: float
    ended_at: datetime | None = None
    paused_seconds: float = 0.0

    @classmethod
    def of(
        cls, estimate: Estimate, *, job_id: str, attempt: int, stage: int, processor: str, at: datetime
    ) -> SaidForecast:
        """Return what an estimate says."""
        return cls(
            job_id=job_id,
            attempt=attempt,
            stage=stage,
            processor=processor,
            said_at=at,
            seconds=estimate.seconds,
            low=estimate.low,
            high=estimate.high,
        )

    @property
    def said_end(self) -> datetime:
        """The end that was said."""
        return self.said_at + timedelta(seconds=self.seconds)

    @property
    def real_seconds(self) -> float | None:
        """How long the rest really took, apart from pauses; None while that is not known."""
        if self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.said_at).total_seconds() - self.paused_seconds)

    @property
    def error(self) -> float | None:
        """By how much it was off, as a share of what the rest really took; None while that is not known."""
        real = self.real_seconds
        return None if real is None else abs(self.seconds - real) / max(1.0, real)


def stage_of(finished: int, total: int) -> int:
    """Return the newest stage that an attempt has reached.

    >>> [stage_of(finished, 40) for finished in (0, 3, 4, 9, 10, 20, 39)]
    [0, 0, 10, 10, 25, 50, 50]
    """
    return max(stage for stage in STAGES if 100 * finished >= stage * total)


def usual_error(judged: Iterable[SaidForecast]) -> float | None:
    """Return by how much forecasts were off at the median; None if too few were judged."""
    errors = [said.error for said in judged if said.error is not None]
    return median(errors) if len(errors) >= MIN_JUDGED else None


def doubted(estimate: Estimate, error: float | None) -> Estimate | None:
    """Return the estimate as it may be said where forecasts are usually off by `error`: as a range, or None at all.

    >>> doubted(Estimate(100, 90, 110, 1), 0.4)
    Estimate(seconds=100, low=90, high=110, videos_per_minute=1)
    >>> doubted(Estimate(100, 90, 110, 1), 1.0)
    Estimate(seconds=100, low=50.0, high=200.0, videos_per_minute=1)
    >>> doubted(Estimate(100, 90, 110, 1), 5.0) is None
    True
    """
    if error is None or error <= USUAL_ERROR:
        return estimate
    factor = 1 + error if error < 1e6 else inf
    low, high = min(estimate.low, estimate.seconds / factor), max(estimate.high, estimate.seconds * factor)
    return msgspec.structs.replace(estimate, low=low, high=high) if high <= MAX_RANGE_RATIO * low else None
