"""The work on one attempt of a job, video by video, and when it will be done: pure, without a clock.

What is known before is used: the sizes of the files, what earlier results tell about such sizes (`habits`), and how
many videos run at once. What is seen then counts more and more: the seconds that videos took, compared with what they
were expected to take; of one that runs, its share. Where these ratios changed beyond chance, what was before does not
count, unless they keep changing. Only videos that were worked on count: those that fail at once, or that are passed
over, say nothing about the others, and however many of them come in a row, they do not let one expect many more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping
from itertools import accumulate
from math import exp, log, sqrt

import msgspec

from backend.domain.habits import Habit, PastResult, assumed, learned, spread_of
from backend.domain.pace import MAX_RANGE_RATIO, MIN_SECONDS, MIN_VIDEOS, MINUTE, Estimate
from backend.domain.video import MIN_WORK_SECONDS

MAX_GROUPS = 48
MAX_OWN_RESULTS = 400
TRUSTED_RESULTS = 30  # from so many on, results decide how seconds depend on sizes
EARLIER_SPREAD = 0.3  # of the logarithm of this attempt's seconds to the earlier ones
MAX_SURPRISE = 3.0  # standard deviations; earlier results that are further off say nothing about this attempt
CHANGE_VIDEOS, CHANGE_RATIO, CHANGE_DEVIATIONS = 3.0, 1.25, 2.5
DRIFT = 0.06  # by which ratios change later, in as much time as they were seen
MAX_DRIFT = 0.2
SURE_SHARE = 0.8  # of a running video that says nothing, after the time that it should have taken
UNSURE_SHARE = 0.25  # by how much the share of a running video may be wrong
RANGE_DEVIATIONS = 1.6
PASSED_OVER_RATIO = 10.0  # between videos that were worked on and those that were passed over
COUNTED_OF_A_RUN = 3  # of the videos in a row that failed at once or were passed over
CAUTION = 10  # videos that were worked on, as if they had been seen, too
MAX_SCHEDULED = 2_000  # of the videos left, the last ones: for those before them only the sum counts


class Amount(msgspec.Struct, frozen=True):
    """An amount of videos, with the sum of their sizes and of the squares of these."""

    videos: float = 0.0
    size: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.videos + other.videos, self.size + other.size, self.squares + other.squares)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.videos - other.videos, self.size - other.size, self.squares - other.squares)

    @classmethod
    def of(cls, size: float, share: float = 1.0) -> Amount:
        """Return the amount of a share of one video."""
        return cls(share, share * size, share * size * size)

    def work(self, habit: Habit) -> float:
        """Return the seconds that they are expected to take one after the other."""
        return habit.base * self.videos + habit.slope * self.size

    def square_work(self, habit: Habit) -> float:
        """Return the sum of the squares of their expected seconds."""
        base, slope = habit.base, habit.slope
        return base**2 * self.videos + 2 * base * slope * self.size + slope**2 * self.squares


def _sum_of(sizes: Collection[float]) -> Amount:
    return Amount(len(sizes), sum(sizes), sum(size * size for size in sizes))


class Group(msgspec.Struct):
    """Videos that began one after the other: what of them was worked on, and what was good in no time, in seconds."""

    begun: int = 0
    done: Amount = Amount()
    seconds: float = 0.0
    quick: Amount = Amount()
    quick_seconds: float = 0.0

    def joined(self, other: Group) -> Group:
        """Return both as one."""
        return Group(
            self.begun + other.begun,
            self.done + other.done,
            self.seconds + other.seconds,
            self.quick + other.quick,
            self.quick_seconds + other.quick_seconds,
        )


class Running(msgspec.Struct):
    """A video that runs: the size of its file, its group, and the share that was done at `told_at`.

    `step` is how much its share grew last time: it may be nearly as far again.
    """

    size: float
    group: int
    began: float
    share: float = 0.0
    told_at: float = 0.0
    step: float = 1.0


class Course:
    """One attempt of a job. Times are seconds since 1970 and may not go back; paused time does not count.

    `sizes` has the videos to do by position, in their order: the size of the file, None if it is unknown, 0 for a video
    without a file. `earlier` is what earlier results of the processor tell.
    """

    def __init__(self, sizes: Mapping[int, float | None], earlier: Habit | None, *, at: float) -> None:
        self._earlier = earlier
        self._assumed = assumed(sizes.values())
        usual = earlier.usual_size if earlier else self._assumed.usual_size
        self._left = {position: usual if size is None else size for position, size in sizes.items() if size != 0}
        self._is_sized = any(sizes.values())
        self._to_do = _sum_of(self._left.values())
        self._videos, self._open = len(sizes), set(sizes)  # those without a result
        self._running: dict[int, Running] = {}
        self._groups: list[Group] = []
        self._group_size = 1
        self._all = Group()
        self._own: deque[PastResult] = deque(maxlen=MAX_OWN_RESULTS)
        self._at, self._worked, self._is_paused = at, 0.0, False
        self._instants, self._run = 0, 0  # those that count, and those in a row just now

    @property
    def videos(self) -> int:
        """Number of the attempt's videos."""
        return self._videos

    @property
    def finished(self) -> int:
        """Number of them with a result."""
        return self._videos - len(self._open)

    @property
    def earlier_results(self) -> int:
        """Number of earlier results that it knows."""
        return self._earlier.results if self._earlier else 0

    @property
    def worked_seconds(self) -> float:
        """The working time so far, as of the newest event."""
        return self._worked

    @property
    def is_over(self) -> bool:
        """True if no video that is worked on is left."""
        return not self._left and not self._running

    def pass_time(self, at: float) -> None:
        """Let time pass without an event."""
        if not self._is_paused:
            self._worked += max(0.0, at - self._at)
        self._at = max(at, self._at)

    def pause(self, at: float) -> None:
        """Stop counting time at this moment. What runs begins again later."""
        self.pass_time(at)
        for position in list(self._running):
            self.give_back(position, at)
        self._is_paused = True

    def resume(self, at: float) -> None:
        """Count time again."""
        self.pass_time(at)
        self._is_paused = False

    def start(self, position: int, at: float) -> None:
        """Begin the work on a video."""
        self.pass_time(at)
        size = self._left.pop(position, None)
        if size is not None:
            self._to_do -= Amount.of(size)
            self._running[position] = Running(size, self._next_group(), self._worked)

    def progress(self, position: int, share: float, at: float) -> None:
        """Note the share of a running video that is done."""
        self.pass_time(at)
        running = self._running.get(position)
        if running is not None and share > running.share:
            running.step, running.told_at = share - running.share, self._worked
            running.share = min(1.0, share)

    def give_back(self, position: int, at: float) -> None:
        """Note that a running video has to be begun again later."""
        self.pass_time(at)
        if running := self._running.pop(position, None):
            self._left[position] = running.size
            self._to_do += Amount.of(running.size)

    def end(self, position: int, seconds: float, *, failed: bool, at: float) -> None:
        """Note the result of a video that took so many seconds."""
        self.start(position, at)
        self._open.discard(position)
        running = self._running.pop(position, None)
        if running is None:  # it has no file
            return
        if seconds >= MIN_WORK_SECONDS:
            self._run = 0
            self._add(running, Group(done=Amount.of(running.size), seconds=seconds))
        else:
            self._run += 1
            self._instants += self._run <= COUNTED_OF_A_RUN
            if not failed:
                self._add(running, Group(quick=Amount.of(running.size), quick_seconds=seconds))
        if not failed:
            self._own.append(PastResult(running.size if self._is_sized else None, seconds))

    def recall(self, position: int, seconds: float, *, failed: bool) -> None:
        """Note a result from before; they come in the order in which the videos began."""
        self._worked += seconds
        self.end(position, seconds, failed=failed, at=self._at)

    def estimate(self, at: float, lanes: float) -> Estimate | None:
        """Return the time until the last video is done with so many running at once; None if nothing useful is known.

        Without earlier results, some videos must have been worked on first.
        """
        self.pass_time(at)
        if self.is_over or (self._earlier is None and not self._has_seen_enough):
            return None
        return _View(self, lanes).estimate()

    @property
    def _has_seen_enough(self) -> bool:
        counted = self._all.done.videos + (self._all.quick.videos if self._is_quick_work else 0.0)
        return counted >= MIN_VIDEOS and self._worked >= MIN_SECONDS

    @property
    def _is_quick_work(self) -> bool:
        """True if videos that were good in no time count as worked on: nothing tells that others take longer."""
        seen = self._all
        if not seen.quick.videos:
            return False
        limit = PASSED_OVER_RATIO * seen.quick_seconds / seen.quick.videos
        if seen.done.videos:
            return seen.seconds / seen.done.videos < limit
        return self._earlier is None or self._earlier.seconds(None) < limit

    def _next_group(self) -> int:
        """Return the group of a video that begins."""
        if not self._groups or self._groups[-1].begun >= self._group_size:
            self._groups.append(Group())
        if len(self._groups) > MAX_GROUPS:
            pairs = zip(self._groups[::2], [*self._groups[1::2], Group()], strict=False)
            self._groups = [one.joined(other) for one, other in pairs]
            self._group_size *= 2
            for running in self._running.values():
                running.group //= 2
        self._groups[-1].begun += 1
        return len(self._groups) - 1

    def _add(self, running: Running, news: Group) -> None:
        self._groups[running.group] = self._groups[running.group].joined(news)
        self._all = self._all.joined(news)

    def _share(self, running: Running) -> float:
        """Return the share of a running video; since it told it last, it got on as before."""
        passed = self._worked - running.began
        if running.share:
            speed = running.share / max(0.001, running.told_at - running.began)
            return min(0.99, running.share + min(running.step, speed * (self._worked - running.told_at)))
        expected = self._expected_seconds(running.size)
        return 0.0 if expected is None else SURE_SHARE * min(1.0, passed / expected)

    def _expected_seconds(self, size: float) -> float | None:
        """Return how long a video of this size takes in this attempt; None while nothing tells that."""
        habit = self._earlier or self._assumed
        if not self._all.done.videos:
            return None if self._earlier is None else habit.seconds(size)
        return habit.seconds(size) * self._all.seconds / self._all.done.work(habit)


