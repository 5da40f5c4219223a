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


def memory_limit(own: Path, cgroup_text: str, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes this process and its children may use; None = unlimited.

    `own` is our cgroup2 directory, which a limit further up binds as well; `cgroup_text` is that of
    /proc/self/cgroup, for nodes where cgroup v1 accounts for memory.
    """
    found = [_read_limit(path / "memory.max") for path in (own, *own.parents)]
    for line in cgroup_text.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found.append(_read_limit(root / "memory" / path.lstrip("/") / "memory.limit_in_bytes"))
    return min((limit for limit in found if limit is not None), default=None)


def _read_limit(file: Path) -> int | None:
    if not file.is_file():
        return None
    text = file.read_text().strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def worker_bounds(workers: int, own: Path, memory: int | None = None) -> dict[str, Any]:
    """`own`: our cgroup2 directory; `memory`: bytes to take for the limit instead of the cgroup's."""
    memory = memory or memory_limit(own, Path("/proc/self/cgroup").read_text())
    return derive(memory, raise_nofile(), workers).as_json()
