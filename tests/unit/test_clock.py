"""Moments as numbers and as texts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.clock import from_millis, iso, to_millis


@given(st.integers(0, 4_000_000_000_000))
@settings(deadline=None)
def test_a_moment_is_restored_to_the_millisecond(millis: int) -> None:
    assert to_millis(from_millis(millis)) == millis


def test_a_moment_is_written_with_its_milliseconds() -> None:
    assert iso(from_millis(1_767_182_400_123)) == "2025-12-31T12:00:00.123Z"
