"""What a track lost: gaps count where the reading has evidence for a loss."""

from __future__ import annotations

import pytest

from backend.processors.losses import MAX_SPANS, ReadBytes, Spans, TrackLosses, UsualStep


def shown(losses: TrackLosses, *times: float, step: float = 0.04, keys: tuple[float, ...] = (0.0,)) -> TrackLosses:
    """Read and show pictures at these times."""
    for at in times:
        losses.read(at, step, is_key=at in keys)
        losses.show(at, step, is_key=at in keys, is_corrupt=False)
    return losses


def numbers(first: int, last: int, step: float = 0.04) -> list[float]:
    return [round(number * step, 6) for number in range(first, last)]


def test_regular_pictures_lose_nothing() -> None:
    losses = shown(TrackLosses(), *numbers(0, 100))
    losses.finish()
    assert (losses.shown, losses.lost, losses.sound, losses.spans.all) == (100, 0, 100, [])


def test_a_gap_with_evidence_counts_its_pictures_and_place() -> None:
    losses = shown(TrackLosses(), *numbers(0, 50))
    losses.mark(2.0, 3.0)
    shown(losses, *numbers(75, 100))
    assert losses.lost == 25
    assert losses.spans.all[0] == pytest.approx((2.0, 3.0))


def test_a_gap_without_evidence_is_a_picture_that_is_shown_for_longer() -> None:
    losses = shown(TrackLosses(), *numbers(0, 50), *numbers(75, 100))
    assert losses.lost == 0
    assert losses.unexplained.all[0] == pytest.approx((2.0, 3.0))


def test_evidence_elsewhere_does_not_count() -> None:
    losses = shown(TrackLosses(), *numbers(0, 20))
    losses.mark(0.3, 0.4)
    shown(losses, *numbers(20, 50), *numbers(75, 100))
    assert losses.lost == 0


@pytest.mark.parametrize("steps", [[10.0] * 8, [0.02, 0.04, 3.0, 0.02, 0.5, 12.0, 0.02, 0.02]])
def test_a_film_with_steps_of_its_own_is_whole(steps: list[float]) -> None:
    times = [sum(steps[:count]) for count in range(len(steps))]
    losses = shown(TrackLosses(), *times, step=1.0)
    losses.finish()
    assert (losses.lost, losses.sound) == (0, len(steps))


def test_pictures_after_a_loss_are_not_sound_before_the_next_key_picture() -> None:
    losses = shown(TrackLosses(), *numbers(0, 50))
    losses.mark(2.0, 2.2)
    shown(losses, *numbers(55, 100), keys=(3.0,))
    assert losses.smeared == 20
    assert losses.sound == 75


def test_each_block_of_sound_stands_for_itself() -> None:
    losses = TrackLosses(is_predicted=False)
    for number in (*range(50), *range(55, 100)):
        if number == 55:
            losses.mark(1.0, 1.1)
        losses.show(number * 0.02, 0.02, is_key=True, is_corrupt=False)
    assert (losses.lost, losses.smeared, losses.sound) == (5, 0, 95)


def test_a_damaged_picture_is_counted_apart() -> None:
    losses = shown(TrackLosses(), *numbers(0, 10))
    losses.show(0.4, 0.04, is_key=False, is_corrupt=True)
    assert (losses.damaged, losses.lost, losses.sound) == (1, 0, 10)


def test_a_gap_beside_a_damaged_picture_is_a_loss() -> None:
    losses = shown(TrackLosses(), *numbers(0, 50))
    losses.show(3.0, 0.04, is_key=False, is_corrupt=True)
    assert losses.lost == 25


def test_a_beginning_between_key_pictures_is_no_loss() -> None:
    losses = TrackLosses()
    for at in numbers(0, 25):
        losses.read(at, 0.04, is_key=False)
        losses.mark(at, at + 0.04)
    shown(losses, *numbers(25, 50), keys=(1.0,))
    assert losses.unshown_beginning == pytest.approx(1.0)
    assert (losses.lost, losses.begins_with_key) == (0, False)


def test_a_damaged_key_picture_at_the_beginning_is_a_loss() -> None:
    losses = TrackLosses()
    losses.read(0.0, 0.04, is_key=True)
    losses.mark(0.0, 0.04)
    shown(losses, *numbers(25, 50), keys=(1.0,))
    assert losses.lost == 25


def test_an_undecodable_end_is_a_loss() -> None:
    losses = shown(TrackLosses(), *numbers(0, 50))
    for at in numbers(50, 60):
        losses.read(at, 0.04, is_key=False)
        losses.mark(at, at + 0.04)
    losses.finish()
    assert losses.lost == 10


def test_the_usual_step_is_the_median_of_the_film_itself() -> None:
    step = UsualStep()
    for number in range(100):
        step.add(0.04 if number % 10 else 5.0)
    assert step.seconds == 0.04


def test_spans_stay_few() -> None:
    spans = Spans()
    for number in range(3 * MAX_SPANS):
        spans.add(number, number + 0.5)
    assert len(spans.all) == MAX_SPANS
    assert spans.all[-1][1] == 3 * MAX_SPANS - 0.5


def test_bytes_that_no_packet_came_from_are_found() -> None:
    read = ReadBytes()
    holes = [read.add(0, position, 10_000) for position in (100, 10_150, 20_200, 80_000, 90_050)]
    assert holes[:3] == [None, None, None]
    assert holes[3] == (20_200, 80_000, 49_800)
    assert holes[4] is None


def test_bytes_of_other_tracks_are_no_hole() -> None:
    read = ReadBytes()
    read.add(0, 0, 10_000)
    for number in range(20):
        assert read.add(1, 10_000 + number * 1000, 990) is None
    assert read.add(0, 30_000, 10_000) is None
