"""Processor time from /proc, in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
IDLE_FIELDS = (3, 4)  # idle and iowait, in the "cpu" line of proc_stat(5)
STEAL_FIELD = 7
FIRST_NINE = 8  # user .. steal; guest time after it is contained in user


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command name, which may hold blanks; state is first.  [] = gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    """`root` and all its descendants that live now."""
    parents = {int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()}
    found = [root]
    for pid in found:  # grows while it is walked
        found += [child for child, fields in parents.items() if fields and int(fields[1]) == pid]
    return found


def split_of(pid: int) -> tuple[float, float]:
    """(user, system) time of one process so far; zeros when it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) / TICK, int(fields[12]) / TICK) if fields else (0.0, 0.0)


def used_by(pids: Iterable[int]) -> float:
    """User and system time of the processes so far."""
    return sum(sum(split_of(pid)) for pid in pids)


def used_by_machine() -> tuple[float, float]:
    """(busy, steal): busy is everything but idle, iowait and steal, on all processors."""
    fields = [int(word) for word in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]][:FIRST_NINE]
    idle = sum(fields[index] for index in IDLE_FIELDS)
    return (sum(fields) - idle - fields[STEAL_FIELD]) / TICK, fields[STEAL_FIELD] / TICK
