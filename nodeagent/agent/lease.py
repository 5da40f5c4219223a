"""One agent per instance: a flock on the run directory's lock file, passed on by a takeover."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path


class LeaseError(RuntimeError):
    """Another agent holds the lease; the text says which and what to do."""


class Lease:
    """Held from `try_acquire` until `release` or the process's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def try_acquire(self) -> bool:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"pid": os.getpid()}).encode())
        self._fd = fd
        return True

    async def wait(self, seconds: float) -> None:
        """Raises LeaseError when it is not free within `seconds`."""
        end = asyncio.get_running_loop().time() + seconds
        while not self.try_acquire():
            if asyncio.get_running_loop().time() > end:
                raise LeaseError(f"the agent with pid {holder(self._path)} did not give up {self._path} in time")
            await asyncio.sleep(0.02)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(path: Path) -> int:
    """The pid that last took the lease; 0 = unknown."""
    try:
        return int(json.loads(path.read_text() or "{}").get("pid", 0))
    except (OSError, ValueError):
        return 0
