"""Cgroup hierarchies of this machine: cgroup2, and beside it v1 controllers on machines that still bind them there."""

from __future__ import annotations

import time
from pathlib import Path

from tests.leftovers import cgroup1_roots, cgroup2_root
from tests.testbed import cgroups

LEAF = "host"  # cgroup2 wants processes in leaves: the node's own programs are here, pods beside it


def unified(name: str) -> Path:
    return cgroup2_root() / name


def make(name: str) -> None:
    """A cgroup `name` below the root of every hierarchy, able to hold pods with limits."""
    _delegate(cgroup2_root())
    (unified(name) / LEAF).mkdir(parents=True)
    for root in cgroup1_roots():
        (root / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1: empty in a new cgroup, and then nothing can run there
            if (root / file).exists():
                (root / name / file).write_text((root / file).read_text(encoding="ascii"), encoding="ascii")


def _delegate(root: Path) -> None:
    """Lets children of the cgroup2 root have the controllers that v1 does not hold."""
    for controller in (root / "cgroup.controllers").read_text(encoding="ascii").split():
        (root / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")


def roots(name: str) -> list[Path]:
    """The cgroup `name` in every hierarchy."""
    return [unified(name), *(root / name for root in cgroup1_roots())]


def entrances(name: str) -> list[Path]:
    """Where the node's own processes belong, in every hierarchy."""
    return [unified(name) / LEAF, *(root / name for root in cgroup1_roots())]


def processes(name: str) -> list[int]:
    """Host-side pids of everything that runs in the cgroup2 tree `name`."""
    found: list[int] = []
    for file in unified(name).rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in file.read_text(encoding="ascii").split()]
        except OSError:  # the cgroup went away while we looked
            continue
    return found


def destroy(name: str) -> None:
    """Kills what runs in `name` and removes it from every hierarchy; does nothing where there is none."""
    if unified(name).is_dir():
        cgroups.kill(unified(name), seconds=20)
    for path in roots(name):
        if path.is_dir():
            cgroups.remove(path, seconds=10)


def wait_empty(name: str, seconds: float) -> bool:
    """Whether everything in `name` has ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while processes(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
