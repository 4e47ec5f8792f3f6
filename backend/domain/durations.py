"""Durations as people read them."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(seconds: float) -> str:
    """Return a duration in at most two units. A negative one counts as 0.

    >>> duration(0.31), duration(4.06), duration(38), duration(72), duration(2468)
    ('0.3 s', '4.1 s', '38 s', '1 min 12 s', '41 min 8 s')
    >>> duration(0.04), duration(0.001)
    ('0.04 s', '< 0.01 s')
    >>> duration(7500), duration(2 * 86400 + 3 * 3600), duration(-5)
    ('2 h 5 min', '2 d 3 h', '0 s')
    """
    if seconds <= 0:
        return "0 s"
    if seconds < 0.005:
        return "< 0.01 s"
    if seconds < 0.095:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two_units(whole // MINUTE, "min", whole % MINUTE, "s")
    if whole < DAY:
        return _two_units(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two_units(whole // DAY, "d", whole % DAY // HOUR, "h")


def elapsed(seconds: float) -> str:
    """Return a duration like `duration`, but in whole seconds, for what still continues and for waits.

    >>> elapsed(-2), elapsed(4.06), elapsed(72.4)
    ('0 s', '4 s', '1 min 12 s')
    """
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < MINUTE else duration(whole)


def _two_units(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first} {unit} {second} {smaller}" if second else f"{first} {unit}"
