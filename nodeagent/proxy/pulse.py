"""When a process ran last, in a word of memory that it shares with the one who watches it.

A question and an answer would tell the same, and wake both processes for it: on an idle node that is most of the cost.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

BEAT_SECONDS = 1.0  # at most between two beats of one that runs
SIZE = 8  # bytes: nanoseconds of CLOCK_MONOTONIC


class Pulse:
    def __init__(self, fd: int) -> None:
        """`fd` of a file of SIZE bytes; it stays the caller's."""
        self._memory = mmap.mmap(fd, SIZE)
        self._word = memoryview(self._memory).cast("Q")

    def beat(self) -> None:
        self._word[0] = time.monotonic_ns()

    @property
    def last(self) -> float:
        """Seconds of CLOCK_MONOTONIC; 0 = it never did."""
        return self._word[0] / 1e9


@contextmanager
def shared() -> Iterator[tuple[int, Pulse]]:
    """A descriptor for the process that beats, closed at the end, and what is seen of it."""
    fd = os.memfd_create("nodeagent-pulse", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, SIZE)
        yield fd, Pulse(fd)
    finally:
        os.close(fd)