class _Seen(msgspec.Struct, frozen=True):
    """What some groups show: work, the seconds that it took, and the squares of its parts, also of those that run."""

    videos: float = 0.0
    work: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0
    unsure: float = 0.0

    def __add__(self, other: _Seen) -> _Seen:
        return _Seen(
            self.videos + other.videos,
            self.work + other.work,
            self.seconds + other.seconds,
            self.squares + other.squares,
            self.unsure + other.unsure,
        )

    @property
    def is_enough(self) -> bool:
        return self.videos >= CHANGE_VIDEOS and self.seconds > 0 and self.work > 0

    @property
    def ratio(self) -> float:
        """The logarithm of the seconds that a second of expected work took."""
        return log(self.seconds / self.work)

    def doubt(self, spread: float) -> float:
        """Return the variance of the ratio."""
        return (spread**2 * self.squares + UNSURE_SHARE**2 * self.unsure) / self.work**2


class _View:
    """What a course shows at a moment."""

    def __init__(self, course: Course, lanes: float) -> None:
        self._course = course
        self._counts_quick = course._is_quick_work
        self._habit = self._usual_habit()
        self._seen = self._all_seen()
        left = len(course._left) + len(course._running)
        self._lanes = max(1.0, min(max(lanes, len(course._running)), left))

    def estimate(self) -> Estimate | None:
        """Return the time that the rest takes."""
        found = self._ratio()
        rest = self._rest()
        if found is None or rest.videos <= 0:
            return None
        ratio, doubt = found
        seconds = self._makespan() * exp(ratio)
        if seconds <= 0:
            return None
        chance = self._habit.spread**2 * rest.square_work(self._habit) / rest.work(self._habit) ** 2
        passed = sum(seen.seconds for seen in self._seen) / self._lanes
        drift = min(MAX_DRIFT, DRIFT * sqrt(seconds / max(1.0, passed)))
        factor = exp(min(50.0, RANGE_DEVIATIONS * sqrt(doubt + chance + drift**2)))
        low, high, per_minute = seconds / factor, seconds * factor, MINUTE * rest.videos / seconds
        return Estimate(seconds, low, high, per_minute) if high <= MAX_RANGE_RATIO * low else None

    def _usual_habit(self) -> Habit:
        """Return how seconds depend on sizes, by what is known best, and how much they vary in this attempt."""
        earlier, own = self._course._earlier, self._course._own
        habit = earlier or self._course._assumed
        if earlier is None or earlier.results < TRUSTED_RESULTS:
            seen = learned(own)
            if seen is not None and (seen.results >= TRUSTED_RESULTS or not self._course._is_sized):
                return seen
        return msgspec.structs.replace(habit, spread=spread_of(habit, own))

    def _all_seen(self) -> list[_Seen]:
        """Return what each group shows now."""
        habit = self._habit
        seen = [self._seen_in(group) for group in self._course._groups]
        for running in self._course._running.values():
            part = Amount.of(running.size, self._course._share(running))
            seconds, work = self._course._worked - running.began, part.work(habit)
            seen[running.group] += _Seen(
                part.videos, work, seconds if work else 0.0, work**2, habit.seconds(running.size) ** 2
            )
        return seen

    def _seen_in(self, group: Group) -> _Seen:
        amount = group.done + group.quick if self._counts_quick else group.done
        seconds = group.seconds + group.quick_seconds * self._counts_quick
        return _Seen(amount.videos, amount.work(self._habit), seconds, amount.square_work(self._habit))

    def _ratio(self) -> tuple[float, float] | None:
        """Return the logarithm of real to expected seconds, and its variance; None if nothing is known."""
        seen, extra = self._newest()
        earlier = self._earlier_ratio()
        if seen.seconds <= 0 or seen.work <= 0 or seen.videos < 0.5:
            return None if earlier is None else (earlier, EARLIER_SPREAD**2)
        ratio, doubt = seen.ratio, seen.doubt(self._habit.spread) + extra
        if earlier is None or abs(ratio - earlier) > MAX_SURPRISE * sqrt(doubt + EARLIER_SPREAD**2):
            return ratio, doubt
        total = 1 / doubt + 1 / EARLIER_SPREAD**2
        return (ratio / doubt + earlier / EARLIER_SPREAD**2) / total, 1 / total

    def _earlier_ratio(self) -> float | None:
        """Return the ratio by earlier results: 0, unless the habit is another one."""
        earlier = self._course._earlier
        if earlier is None:
            return None
        everything = self._course._all.done + self._course._to_do
        here, there = everything.work(self._habit), everything.work(earlier)
        return log(there / here) if here > 0 and there > 0 else 0.0

    def _newest(self) -> tuple[_Seen, float]:
        """Return what counts of what was seen, and the variance that comes from changes."""
        cuts = self._changes(0, len(self._seen))
        parts = [sum(self._seen[a:b], _Seen()) for a, b in zip([0, *cuts], [*cuts, len(self._seen)], strict=True)]
        if len(parts) < 3:
            return parts[-1] if parts else _Seen(), 0.0
        everything = sum(parts, _Seen())
        squares = sum(part.work * (part.ratio - everything.ratio) ** 2 for part in parts) / everything.work
        return everything, squares / len(parts)

    def _changes(self, begin: int, end: int) -> list[int]:
        """Return where the ratio changes beyond chance, in order."""
        sums = [_Seen(), *accumulate(self._seen[begin:end])]
        after = [_Seen(), *accumulate(reversed(self._seen[begin:end]))][::-1]
        changes = [(_change(sums[place], after[place], self._habit.spread), place) for place in range(1, end - begin)]
        change, place = max(changes, default=(0.0, 0))
        if not change:
            return []
        return [*self._changes(begin, begin + place), begin + place, *self._changes(begin + place, end)]

    def _rest(self) -> Amount:
        rest = self._course._to_do
        for running in self._course._running.values():
            rest += Amount.of(running.size, 1 - self._course._share(running))
        return rest

    def _share_of_work(self) -> float:
        """Return how many of the videos that wait will be worked on, as far as the others tell."""
        if self._counts_quick:
            return 1.0
        worked_on = self._course._all.done.videos + CAUTION
        return worked_on / (worked_on + self._course._instants)

    def _makespan(self) -> float:
        """Return the expected time until the last video is done, each begun when a lane is free."""
        course, habit, share = self._course, self._habit, self._share_of_work()
        last = list(course._left.values())[-MAX_SCHEDULED:]
        before = course._to_do - _sum_of(last)
        number = int(self._lanes + 0.999)
        lanes = [max(0.0, before.work(habit)) * share / number] * number
        running = [habit.seconds(one.size) * (1 - course._share(one)) for one in course._running.values()]
        for work in running + [habit.seconds(size) * share for size in last]:
            heapq.heapreplace(lanes, lanes[0] + work)
        return max(lanes) * number / self._lanes


def _change(before: _Seen, after: _Seen, spread: float) -> float:
    """Return by how many standard deviations the ratio differs before and after; 0 if by chance."""
    if not (before.is_enough and after.is_enough):
        return 0.0
    difference = abs(before.ratio - after.ratio)
    deviations = difference / sqrt(before.doubt(spread) + after.doubt(spread))
    return deviations if difference > log(CHANGE_RATIO) and deviations > CHANGE_DEVIATIONS else 0.0
