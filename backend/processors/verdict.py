"""Says from what was read whether a film is sound, and what is said about it: a share, sentences, or a failure.

Pure values. What was really read and decoded decides; what a header declares counts only where the file itself shows
that something is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.processors.film_clock import declared_length
from backend.processors.losses import Spans, TrackLosses

MAX_DAMAGED_FACTOR = 5.0  # pictures that are shown but damaged fail a film at this multiple of `max_lost_share`
MIN_LOST_SOUND_SECONDS = 1.0  # less lost sound fails no film
MIN_SAID_SECONDS = 0.1  # of a difference between the declared length and the tracks
NEARLY_ALL = 0.9999
FETCH_AGAIN = "fetch it again"
RECORDED_SO = (
    "fetching it again helps only if the source has all of it, because it was probably recorded with these gaps"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a file reaches, apart from its tracks.

    `size`: bytes of the file. `unread_begin` and `unread_end`: bytes at its ends that cannot be read. `is_short`: it is
    shorter than its own headers say. `is_torn`: it ends in the middle of something.
    `declared`: the seconds that its header declares, a length or an end on the clock that begins at `start`.
    `is_declared_reliably`: a film that ends before has lost its end. `is_stream`: nothing declares its length, so what
    is missing at the end is known from bytes alone.
    """

    size: int
    unread_begin: int = 0
    unread_end: int = 0
    is_short: bool = False
    is_torn: bool = False
    declared: float | None = None
    start: float = 0.0
    is_declared_reliably: bool = False
    is_stream: bool = False
    is_torn_at_the_beginning: bool = False

    @property
    def shows_missing_end(self) -> bool:
        """True if the file itself shows that its end is missing."""
        return self.is_short or self.is_torn or self.unread_end > 0 or self.is_declared_reliably


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failure` is a sentence; "" if the film is sound enough. `seconds` is how long the film is."""

    verified_share: float
    passed_over: tuple[str, ...]
    seconds: float
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Units of a film: shown, lost in between, lost at the beginning (by bytes), lost at the end."""

    shown: float
    lost: float
    lost_begin: float
    lost_end: float
    unshown: float
    missing_seconds: float
    expected: float

    @property
    def all_lost(self) -> float:
        return self.lost + self.lost_begin + self.lost_end

    @property
    def total(self) -> float:
        return self.shown + self.all_lost

    @property
    def lost_share(self) -> float:
        return self.all_lost / self.total if self.total else 0.0


def judged(
    film: TrackLosses, sounds: Sequence[TrackLosses], extent: Extent, reached: float, max_lost_share: float
) -> Verdict:
    """Return the verdict on a film that ends after `reached` seconds."""
    sums = _sums(film, extent, reached)
    share = min([_verified_share(film, sums), *(_sound_share(sound) for sound in sounds)])
    if extent.is_torn or extent.is_torn_at_the_beginning or extent.is_short or sums.missing_seconds:
        share = min(share, NEARLY_ALL)
    seconds = reached if sums.missing_seconds or sums.expected <= 0 else sums.expected
    failure = _failure(film, sounds, extent, sums, reached, max_lost_share)
    said = _passed_over(film, sounds, extent, sums, reached)
    return Verdict(_rounded(share), tuple(said), seconds, failure)


def clock_text(seconds: float) -> str:
    """Return a time of the film.

    >>> clock_text(8.4), clock_text(75), clock_text(3675)
    ('0:08', '1:15', '1:01:15')
    """
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def where(spans: Spans, *, counted: bool = False) -> str:
    """Return where in the film these spans are, from the first to the last one; "" if there are none."""
    if not spans.all:
        return ""
    begin, end = spans.all[0][0], max(end for _, end in spans.all)
    places = f"in {len(spans.all)} places " if counted and len(spans.all) > 1 else ""
    return f" {places}from {clock_text(begin)} to {clock_text(max(round(end), int(begin) + 1))}"


def _sums(film: TrackLosses, extent: Extent, reached: float) -> _Sums:
    known = film.shown + film.lost
    read_share = 1 - (extent.unread_begin + extent.unread_end * extent.is_stream) / max(extent.size, 1)
    per_byte = known / max(read_share * extent.size, 1)
    usual = film.step.seconds
    expected = declared_length(extent.declared, extent.start, reached) or 0.0
    missing = expected - reached
    is_missing = missing > max(2 * usual, MIN_SAID_SECONDS) and extent.shows_missing_end
    lost_end = missing / usual if is_missing and usual else extent.unread_end * per_byte if extent.is_stream else 0.0
    unshown = film.unshown_beginning / usual if usual and not film.has_lost_beginning else 0.0
    is_off = abs(missing) > max(2 * usual, MIN_SAID_SECONDS) and not is_missing
    return _Sums(
        shown=film.shown,
        lost=film.lost,
        lost_begin=extent.unread_begin * per_byte,
        lost_end=lost_end,
        unshown=unshown,
        missing_seconds=missing if is_missing else 0.0,
        expected=0.0 if is_off else expected,
    )


def _verified_share(film: TrackLosses, sums: _Sums) -> float:
    total = sums.total + sums.unshown
    return max(film.sound, 0) / total if total else 0.0


def _sound_share(sound: TrackLosses) -> float:
    total = sound.shown + sound.lost
    return sound.sound / total if total else 0.0


def _rounded(share: float) -> float:
    return 1.0 if share >= 1 else min(round(share, 4), NEARLY_ALL)


def _failure(
    film: TrackLosses,
    sounds: Sequence[TrackLosses],
    extent: Extent,
    sums: _Sums,
    reached: float,
    max_lost_share: float,
) -> str:
    if sums.lost_share > max_lost_share:
        if sums.missing_seconds and sums.lost_end >= sums.lost and not (extent.unread_end or film.holes.all):
            full = reached + sums.missing_seconds
            return f"File is cut off: it should last {full:.1f} s but ends after {reached:.1f} s; {FETCH_AGAIN}."
        return f"File is damaged: {_lost_pictures(film, extent, sums, reached)}; {_advice(film, extent)}."
    if film.damaged > MAX_DAMAGED_FACTOR * max_lost_share * max(film.shown, 1):
        return f"File is damaged: {_damaged_pictures(film)}; {FETCH_AGAIN}."
    for sound in sounds:
        seconds = sound.lost * sound.step.seconds
        if seconds > MIN_LOST_SOUND_SECONDS and _lost_share(sound) > max_lost_share:
            return f"File is damaged: {_lost_sound(sound)}; {_advice(sound, extent)}."
    return ""


def _advice(track: TrackLosses, extent: Extent) -> str:
    unreadable = track.has_unreadable_bytes or extent.unread_begin or extent.shows_missing_end
    return FETCH_AGAIN if unreadable else RECORDED_SO


def _lost_share(track: TrackLosses) -> float:
    total = track.shown + track.lost
    return track.lost / total if total else 1.0


def _lost_pictures(film: TrackLosses, extent: Extent, sums: _Sums, reached: float, *, counted: bool = False) -> str:
    places = Spans(join=1.0)
    if extent.unread_begin:
        places.add(0.0, film.first or 0.0)
    for begin, end in film.spans.all:
        places.add(begin, end)
    for begin, end in film.holes.all:
        places.add(begin, end + sums.missing_seconds / len(film.holes.all))  # where it is missing, not at the end
    if sums.lost_end and not film.holes.all:
        places.add(reached, reached + (sums.missing_seconds or sums.lost_end * film.step.seconds))
    lost, total = max(1, round(sums.all_lost)), max(1, round(sums.total))
    of_all = f"{_percent(sums.lost_share)} of its pictures ({lost:,} of {total:,})"
    return f"{of_all} cannot be read{where(places, counted=counted)}"


def _damaged_pictures(film: TrackLosses) -> str:
    return f"{film.damaged:,} of {film.shown:,} pictures {'is' if film.damaged == 1 else 'are'} damaged"


def _lost_sound(sound: TrackLosses) -> str:
    seconds = sound.lost * sound.step.seconds
    return f"{_percent(_lost_share(sound))} of its sound ({seconds:.2f} s) cannot be read{where(sound.spans)}"


def _damaged_sound(sound: TrackLosses) -> str:
    seconds = sound.damaged * sound.step.seconds
    other = "another " if sound.lost >= 1 else ""  # a loss that was just named is not meant
    return f"{other}{seconds:.2f} s of its sound are damaged{where(sound.damages)}.".capitalize()


def _percent(share: float) -> str:
    percent = share * 100
    return f"{percent:.1f} %" if percent >= 0.1 else "less than 0.1 %"


def _passed_over(
    film: TrackLosses, sounds: Sequence[TrackLosses], extent: Extent, sums: _Sums, reached: float
) -> list[str]:
    said = []
    if extent.is_torn_at_the_beginning and not extent.unread_begin:
        said.append("The file begins in the middle of something: its beginning was probably cut off.")
    if sums.unshown >= 0.5:
        why = "" if film.begins_with_key else ": the film begins between key frames"
        said.append(f"The first {film.unshown_beginning:.2f} s cannot be shown{why}.")
    if sums.all_lost >= 0.5:
        lost = _lost_pictures(film, extent, sums, reached, counted=True)
        said.append(f"{lost[0].upper()}{lost[1:]}.")
    if film.damaged:
        said.append(f"{_damaged_pictures(film)}.".capitalize())
    if film.smeared:
        pictures = "picture" if film.smeared == 1 else "pictures"
        said.append(f"{film.smeared:,} {pictures} after a damaged place may show remains of it.")
    said += [f"{_lost_sound(sound)}." for sound in sounds if sound.lost >= 1]
    said += [_damaged_sound(sound) for sound in sounds if sound.damaged]
    said += [f"Nothing is recorded{where(gaps)}." for gaps in [_unexplained(film, sounds)] if gaps.all]
    return said + _about_the_end(extent, sums, reached)


def _unexplained(film: TrackLosses, sounds: Sequence[TrackLosses]) -> Spans:
    """Return where nothing was recorded: gaps of all tracks at once, or of pictures that otherwise come regularly."""
    gaps = Spans()
    if not sounds:
        return film.unexplained if film.is_regular else gaps
    for begin, end in film.unexplained.overlap(sounds[0].unexplained):
        gaps.add(begin, end)
    return gaps


def _about_the_end(extent: Extent, sums: _Sums, reached: float) -> list[str]:
    if extent.is_torn and not sums.missing_seconds:
        return [
            f"The file ends in the middle of a picture or sound, after {reached:.1f} s: it was probably cut off, "
            "and how much is missing cannot be told."
        ]
    if extent.is_short and not sums.missing_seconds:
        return ["The file is shorter than its own header says: its end was probably cut off."]
    declared = declared_length(extent.declared, extent.start, reached)
    if declared and not sums.expected and not sums.missing_seconds:
        return [f"Its header says {declared:.1f} s, but its pictures and sound end after {reached:.1f} s."]
    return []
