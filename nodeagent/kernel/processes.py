"""Other processes of the node, by /proc and pinned by a pidfd: a number that was used again is never believed.

    process = pin(pid)          # None: it has ended
    ... read what there is to read ...
    process.is_alive()          # True: all of it was of this process

Reading another user's process takes CAP_SYS_PTRACE; without the node's pid namespace (hostPID) there are none to read.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from pathlib import Path

Inode = tuple[int, int]  # (st_dev, st_ino)
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    pidfd: int

    def is_alive(self) -> bool:
        """A pidfd becomes readable when its process has ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def cgroup(self) -> str:
        """The text of its cgroup file; "" if it has ended."""
        return _text(self.pid, "cgroup")

    def parent(self) -> int:
        """0 if it has ended, or its parent is in no pid namespace of ours."""
        fields = _stat(self.pid)
        return int(fields[1]) if fields else 0

    def network_namespace(self) -> int:
        """A descriptor.  OSError if it has ended, or may not be looked at."""
        return os.open(PROC / str(self.pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.pidfd)


def pin(pid: int) -> Process | None:
    """None if there is no such process (any more)."""
    try:
        return Process(pid, os.pidfd_open(pid))
    except (ProcessLookupError, OSError):
        return None


def started(pid: int) -> int | None:
    """When it did, in clock ticks since boot; None if it has ended."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold blanks and parentheses: state, parent, ..."""
    return _text(pid, "stat").rpartition(")")[2].split()


def _text(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""


def inode_behind(fd: int) -> Inode:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
