"""Which worker numbers are free: one locked directory per number, beside the maps that the numbers are places in.

Directories, because a BPF file system holds no files of ours; and there, because agents with different
run directories that follow each other on the same maps must not give a number twice.

The lock's descriptor is inherited by the worker and closed here, so that a number stays taken
exactly as long as its worker lives, whatever happens to the agent that started it: a worker of an
older agent that is still draining keeps its number, its counters and its heartbeat slot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_INDEXES = 16  # NA_MAX_WORKERS of bpf/abi.h


class NoFreeIndexError(RuntimeError):
    """All numbers are held by living workers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A number and the descriptor that holds it; the caller closes the descriptor after the spawn."""

    index: int
    fd: int


def _try_claim(path: Path) -> int | None:
    path.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def claim(directory: Path, avoid: Collection[int] = (), limit: int = MAX_INDEXES) -> Claim:
    """Take the lowest free number; numbers in `avoid` (their worker is not reaped yet) are left alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for index in range(limit):
        if index in avoid:
            continue
        fd = _try_claim(directory / str(index))
        if fd is not None:
            return Claim(index, fd)
    raise NoFreeIndexError(
        f"all {limit} worker numbers in {directory} are held by living workers; "
        f"workers of an earlier agent are still draining: wait for them, or end them"
    )


@contextlib.contextmanager
def held_if_free(directory: Path, index: int) -> Iterator[bool]:
    """True if no living worker has the number; nobody can get it until the end of the `with`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = _try_claim(directory / str(index))
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def free_indexes(directory: Path, limit: int = MAX_INDEXES) -> list[int]:
    """Numbers that no living worker holds: what their maps say is history."""
    free = []
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for index in range(limit):
        fd = _try_claim(directory / str(index))
        if fd is not None:
            os.close(fd)
            free.append(index)
    return free
