"""Directories watched by inotify(7): where something came or went, not what.  Whoever is told looks.

Of cgroups it tells what is made and removed, on both versions; a process that joins one is no event.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
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

    def fileno(self) -> int:
        return self._fd

    @property
    def paths(self) -> frozenset[Path]:
        """Those that are watched."""
        return frozenset(self._paths.values())

    def watch(self, paths: Iterable[Path]) -> bool:
        """These from now on, and no others.  False if one is gone, or the user's limit of watches (ENOSPC) is reached.

        Each is added again every time: of a cgroup's end its own watch says nothing, and what is made again in the
        same place is another directory.  One that is watched already keeps its number.
        """
        added = [(self._add(path), path) for path in paths]
        watched = {number: path for number, path in added if number >= 0}
        for number in self._paths.keys() - watched.keys():
            _libc.inotify_rm_watch(self._fd, number)  # EINVAL: it went with its directory
        self._paths = watched
        return len(watched) == len(added)

    def _add(self, path: Path) -> int:
        """Its number; -1 = it cannot be watched."""
        try:
            return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), IN_CREATE | IN_DELETE | IN_ONLYDIR))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENOSPC):
                return -1
            raise

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
            path = self._paths.pop(number, None) if mask & IN_IGNORED else self._paths.get(number)
            if path is not None:
                happened.add(path)
        return happened

    def close(self) -> None:
        os.close(self._fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
