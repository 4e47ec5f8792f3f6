"""How good forecasts are: what is said on the way through simulated nights, beside what was really left.

    python -m tests.acceptance.forecasts [nights] [--seed N]

Prints, for the start and for 10, 25 and 50 % of the videos: the error of what was said (median, p90), how often
something was said, how often the truth lay in the range that was shown, and how wide that was. The rule of before
(`domain.pace`, which counts videos and knows no sizes) is asked at the same moments. Time in pauses does not count: a
pause cannot be foreseen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from random import Random
from statistics import quantiles

from backend.domain.course import Course
from backend.domain.habits import learned
from backend.domain.pace import Estimate, Pace, share_of_work
from tests.support.clock import NOON
from tests.support.nights import KINDS, Moment, Night, night

STAGES = (0, 10, 25, 50)
AIM_STAGE, AIM_MEDIAN, AIM_P90, AIM_RIGHT = 25, 0.10, 0.35, 0.80
NEW, OLD = "with sizes and earlier results", "the rule of before"


@dataclass(frozen=True)
class Said:
    """What a rule said at a stage of a night, and the working seconds that were really left."""

    rule: str
    kind: str
    stage: int
    estimate: Estimate | None
    left: float

    @property
    def error(self) -> float:
        """The error as a share of what was left; infinite if nothing was said."""
        return inf if self.estimate is None else abs(self.estimate.seconds - self.left) / self.left

    @property
    def is_right(self) -> bool:
        """True if the range that was said has the truth in it."""
        return self.estimate is not None and self.estimate.low <= self.left <= self.estimate.high


class Watcher:
    """Sees a night as the server does, and asks both rules at each stage."""

    def __init__(self, made: Night) -> None:
        self._night = made
        self._sizes = dict(enumerate(file.size or 0.0 for file in made.files))
        self._course = Course(self._sizes, learned(made.earlier), at=0.0)
        self._pace = Pace.starting(NOON, 0)
        self._done = self._failed = 0
        self._worked = self._seen_at = 0.0
        self._is_paused = False

    def said(self) -> Iterator[Said]:
        """Yield what both rules say at each stage."""
        moments = self._night.moments()
        total = self._working_seconds(moments)
        stages = list(STAGES)
        for moment in moments:
            self._take(moment)
            while stages and moment.what in ("start", "end") and self._done >= len(self._sizes) * stages[0] / 100:
                yield from self._ask(stages.pop(0), moment.at, total - self._worked)

    def _ask(self, stage: int, at: float, left: float) -> Iterator[Said]:
        if left <= 0:
            return
        now = NOON + timedelta(seconds=at)
        found = sum(size > 0 for size in self._sizes.values())
        share = share_of_work(found=found, total=len(self._sizes), finished=self._done, failed=self._failed)
        old = self._pace.estimate(len(self._sizes) - self._done, now, share)
        yield Said(OLD, self._night.kind, stage, old, left)
        yield Said(NEW, self._night.kind, stage, self._course.estimate(at, self._night.slots), left)

    def _take(self, moment: Moment) -> None:
        if not self._is_paused:
            self._worked += moment.at - self._seen_at
        self._seen_at = moment.at
        now = NOON + timedelta(seconds=moment.at)
        match moment.what:
            case "start":
                self._course.start(moment.position, moment.at)
            case "step":
                self._course.progress(moment.position, moment.share, moment.at)
            case "end":
                self._done, self._failed = self._done + 1, self._failed + moment.fails
                self._course.end(moment.position, moment.seconds, failed=moment.fails, at=moment.at)
                self._pace = self._pace.reached(self._done, now, self._failed)
            case "pause":
                self._is_paused, self._pace = True, self._pace.paused(now)
                self._course.pause(moment.at)
            case "resume":
                self._is_paused, self._pace = False, self._pace.resumed(now)
                self._course.resume(moment.at)

    def _working_seconds(self, moments: Iterable[Moment]) -> float:
        worked, seen, is_paused = 0.0, 0.0, False
        for moment in moments:
            worked += 0.0 if is_paused else moment.at - seen
            seen = moment.at
            is_paused = moment.what == "pause" or (is_paused and moment.what != "resume")
        return worked


@dataclass(frozen=True)
class Score:
    """How good a rule was at a stage."""

    asked: int
    spoken: int
    median: float
    p90: float
    right: float
    width: float

    @classmethod
    def of(cls, said: Iterable[Said]) -> Score:
        """Return the score. Errors and ranges are those of what was said."""
        every = list(said)
        spoken = [one for one in every if one.estimate is not None]
        if not spoken:
            return cls(len(every), 0, inf, inf, 0.0, inf)
        errors = sorted(one.error for one in spoken)
        widths = sorted(one.estimate.high / one.estimate.low for one in spoken if one.estimate)
        right = sum(one.is_right for one in spoken) / len(spoken)
        return cls(
            len(every), len(spoken), _percentile(errors, 50), _percentile(errors, 90), right, _percentile(widths, 50)
        )

    def __str__(self) -> str:
        return (
            f"{self.spoken:3} of {self.asked:3} | {self.median:7.1%} | {self.p90:7.1%} | {self.right:6.0%} | "
            f"{self.width:5.2f}"
        )


def nights(number: int, seed: int) -> list[Said]:
    """Return what was said in so many nights, of all kinds in turn."""
    rng = Random(seed)
    made = (night(KINDS[n % len(KINDS)], Random(rng.getrandbits(64))) for n in range(number))
    return [said for one in made for said in Watcher(one).said()]


def _percentile(ordered: list[float], percent: int) -> float:
    if len(ordered) == 1:
        return ordered[0]
    return quantiles(ordered, n=100, method="inclusive")[percent - 1]


def main() -> int:
    """Print the table; 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nights", type=int, nargs="?", default=60)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--kinds", action="store_true", help="a table for each kind of night at a quarter")
    arguments = parser.parse_args()
    said = nights(arguments.nights, arguments.seed)
    print(f"{arguments.nights} nights, seed {arguments.seed}")
    print(f"{'':32} | said       | median  | p90     | right  | width")
    for rule in (NEW, OLD):
        for stage in STAGES:
            score = Score.of(one for one in said if (one.rule, one.stage) == (rule, stage))
            print(f"{rule[:24]:24} at {stage:2} % | {score}")
    if arguments.kinds:
        for rule in (NEW, OLD):
            for kind in KINDS:
                score = Score.of(one for one in said if (one.rule, one.stage, one.kind) == (rule, AIM_STAGE, kind))
                print(f"{rule[:12]:12} {kind:19} | {score}")
    aim = Score.of(one for one in said if (one.rule, one.stage) == (NEW, AIM_STAGE))
    has_passed = aim.median <= AIM_MEDIAN and aim.p90 <= AIM_P90 and aim.right >= AIM_RIGHT
    print(f"Aim at {AIM_STAGE} %: median ≤ 10 %, p90 ≤ 35 %, right ≥ 80 %: {'reached' if has_passed else 'missed'}")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
