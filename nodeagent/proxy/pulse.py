"""When a process ran last, in a word of memory that it shares with the one who watches it.

A question and an answer would tell the same, and wake both processes for it: on an idle node that is most of the cost.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

BEAT_SECONDS = 1.0  # at most between two beats of one that runs
SIZE = 8  # bytes: nanoseconds of CLOCK_MONOTONIC
MFD_NOEXEC_SEAL = 8  # linux/memfd.h since Linux 6.3, where `vm.memfd_noexec=2` refuses a file without it (6.6: no more)


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
    fd = _file()
    try:
        os.ftruncate(fd, SIZE)
        yield fd, Pulse(fd)
    finally:
        os.close(fd)


def _file() -> int:
    try:
        return os.memfd_create("nodeagent-pulse", os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel that does not know the flag, and asks for none
            raise
    return os.memfd_create("nodeagent-pulse", os.MFD_CLOEXEC)
