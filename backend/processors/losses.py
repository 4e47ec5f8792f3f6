"""Counts what a track lost, from what was really read and decoded. Pure values; times are seconds of the film.

A gap between two pictures is a loss only if the reading has evidence for it (`mark`): an error of the demuxer or
decoder, a packet that is marked as corrupt, or bytes that nothing was read from. Films whose pictures are shown for
different times have long steps without any evidence. Nothing declared is believed: the usual step is the film's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_SPANS = 200  # of a track; more are merged
MAX_STEPS = 2000  # different lengths of steps, in milliseconds, that are counted
LONG_GAP_SECONDS = 1.0  # gaps without evidence that are as long are remembered
MAX_MARKS = 64
MAX_PACKETS_AT_JOIN = 2  # a parser holds one back, so the mark may be on the one before
MIN_MISSING_BYTES = 1024
MIN_MISSING_SHARE = 0.3  # of the bytes between two packets of a track
MAX_OVERHEAD = 0.2  # of a container that is not damaged


class Spans:
    """Spans of time in ascending order; a span that begins within `join` seconds of the last one is joined to it."""

    def __init__(self, join: float = 0.0) -> None:
        self.all: list[tuple[float, float]] = []
        self._join = join

    def add(self, begin: float, end: float) -> None:
        """Add a span."""
        if self.all and (begin <= self.all[-1][1] + self._join or len(self.all) >= MAX_SPANS):
            begin = min(self.all[-1][0], begin)
            end = max(self.all.pop()[1], end)
        self.all.append((begin, end))

    def overlap(self, others: Spans) -> list[tuple[float, float]]:
        """Return the spans of time that are in both."""
        both = ((max(a, c), min(b, d)) for a, b in self.all for c, d in others.all)
        return [(begin, end) for begin, end in both if begin < end]


@dataclass(slots=True)
class _CorruptPacket:
    number: int
    mark: tuple[float, float]


@dataclass(slots=True)
class UsualStep:
    """The median of the steps so far, in seconds; 0 if there is none."""

    seconds: float = 0.0
    total: int = 0
    regular: int = 0  # steps that were about as long as the usual one
    _counts: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        """Count a step."""
        milliseconds = round(seconds * 1000)
        counts = self._counts
        if milliseconds in counts or len(counts) < MAX_STEPS:
            counts[milliseconds] = counts.get(milliseconds, 0) + 1
            self.total += 1
            self.regular += abs(seconds - self.seconds) <= 0.2 * self.seconds
            if self.total & (self.total - 1) == 0:  # 1, 2, 4, 8 …
                self.seconds = self._median()

    def _median(self) -> float:
        passed = 0
        for milliseconds in sorted(self._counts):
            passed += self._counts[milliseconds]
            if 2 * passed >= self.total:
                return milliseconds / 1000
        return 0.0


@dataclass(slots=True)
class TrackLosses:
    """What one track showed and lost. A unit is a picture, or a frame of sound.

    `is_predicted`: what follows a loss is not sound before the next key picture.
    """

    is_predicted: bool = True
    packets: int = 0
    bad_packets: int = 0
    shown: int = 0
    # units that the decoder shows, but knows to be damaged
    damaged: int = 0
    # units that follow a loss, up to the next key picture: they may be smeared
    smeared: int = 0
    lost: float = 0.0
    spans: Spans = field(default_factory=lambda: Spans(join=1.0))
    holes: Spans = field(default_factory=lambda: Spans(join=1.0))
    unexplained: Spans = field(default_factory=Spans)
    # False: lost before the track was stored, as far as one can tell
    has_unreadable_bytes: bool = False
    first: float | None = None
    end: float = 0.0
    read_begin: float | None = None
    read_end: float = 0.0
    begins_with_key: bool = True
    has_lost_beginning: bool = False
    step: UsualStep = field(default_factory=UsualStep)
    # units since the last damage cannot be told to be sound
    is_unsound: bool = False
    is_last_damaged: bool = False
    # time of damaged units
    damages: Spans = field(default_factory=lambda: Spans(join=1.0))
    _last: float = 0.0
    _marks: list[tuple[float, float]] = field(default_factory=list)
    _last_corrupt: _CorruptPacket | None = None

    def read(self, at: float, seconds: float, *, is_key: bool) -> None:
        """Note that a packet was read whose content is shown from `at` on, for this many seconds."""
        if self.read_begin is None:
            self.begins_with_key = is_key
            self.read_begin = at
        elif self.shown == 0:
            self.read_begin = min(self.read_begin, at)
        if at + seconds > self.read_end:
            self.read_end = at + seconds

    def note_packet(self, at: float, seconds: float, *, is_corrupt: bool) -> None:
        """Note whether the demuxer calls the packet corrupt that was read last."""
        if is_corrupt:
            self.bad_packets += 1
            self.mark(at, at + seconds)
            self._last_corrupt = _CorruptPacket(self.packets, (at, at + seconds))

    def begin_recording(self) -> None:
        """Note that another recording is joined here: only its counters made the last packet look corrupt.

        If that packet is incomplete, its decoder has said so.
        """
        corrupt = self._last_corrupt
        if corrupt is not None and self.packets - corrupt.number <= MAX_PACKETS_AT_JOIN:
            self.bad_packets -= 1
            self._marks = [mark for mark in self._marks if mark != corrupt.mark]
            self._last_corrupt = None

    def mark(self, begin: float, end: float) -> None:
        """Note evidence that something between these times is lost."""
        if len(self._marks) >= MAX_MARKS:
            begin = min(self._marks.pop()[0], begin)
        self._marks.append((begin, end))

    def show(self, at: float, seconds: float, *, is_key: bool, is_corrupt: bool) -> None:
        """Note that a unit left the decoder."""
        if self.shown == 0:
            self._begin(at, seconds)
        elif at > self._last:
            self._follow(at, is_at_damage=is_corrupt or self.is_last_damaged)
        self.shown += 1
        if self._marks:
            self._forget_marks(at)
        if is_key or not self.is_predicted:
            self.is_unsound = False
        self.is_last_damaged = is_corrupt
        if is_corrupt:
            self.damaged += 1
            self.damages.add(at, at + seconds)
            self.is_unsound = True
        elif self.is_unsound:
            self.smeared += 1
        if at >= self._last:
            self._last = at
            self.end = max(self.end, at + (seconds or self.step.seconds))

    def note_hole(self, at: float) -> None:
        """Note that bytes before this time could not be read, in a track whose time stamps do not show it."""
        self.holes.add(at, at)
        self.is_unsound = True

    def finish(self) -> None:
        """Count what was read after the last unit that was shown."""
        rest = self.read_end - self.end
        if self.shown and rest > 0.5 * self.step.seconds and self._has_mark(self.end, self.read_end):
            self._lose(self.end, self.read_end)

    @property
    def is_torn(self) -> bool:
        """True if the last unit is incomplete."""
        return self.is_last_damaged or any(end >= self.end - 2 * self.step.seconds for _, end in self._marks)

    @property
    def sound(self) -> float:
        """The number of units that were shown and are sound."""
        return self.shown - self.damaged - self.smeared

    @property
    def unshown_beginning(self) -> float:
        """The seconds at the beginning that were read but cannot be shown."""
        return max(0.0, (self.first or 0.0) - self.read_begin) if self.read_begin is not None else 0.0

    @property
    def is_regular(self) -> bool:
        """True if nearly all steps are equally long, so that a longer one is a gap."""
        return self.step.total >= 50 and self.step.regular >= 0.9 * self.step.total

    def lasting(self, declared: float) -> float:
        """Return how many seconds a unit lasts: in a regular track as long as the others, whatever is declared."""
        return self.step.seconds if self.is_regular and declared > 1.5 * self.step.seconds else declared

    def _begin(self, at: float, seconds: float) -> None:
        self.first = self._last = at
        if seconds > 0:
            self.step.add(seconds)
        if self._marks and self.begins_with_key and self.read_begin is not None and at > self.read_begin:
            self.has_lost_beginning = True
            self._lose(self.read_begin, at)

    def _follow(self, at: float, *, is_at_damage: bool) -> None:
        step, usual = at - self._last, self.step.seconds
        self.step.add(step)
        if usual and step > 1.5 * usual + 0.002:
            begin = self._last + usual
            if is_at_damage or self._has_mark(self._last - usual, at + usual):
                self._lose(begin, at)
            elif at - begin >= LONG_GAP_SECONDS:
                self.unexplained.add(begin, at)

    def _has_mark(self, begin: float, end: float) -> bool:
        return any(a <= end and b >= begin for a, b in self._marks)

    def _forget_marks(self, at: float) -> None:
        patience = 4 * self.step.seconds + 0.1  # pictures leave the decoder in another order
        self._marks = [mark for mark in self._marks if mark[1] > at - patience]

    def _lose(self, begin: float, end: float) -> None:
        usual = self.step.seconds or end - begin
        self.lost += max(1.0, round((end - begin) / usual)) if usual > 0 else 1.0
        self.spans.add(begin, end)
        self.is_unsound = True


class Hole(NamedTuple):
    """Two positions in a file, and how many of the bytes between them belong to no packet."""

    begin: int
    end: int
    missing: int


@dataclass(slots=True)
class ReadBytes:
    """Which bytes of a file packets were read from, to find bytes that nothing was read from."""

    total: int = 0  # bytes of all packets
    first: int | None = None  # where the first packet is
    end: int = 0  # where the last packet ends
    _of_track: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, track: int, position: int | None, size: int) -> Hole | None:
        """Note a packet. Return where nothing was read from since the track's packet before; None if nowhere."""
        hole = None
        if position is not None and position >= 0:
            hole = self._hole_before(track, position)
            self._of_track[track] = (position, self.total)
            self.first = position if self.first is None else min(self.first, position)
            self.end = max(self.end, position + size)
        self.total += size
        return hole

    def _hole_before(self, track: int, position: int) -> Hole | None:
        before = self._of_track.get(track)
        if before is None or position <= before[0]:
            return None
        passed = position - before[0]
        missing = passed - (self.total - before[1])
        if missing <= MIN_MISSING_BYTES:
            return None
        overhead = min(1 - min(self.total / self.end, 1.0), MAX_OVERHEAD) if self.end else 0.0
        is_hole = missing > max(MIN_MISSING_SHARE, 3 * overhead) * passed
        return Hole(before[0], position, missing) if is_hole else None
