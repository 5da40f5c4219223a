"""Network namespaces of the calling thread: which one it is in, into another and back.

setns(2) and unshare(2) by libc: Python has them from 3.12 on only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71

_libc = ctypes.CDLL(None, use_errno=True)


def cookie() -> int:
    """Of the namespace that we are in: as the hooks know it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int(struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


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
