"""A film's clock: it need not begin at zero, may be set back or jump, and its declared length may be many things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.processors.film_clock import FilmClock, declared_length

PICTURES, SOUND = 0, 1


def read_all(clock: FilmClock, track: int, stamps: list[float], step: float = 0.2) -> list[float]:
    """Read these time stamps, and return the times of the film."""
    return [clock.read(track, stamp, step) for stamp in stamps]


def test_a_film_begins_at_zero_wherever_its_clock_begins() -> None:
    assert read_all(FilmClock(3600.0), PICTURES, [3600.0, 3601.0, 3602.0]) == [0.0, 1.0, 2.0]
    assert read_all(FilmClock(None), PICTURES, [-7.0, -6.0]) == [0.0, 1.0]


def test_pictures_that_are_shown_for_long_may_be_stored_in_another_order() -> None:
    clock = FilmClock(0.0)
    assert read_all(clock, PICTURES, [0.0, 40.0, 10.0, 20.0], 10.0) == [0.0, 40.0, 10.0, 20.0]
    assert clock.jumps == 0


@pytest.mark.parametrize("second", [[0.0, 1.0], [95_443.7, 95_444.7], [40.0, 41.0], [1.0, 2.0]])
def test_a_jump_of_the_clock_is_not_counted(second: list[float]) -> None:
    clock = FilmClock(100.0, max_step=10.0)
    times = read_all(clock, PICTURES, [100.0, 101.0, 102.0, *second], 1.0)
    assert times == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])
    assert clock.jumps == 1


def test_tracks_that_jump_together_stay_together() -> None:
    clock = FilmClock(100.0, max_step=10.0)
    read_all(clock, PICTURES, [100.0, 101.0], 1.0)
    read_all(clock, SOUND, [100.0, 100.5, 101.0, 101.5], 0.5)
    assert read_all(clock, PICTURES, [0.0, 1.0], 1.0) == [2.0, 3.0]
    assert read_all(clock, SOUND, [0.0, 0.5], 0.5) == [2.0, 2.5]
    assert clock.jumps == 1


def test_a_film_that_is_joined_to_itself_is_twice_as_long() -> None:
    clock = FilmClock(0.0, max_step=10.0)
    for _ in range(2):
        for second in range(6):
            clock.read(PICTURES, second, 1.0)
            clock.read(SOUND, second, 1.0)
    assert (clock.reached, clock.jumps) == (12.0, 1)


def test_a_long_step_while_the_sound_goes_on_is_a_picture_that_is_shown_for_long() -> None:
    clock = FilmClock(0.0, max_step=10.0)
    clock.read(PICTURES, 0.0, 1.0)
    read_all(clock, SOUND, [float(second) for second in range(30)])
    assert clock.read(PICTURES, 30.0, 1.0) == 30.0
    assert clock.jumps == 0


def test_a_long_step_over_unreadable_bytes_is_a_hole_and_no_jump() -> None:
    clock = FilmClock(0.0, max_step=10.0)
    clock.read(PICTURES, 0.0, 1.0)
    assert clock.read(PICTURES, 25.0, 1.0, missing_seconds=20.0) == 25.0
    assert clock.read(PICTURES, 90_000.0, 1.0, missing_seconds=20.0) == 46.0


def test_a_track_that_appears_late_begins_where_the_film_is() -> None:
    clock = FilmClock(0.0, max_step=10.0)
    read_all(clock, PICTURES, [float(second) for second in range(21)])
    assert clock.read(SOUND, 20.5, 0.5) == 20.5


def test_small_steps_back_are_no_jumps() -> None:
    clock = FilmClock(0.0)
    assert read_all(clock, PICTURES, [0.0, 0.12, 0.04, 0.08]) == [0.0, 0.12, 0.04, 0.08]
    assert clock.jumps == 0


def test_a_picture_that_leaves_the_decoder_after_a_jump_keeps_its_place() -> None:
    clock = FilmClock(0.0, max_step=10.0)
    read_all(clock, PICTURES, [0.0, 1.0, 2.0, 500.0], 1.0)
    track = clock.tracks[PICTURES]
    assert track.place(2.0, near=2.0) == 2.0
    assert track.place(500.0, near=3.0) == 3.0


@given(
    st.lists(st.tuples(st.floats(0, 100_000), st.integers(1, 20)), min_size=1, max_size=6),
    st.sampled_from([0.04, 0.5, 1.0]),
)
def test_time_is_never_more_than_what_was_read(pieces: list[tuple[float, int]], step: float) -> None:
    """Whatever the clock does, a film of n pictures is at most as long as n times the longest step that is no jump."""
    clock, count = FilmClock(None, max_step=10.0), 0
    for begin, pictures in pieces:
        for number in range(pictures):
            clock.read(PICTURES, begin + number * step, step)
            count += 1
    assert 0 < clock.reached <= count * 10.0 + step


@pytest.mark.parametrize(
    ("declared", "start", "reached", "length"),
    [
        (3605.0, 3600.0, 5.0, 5.0),  # an end on the clock
        (3605.0, 3600.0, 2.0, 5.0),  # and the film is cut off
        (5.0, 3600.0, 5.0, 5.0),  # a length
        (20.0, 1.4, 20.0, 20.0),
        (21.4, 1.4, 20.0, 20.0),
        (20.0, 0.0, 12.0, 20.0),
        (None, 0.0, 12.0, None),
        (0.0, 0.0, 12.0, None),
    ],
)
def test_a_declared_duration_is_a_length_or_an_end(
    declared: float | None, start: float, reached: float, length: float | None
) -> None:
    assert declared_length(declared, start, reached) == pytest.approx(length)
