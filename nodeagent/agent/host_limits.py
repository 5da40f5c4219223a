"""What this machine grants us: memory and open files, turned into the bounds of one worker."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from nodeagent.core.bounds import derive

# "No limit" of cgroup v1 is a number close to 2^63.
UNLIMITED = 1 << 60


def raise_nofile() -> int:
    """Set the soft limit for open files to the hard one (children inherit it); returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def memory_limit(cgroup_text: str, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes this process and its children may use, from the text of /proc/self/cgroup; None = unlimited."""
    for line in cgroup_text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files = [root / path.lstrip("/") / "memory.max", root / "unified" / path.lstrip("/") / "memory.max"]
        elif "memory" in controllers.split(","):
            files = [root / "memory" / path.lstrip("/") / "memory.limit_in_bytes"]
        else:
            continue
        for file in files:
            limit = _read_limit(file)
            if limit is not None:
                return limit
    return None


def _read_limit(file: Path) -> int | None:
    if not file.is_file():
        return None
    text = file.read_text().strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def worker_bounds(workers: int, memory: int | None = None) -> dict[str, Any]:
    """`memory`: bytes to take for the limit instead of the cgroup's."""
    memory = memory or memory_limit(Path("/proc/self/cgroup").read_text())
    return derive(memory, raise_nofile(), workers).as_json()
