"""The worker's own memory: how much is resident, and giving back what is only kept by the allocator."""

from __future__ import annotations

import ctypes
import os

PAGE = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None)


class Resident:
    """Reads the second field of /proc/self/statm, through a descriptor that outlives the sandbox."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> int:
        """Bytes of resident memory."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return int(os.read(self._fd, 256).split()[1]) * PAGE

    def close(self) -> None:
        os.close(self._fd)


def trim() -> None:
    """Return what is free to the kernel; the C library keeps it otherwise (malloc_trim(3))."""
    _libc.malloc_trim(0)
