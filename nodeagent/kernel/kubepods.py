"""The kubelet's cgroups: where `kubepods` is, the pods in it, and the processes of each.

Names are those of `nodeagent.core.pod_cgroup`.  What vanishes while it is looked at is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeagent.core import pod_cgroup

# How far below the attached cgroup `kubepods` may be, and how many directories are looked at to find it.
DEPTH = 3
DIRECTORIES = 4096
PROCS = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class PodDirectory:
    uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """`directories`: where pods can come and go."""

    directories: tuple[Path, ...]
    pods: tuple[PodDirectory, ...]


def find(top: Path) -> list[Path]:
    """Every `kubepods` in `top`, itself included, the uppermost first; none below another one."""
    found, level = [], [top]
    left = DIRECTORIES
    for _ in range(DEPTH + 1):
        found += [path for path in level if pod_cgroup.is_kubepods(path.name)]
        level = [below for path in level if path not in found for below in _below(path)][:left]
        left -= len(level)
    return found


def list_pods(kubepods: Path, most: int) -> Listing:
    """At most so many pods."""
    classes = [path for path in _below(kubepods) if pod_cgroup.is_class(path.name)]
    directories = (kubepods, *classes)
    found = [
        PodDirectory(uid, path)
        for directory in directories
        for path in _below(directory)
        if (uid := pod_cgroup.pod_uid(path.name))
    ]
    return Listing(directories, tuple(found[:most]))


def processes(pod: Path, most: int) -> Iterator[tuple[int, str]]:
    """(pid, container id), at most so many per container; pid 0 = one outside our pid namespace."""
    for path in _below(pod):
        container = pod_cgroup.container_id(path.name)
        if container:
            for pid in _pids(path)[:most]:
                yield pid, container


def _pids(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in (path / PROCS).read_text().split()]
    except OSError:
        return []


def _below(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
