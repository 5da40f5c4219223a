"""One agent per instance: locks on the run directory's lock file and on the directory of the pins.

The file says who runs; the pins are what two agents would spoil for each other, and two with
different run directories could share them.  A takeover passes both on.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any


class LeaseError(RuntimeError):
    """Another agent holds the lease; the text says which and what to do."""


class Lease:
    """Held from `try_acquire` until `release` or the process's end."""

    def __init__(self, path: Path, pins: Path | None = None, born: float = 0.0) -> None:
        """`pins` must exist; None = ask for the file only.  `born`: of the holder's pod (`succession`)."""
        self._path = path
        self._born = born
        self._pins = pins
        self._fds: list[int] = []
        self.pins_taken = False  # at the last try the file was free, but not the pins: an agent with another file

    @property
    def held(self) -> bool:
        return bool(self._fds)

    def try_acquire(self) -> bool:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = try_lock(self._path, os.O_RDWR | os.O_CREAT)
        if file is None:
            return False
        self._fds = [file]
        if self._pins is not None:
            directory = try_lock(self._pins, os.O_RDONLY | os.O_DIRECTORY)
            self.pins_taken = directory is None
            if directory is None:
                self.release()
                return False
            self._fds.append(directory)
        os.ftruncate(file, 0)
        os.write(file, json.dumps({"pid": os.getpid(), "born": self._born}).encode())
        return True

    async def wait(self, seconds: float) -> None:
        """Raises LeaseError when it is not free within `seconds`."""
        end = asyncio.get_running_loop().time() + seconds
        while not self.try_acquire():
            if asyncio.get_running_loop().time() > end:
                raise LeaseError(f"the agent with pid {holder(self._path)} did not give up {self._path} in time")
            await asyncio.sleep(0.02)

    def release(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def try_lock(path: Path, flags: int) -> int | None:
    """A descriptor that holds the lock of what is at `path`; None = another holds it."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def holder(path: Path) -> int:
    """The pid that last took the lease; 0 = unknown."""
    return int(_said(path).get("pid", 0))


def holder_born(path: Path) -> float:
    """What the last holder said of its pod's birth, Unix time; 0 = nothing."""
    return float(_said(path).get("born", 0))


def _said(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def locked_by(path: Path, locks: Path = Path("/proc/locks")) -> int:
    """The pid that holds a flock on `path`; 0 = none, or one that we cannot see."""
    status = path.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in locks.read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == place:
            return int(fields[4])
    return 0
