"""The cgroup2 hierarchy: where it is mounted, ids, and what lies above and below a cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class NoCgroup2Error(Exception):
    """No cgroup2 mount, or a path that is not in one."""


def root() -> Path:
    """The mount point of cgroup2 (on hybrid machines not /sys/fs/cgroup), from /proc/self/mountinfo."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    raise NoCgroup2Error(
        "No cgroup2 hierarchy is mounted, so there is nothing to attach to. Mount one: "
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def cgroup_id(path: Path) -> int:
    """The id that bpf_get_current_cgroup_id() gives for processes in this cgroup: its directory's inode."""
    return path.stat().st_ino


def checked(path: Path) -> Path:
    """The real path of a cgroup below the cgroup2 root.  NoCgroup2Error otherwise."""
    real, top = path.resolve(), root()
    if not real.is_dir() or not real.is_relative_to(top):
        raise NoCgroup2Error(f"{path} is not a cgroup below the cgroup2 root {top}: nothing can be attached there")
    return real


def ancestors(path: Path) -> list[Path]:
    """The cgroups above `path`, nearest first."""
    top = root()
    return [parent for parent in path.parents if parent.is_relative_to(top)]


def descendants(path: Path) -> Iterator[Path]:
    """The cgroups below `path`; those that vanish meanwhile are left out."""
    for folder, names, _files in os.walk(path):
        for name in names:
            yield Path(folder, name)
