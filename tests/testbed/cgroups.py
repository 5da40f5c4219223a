"""Cgroups of a testbed: made below the real cgroup2 root, killed and removed as a tree."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from tests.leftovers import cgroup2_root


def make(name: str) -> Path:
    """A new cgroup below the cgroup2 root; FileExistsError if there is one of that name."""
    path = cgroup2_root() / name
    path.mkdir()
    return path


def kill(path: Path, seconds: float = 5.0) -> None:
    """SIGKILLs every process in the tree and waits until none is left; TimeoutError names those that stay."""
    (path / "cgroup.kill").write_text("1", encoding="ascii")
    deadline = time.monotonic() + seconds
    while "populated 1" in (path / "cgroup.events").read_text(encoding="ascii"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path}: still populated {seconds} s after cgroup.kill: {_pids(path)}")
        time.sleep(0.01)


def remove(path: Path, seconds: float = 5.0) -> None:
    """Removes the tree, deepest first.  Its processes must be gone; the kernel may need a moment to let go of them."""
    deadline = time.monotonic() + seconds
    for folder, _, _ in sorted(os.walk(path), reverse=True):
        while not _removed(Path(folder)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{folder}: still busy after {seconds} s")
            time.sleep(0.01)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as problem:
        if problem.errno != errno.EBUSY:
            raise
        return False
    return True


def _pids(path: Path) -> list[int]:
    return [int(pid) for file in path.rglob("cgroup.procs") for pid in file.read_text(encoding="ascii").split()]
