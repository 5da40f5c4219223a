"""Latency buckets of the request histogram: upper bounds in microseconds, the last one infinite."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_US: tuple[int, ...] = (
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
)
"""The finite upper bounds; `NA_BUCKETS` of bpf/abi.h is one more, for +Inf."""

BUCKETS = len(BOUNDS_US) + 1


def bucket_index(duration_us: int) -> int:
    """The bucket a duration falls into: the first whose upper bound is not below it."""
    return bisect_left(BOUNDS_US, duration_us)
