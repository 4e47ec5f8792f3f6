"""Durations counted in fixed logarithmic buckets: a histogram is one whole number, so that adding two is one addition.

Each bucket has 32 bits of the number. A bucket is 8 % wider than the one before, so that a percentile is at most 5 %
beside the exact one. Differences may be negative; sums of them are right again.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence

GROWTH = 1.08
MAX_MILLIS = 10**10  # about four months; what took longer counts as that
FIELD_BYTES = 4
FIELD_BITS = 8 * FIELD_BYTES
OFFSET_BYTES = 2


def _bounds() -> Iterator[float]:
    bound = 1.0
    while bound < MAX_MILLIS:
        yield bound
        bound *= GROWTH


BOUNDS = tuple(_bounds())
"""Where each bucket begins, in milliseconds, from the second one on; the first one has what took no time."""


ONES = tuple(1 << FIELD_BITS * bucket for bucket in range(len(BOUNDS) + 1))


def one(millis: int) -> int:
    """Return the histogram of one duration."""
    return ONES[bisect_right(BOUNDS, millis)]


def counts(histogram: int) -> Sequence[int]:
    """Return how many durations each bucket has, up to the last one that has any."""
    if histogram <= 0:
        return ()
    fields = -(-histogram.bit_length() // FIELD_BITS)
    return struct.unpack(f"<{fields}I", histogram.to_bytes(fields * FIELD_BYTES, "little"))


def total(histogram: int) -> int:
    """Return the number of durations."""
    return sum(counts(histogram))


def percentile(histogram: int, percent: int) -> float | None:
    """Return the seconds up to which `percent` % of the durations are; None without any.

    >>> percentile(sum(one(millis) for millis in (1000, 2000, 9000)), 50)
    1.96
    """
    in_buckets = counts(histogram)
    rank = (sum(in_buckets) * percent + 99) // 100
    for bucket, number in enumerate(in_buckets):
        rank -= number
        if rank <= 0:
            return _seconds(bucket)
    return None


def encoded(histogram: int) -> bytes:
    """Return the histogram as bytes, without the empty buckets around it."""
    if not histogram:
        return b""
    first = ((histogram & -histogram).bit_length() - 1) // FIELD_BITS
    shifted = histogram >> FIELD_BITS * first
    length = shifted.bit_length() // 8 + 1  # with room for the sign
    return first.to_bytes(OFFSET_BYTES, "little") + shifted.to_bytes(length, "little", signed=True)


def decoded(data: bytes) -> int:
    """Return the histogram of `encoded`."""
    first = int.from_bytes(data[:OFFSET_BYTES], "little")
    return int.from_bytes(data[OFFSET_BYTES:], "little", signed=True) << FIELD_BITS * first


def _seconds(bucket: int) -> float:
    """Return the middle of a bucket, to three digits: more would look exact."""
    if bucket == 0:
        return 0.0
    return float(f"{BOUNDS[bucket - 1] * GROWTH**0.5 / 1000:.3g}")
