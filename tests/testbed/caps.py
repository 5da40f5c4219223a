"""Limits of memory and processor time for processes of a test, by the controllers of cgroup v1 (as on this machine).

The testbed's own cgroups are in the cgroup2 hierarchy, which has no controllers on a hybrid machine.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path("/sys/fs/cgroup")


class Cap:
    """A cgroup of one controller for the length of a `with`; those in it go back to the controller's root."""

    def __init__(self, controller: str, name: str, **values: str) -> None:
        self._root = ROOT / controller
        if not (self._root / "tasks").exists():
            raise RuntimeError(f"{self._root} is no cgroup v1 hierarchy: this test caps processes by it")
        self.path = self._root / name
        self._values: Mapping[str, str] = values

    def __enter__(self) -> Self:
        self.path.mkdir()
        try:
            for name, value in self._values.items():
                (self.path / name.replace("__", ".")).write_text(value, encoding="ascii")
        except OSError:
            self.path.rmdir()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        for pid in self.read("cgroup.procs").split():
            self._move(self._root, int(pid))
        deadline = time.monotonic() + 5.0
        while not self._removed():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path}: still busy after 5 s")
            time.sleep(0.01)

    def _removed(self) -> bool:
        try:
            self.path.rmdir()
        except OSError as problem:
            if problem.errno != errno.EBUSY:
                raise
            return False
        return True

    def add(self, pid: int) -> None:
        self._move(self.path, pid)

    def run(self, argv: list[str]) -> list[str]:
        """`argv` so that it starts in here."""
        return ["/bin/sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "cap", str(self.path), *argv]

    def release(self, pid: int) -> None:
        self._move(self._root, pid)

    @staticmethod
    def _move(path: Path, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            (path / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="ascii")

    def number(self, name: str) -> int:
        return int(self.read(name))


class MemoryCap(Cap):
    """`limit` bytes for memory, and as many for TCP buffers.

    A process that moves in leaves behind what it has (its pages stay charged elsewhere): start it in here.
    """

    def __init__(self, name: str, limit: int) -> None:
        values = {"memory__limit_in_bytes": str(limit), "memory__kmem__tcp__limit_in_bytes": str(limit)}
        super().__init__("memory", name, **values)

    @property
    def oom_kills(self) -> int:
        rows = (row.split() for row in self.read("memory.oom_control").splitlines())
        return next(int(value) for name, value in rows if name == "oom_kill")

    @property
    def peak(self) -> tuple[int, int]:
        """Most bytes of memory, and of TCP buffers, at any time."""
        return self.number("memory.max_usage_in_bytes"), self.number("memory.kmem.tcp.max_usage_in_bytes")


class CpuCap(Cap):
    """`share` of one processor, in pieces of 10 ms."""

    def __init__(self, name: str, share: float) -> None:
        super().__init__("cpu", name, cpu__cfs_period_us="10000", cpu__cfs_quota_us=str(int(10000 * share)))
