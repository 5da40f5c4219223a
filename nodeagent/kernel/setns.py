"""Into another network namespace and back: setns(2), which Python has from 3.12 on only."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(fd: int, name: str = "") -> None:
    """Move the calling thread into the network namespace behind `fd`.  OSError if it is none."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name or f"descriptor {fd}")


def leave() -> None:
    """Move the calling thread into a new network namespace."""
    if _libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "a new network namespace")


@contextlib.contextmanager
def inside(fd: int, home: int) -> Iterator[None]:
    """Be in the namespace behind `fd` for the length of a `with`, then in `home` again.

    Going back matters: a process that stayed would keep a deleted pod's namespace alive.
    """
    enter(fd)
    try:
        yield
    finally:
        enter(home, "the home namespace")
