"""Directories watched by inotify(7): where something came or went, not what.  Whoever is told looks.

Of cgroups it tells what is made and removed, on both versions; a process that joins one is no event.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

IN_CREATE, IN_DELETE, IN_IGNORED, IN_ONLYDIR = 0x100, 0x200, 0x8000, 0x1000000
_HEAD = struct.Struct("=iIII")  # watch, mask, cookie, length of the name that follows

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """`fileno` is readable when something happened."""

    def __init__(self) -> None:
        """OSError (EMFILE) when this user has too many of them."""
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._paths: dict[int, Path] = {}
        self._watched: set[Path] = set()

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: Path) -> bool:
        """Once more is fine.  False if it is gone, or the user's limit of watches (ENOSPC) is reached.

        What was removed is watched again only after `drain` has told of it.
        """
        if path in self._watched:
            return True
        try:
            number = _checked(
                _libc.inotify_add_watch(self._fd, os.fsencode(path), IN_CREATE | IN_DELETE | IN_ONLYDIR)
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENOSPC):
                return False
            raise
        self._paths[number] = path
        self._watched.add(path)
        return True

    def drain(self) -> set[Path]:
        """Where something happened since the last time; not everywhere if it was too much at once."""
        happened: set[Path] = set()
        while True:
            try:
                happened |= self._read(os.read(self._fd, 65536))
            except BlockingIOError:
                return happened

    def _read(self, events: bytes) -> set[Path]:
        happened, offset = set(), 0
        while offset < len(events):
            number, mask, _, length = _HEAD.unpack_from(events, offset)
            offset += _HEAD.size + length
            path = self._paths.get(number)
            if path is not None:
                happened.add(path)
            if mask & IN_IGNORED:
                self._forget(number)
        return happened

    def _forget(self, number: int) -> None:
        path = self._paths.pop(number, None)
        if path is not None:
            self._watched.discard(path)

    def close(self) -> None:
        os.close(self._fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
