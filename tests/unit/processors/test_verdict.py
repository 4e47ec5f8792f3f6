"""The verdict on a film: what is sound, what fails, and what is said."""

from __future__ import annotations

import pytest

from backend.processors.losses import TrackLosses
from backend.processors.verdict import Extent, judged

SIZE = 1_000_000


def track(*gaps: tuple[int, int], pictures: int = 500, is_predicted: bool = False) -> TrackLosses:
    """Return a track of 25 pictures a second whose pictures in the gaps are lost, with evidence."""
    losses = TrackLosses(is_predicted=is_predicted)
    lost = {number for first, last in gaps for number in range(first, last)}
    for number in range(pictures):
        at = number * 0.04
        losses.read(at, 0.04, is_key=number == 0)
        if number in lost:
            losses.has_unreadable_bytes = True
            losses.mark(at, at)
        else:
            losses.show(at, 0.04, is_key=number == 0, is_corrupt=False)
    losses.finish()
    return losses


def failure(film: TrackLosses, *sounds: TrackLosses, extent: Extent | None = None, reached: float = 20.0) -> str:
    return judged(film, sounds, extent or Extent(SIZE), reached, 0.02).failure


def test_a_sound_film_is_verified_completely() -> None:
    verdict = judged(track(), [track()], Extent(SIZE), 20.0, 0.02)
    assert (verdict.verified_share, verdict.passed_over, verdict.failure) == (1.0, (), "")
    assert verdict.seconds == 20.0


def test_a_film_that_lost_much_fails_and_says_how_much_and_where() -> None:
    assert failure(track((200, 350))) == (
        "File is damaged: 30.0 % of its pictures (150 of 500) cannot be read from 0:08 to 0:14; fetch it again."
    )
    assert "(100 of 500) cannot be read from 0:04 to 0:16;" in failure(track((100, 150), (350, 400)))


def test_a_film_that_lost_little_completes_and_says_so() -> None:
    verdict = judged(track((200, 205)), [], Extent(SIZE), 20.0, 0.02)
    assert (verdict.failure, verdict.verified_share) == ("", 0.99)
    assert verdict.passed_over == ("1.0 % of its pictures (5 of 500) cannot be read from 0:08 to 0:09.",)


def test_several_small_losses_are_counted() -> None:
    verdict = judged(track((100, 103), (350, 353)), [], Extent(SIZE), 20.0, 0.02)
    assert verdict.passed_over == ("1.2 % of its pictures (6 of 500) cannot be read in 2 places from 0:04 to 0:14.",)


def test_the_bound_is_an_option() -> None:
    film = track((200, 220))
    assert judged(film, [], Extent(SIZE), 20.0, 0.02).failure != ""
    assert judged(film, [], Extent(SIZE), 20.0, 0.05).failure == ""
    assert judged(track((200, 201)), [], Extent(SIZE), 20.0, 0.0).failure != ""


def test_much_sound_does_not_hide_destroyed_pictures() -> None:
    assert failure(track((50, 450)), *[track(pictures=5000)] * 3).startswith("File is damaged: 80.0 % of its pictures")


def test_destroyed_sound_fails_a_film_too() -> None:
    assert failure(track(), track((100, 300))) == (
        "File is damaged: 40.0 % of its sound (8.00 s) cannot be read from 0:04 to 0:12; fetch it again."
    )


def test_a_loss_that_no_bytes_explain_was_recorded_so() -> None:
    film = track((200, 350))
    film.has_unreadable_bytes = False
    assert failure(film).endswith(
        "fetching it again helps only if the source has all of it, because it was probably recorded with these gaps."
    )


def test_many_damaged_pictures_fail_a_film() -> None:
    film = track()
    film.damaged = 100
    assert failure(film) == "File is damaged: 100 of 500 pictures are damaged; fetch it again."
    film.damaged = 20
    assert failure(film) == ""


@pytest.mark.parametrize(("declared", "start"), [(40.0, 0.0), (3640.0, 3600.0)])
def test_a_cut_off_film_names_its_true_seconds(declared: float, start: float) -> None:
    extent = Extent(SIZE, is_short=True, declared=declared, start=start)
    assert failure(track(), extent=extent) == (
        "File is cut off: it should last 40.0 s but ends after 20.0 s; fetch it again."
    )


def test_a_hole_that_the_clock_does_not_show_is_no_missing_end() -> None:
    film = track(pictures=400)
    film.note_hole(4.0)
    film.has_unreadable_bytes = True
    extent = Extent(SIZE, declared=20.0, is_declared_reliably=True)
    assert failure(film, extent=extent, reached=16.0) == (
        "File is damaged: 20.0 % of its pictures (100 of 500) cannot be read from 0:04 to 0:08; fetch it again."
    )


def test_a_declared_length_alone_proves_nothing() -> None:
    verdict = judged(track(), [], Extent(SIZE, declared=40.0), 20.0, 0.02)
    assert (verdict.failure, verdict.seconds, verdict.verified_share) == ("", 20.0, 1.0)
    assert verdict.passed_over == ("Its header says 40.0 s, but its pictures and sound end after 20.0 s.",)


def test_an_end_on_the_clock_is_a_length() -> None:
    verdict = judged(track(), [], Extent(SIZE, declared=3620.0, start=3600.0), 20.0, 0.02)
    assert (verdict.failure, verdict.seconds, verdict.passed_over) == ("", 20.0, ())


def test_an_unreadable_end_without_a_declared_length_is_estimated_by_its_bytes() -> None:
    extent = Extent(SIZE, unread_end=SIZE // 5, is_stream=True)
    assert failure(track(pictures=400), extent=extent, reached=16.0) == (
        "File is damaged: 20.0 % of its pictures (100 of 500) cannot be read from 0:16 to 0:20; fetch it again."
    )


def test_an_unreadable_beginning_is_estimated_by_its_bytes() -> None:
    extent = Extent(SIZE, unread_begin=SIZE // 5, is_stream=True)
    assert failure(track(pictures=400), extent=extent).startswith(
        "File is damaged: 20.0 % of its pictures (100 of 500)"
    )


def test_a_recording_that_ends_in_the_middle_of_a_picture_says_so() -> None:
    verdict = judged(track(), [], Extent(SIZE, is_torn=True, is_stream=True), 20.0, 0.02)
    assert (verdict.failure, verdict.verified_share) == ("", 0.9999)
    assert verdict.passed_over[0].startswith("The file ends in the middle of a picture or sound, after 20.0 s")


def test_a_beginning_between_key_frames_completes_and_says_how_long_it_is() -> None:
    film = TrackLosses()
    for number in range(500):
        is_key = number == 224
        film.read(number * 0.04, 0.04, is_key=is_key)
        if number >= 224:
            film.show(number * 0.04, 0.04, is_key=is_key, is_corrupt=False)
    verdict = judged(film, [], Extent(SIZE), 20.0, 0.02)
    assert (verdict.failure, verdict.verified_share) == ("", 0.552)
    assert verdict.passed_over == ("The first 8.96 s cannot be shown: the film begins between key frames.",)


def test_a_pause_of_all_tracks_is_said_and_no_loss() -> None:
    film, sound = track(), track()
    for losses in (film, sound):
        for at in (26.0, 26.04):
            losses.show(at, 0.04, is_key=False, is_corrupt=False)
    verdict = judged(film, [sound], Extent(SIZE), 26.08, 0.02)
    assert (verdict.failure, verdict.passed_over) == ("", ("Nothing is recorded from 0:20 to 0:26.",))
