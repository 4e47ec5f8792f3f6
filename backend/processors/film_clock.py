"""A film's clock: the time stamps of its tracks as seconds since its beginning. Pure values.

A container's clock need not begin at zero, may be set back or jump (joined recordings), wraps in a transport stream
after 26.5 h, and its declared duration may be a length, an end on that clock, or wrong. Everything that needs a film's
time (progress, pacing, losses, poster, duration) takes it from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_STEP_SECONDS = 3600.0  # a picture may be shown for so long; a longer step is a jump of the clock
MAX_STREAM_STEP_SECONDS = 10.0  # in formats whose clock is known to jump (FFmpeg's own bound)
MAX_STEP_BACK_SECONDS = 1.0  # small steps back are the reordering of pictures,
MAX_STREAM_STEP_BACK_SECONDS = 0.2  # in formats that store when to decode: in one recording, that never goes back
MAX_REORDERED_PICTURES = 4  # also of pictures that are shown for long
PLAUSIBLE_FACTOR = 4.0  # a step may be so many times as long as the bytes that are missing in it suggest
MIN_MISSING_SECONDS = 0.25  # less is what a container puts where two recordings are joined
END_TOLERANCE_SECONDS = 0.3  # between a declared end and the end of the tracks, beside `END_TOLERANCE_SHARE`
END_TOLERANCE_SHARE = 0.01


@dataclass(slots=True)
class TrackClock:
    """The clock of one track. `start` is where the film begins on the container's clock.

    `max_step` and `max_back` are the longest steps, in seconds, that are not a jump.
    """

    start: float
    max_step: float = MAX_STEP_SECONDS
    max_back: float = MAX_STEP_BACK_SECONDS
    jumps: int = 0
    now: float = 0.0
    _shift: float = 0.0
    _earlier_shift: float | None = None
    _stamp: float | None = None
    _seconds: float = 0.0

    def __post_init__(self) -> None:
        self._shift = self.start

    def read(
        self, stamp: float, seconds: float, missing_seconds: float = 0.0, others: Iterable[TrackClock] = ()
    ) -> float:
        """Return the film time of what is read next in this track, and whose time stamp is `stamp`.

        `missing_seconds` is about how much could not be read before it. `others` are the clocks of the other tracks: a
        step that brings this track to where another one is belongs to the same piece of the film.
        """
        if missing_seconds < MIN_MISSING_SECONDS:
            missing_seconds = 0.0
        if self._is_suspicious(stamp, missing_seconds):
            near = (clock._shift for clock in others if clock.is_near(stamp))
            is_back = self._stamp is not None and stamp < self._stamp
            shifts = (shift for shift in near if shift != self._shift or not is_back)
            self._begin_again(next(shifts, stamp - self._expected(missing_seconds)))
        self._stamp, self._seconds = stamp, seconds
        self.now = stamp - self._shift
        return self.now

    def is_near(self, stamp: float) -> bool:
        """Return True if this track is at about this time stamp."""
        return self._stamp is not None and abs(stamp - self._stamp) <= self.max_step

    def place(self, stamp: float, near: float) -> float:
        """Return the film time of a picture that leaves the decoder, which may have been read before the last jump."""
        at = stamp - self._shift
        if self._earlier_shift is None:
            return at
        earlier = stamp - self._earlier_shift
        return earlier if abs(earlier - near) < abs(at - near) else at

    def _is_suspicious(self, stamp: float, missing_seconds: float) -> bool:
        if self._stamp is None:
            return not -MAX_STEP_SECONDS <= stamp - self.start <= self.max_step  # decoding begins before showing
        back = max(self.max_back, MAX_REORDERED_PICTURES * self._seconds)
        return not -back <= stamp - self._stamp <= max(self.max_step, PLAUSIBLE_FACTOR * missing_seconds)

    def _expected(self, missing_seconds: float) -> float:
        return self.now + self._seconds + missing_seconds

    def _begin_again(self, shift: float) -> None:
        if shift != self._shift:
            self.jumps += self._stamp is not None
            self._earlier_shift, self._shift = self._shift, shift


@dataclass(slots=True)
class FilmClock:
    """The clocks of a film's tracks, by their numbers. `start` None: the first time stamp is the beginning."""

    start: float | None
    max_step: float = MAX_STEP_SECONDS
    max_back: float = MAX_STEP_BACK_SECONDS
    reached: float = 0.0
    jumps: int = 0  # how often the clock was set back or jumped
    tracks: dict[int, TrackClock] = field(default_factory=dict)

    def read(self, track: int, stamp: float, seconds: float, missing_seconds: float = 0.0) -> float:
        """Return the film time of what is read next in this track. See `TrackClock.read`."""
        if self.start is None:
            self.start = stamp
        clock = self.tracks.get(track)
        if clock is None:
            clock = self.tracks[track] = TrackClock(self.start, self.max_step, self.max_back)
        at = clock.read(
            stamp, seconds, missing_seconds, (other for other in self.tracks.values() if other is not clock)
        )
        self.jumps = max(self.jumps, clock.jumps)
        if at + seconds > self.reached:
            self.reached = at + seconds
        return at

    def place(self, track: int, stamp: float, seconds: float, near: float) -> float:
        """Return the film time of a stamp that says nothing about the clock of its track, which was read before."""
        at = self.tracks[track].place(stamp, near)
        self.reached = max(self.reached, min(at, near + self.max_step) + seconds)
        return at


def declared_length(declared: float | None, start: float, reached: float) -> float | None:
    """Return how long a film that ends after `reached` seconds should be, from the duration that its header declares.

    The declared number is a length or, in some files whose clock does not begin at zero, an end on that clock; the
    shorter one counts if the film does not contradict it.

    >>> declared_length(3605.0, 3600.0, 5.0), declared_length(3605.0, 3600.0, 2.0), declared_length(20.0, 1.4, 20.0)
    (5.0, 5.0, 20.0)
    """
    if declared is None or declared <= 0:
        return None
    shorter = declared - start
    if 0 < shorter < declared and reached <= shorter + end_tolerance(shorter):
        return shorter
    return declared


def end_tolerance(length: float) -> float:
    """Return how many seconds a film may end before or after its declared end."""
    return max(END_TOLERANCE_SECONDS, END_TOLERANCE_SHARE * length)
