"""One instance: programs on one cgroup, pins below one bpffs directory.

attach() is also what a restart and an upgrade do: pinned maps are taken over, so counters go on, and
pinned links get the new programs by LINK_UPDATE, so that no connect sees a hook without a program.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nodeagent.kernel import bpf, bpf_map, cgroups, layout, loader, neighbours
from nodeagent.kernel.bytecode import Bytecode, compile_in_child
from nodeagent.kernel.hooks import HOOKS, PROGRAMS, RUNNABLES, Hook
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.links import LinkSwap, pinned_link, remove_link
from nodeagent.kernel.loader import KernelError
from nodeagent.kernel.maps import Config, Maps
from nodeagent.kernel.neighbours import Attached, Conflict
from nodeagent.kernel.syscall import BpfError

BPFFS_MAGIC = 0xCAFE4A11
HEARTBEAT_LIMIT_MS = 2000
ORIG_LIMIT = 65536
# One namespace's part of the redirects in flight: far above any burst, far below what would make others fail.
POD_SHARE = 8


class ConflictError(KernelError):
    """Another instance would judge the same sockets."""


@dataclass(frozen=True, slots=True)
class LinkInfo:
    hook: str
    prog_id: int
    cgroup_id: int  # 0 = the cgroup is gone and the link with it


@dataclass(frozen=True, slots=True)
class Programs:
    """Loaded and in no hook yet: descriptors by name (`hooks.PROGRAMS`).  Closed at the end of a `with`."""

    fds: Mapping[str, int]

    @classmethod
    def load(cls, code: Bytecode, maps: Mapping[str, int]) -> Self:
        """All or none; KernelError names the one that was refused."""
        fds: dict[str, int] = {}
        try:
            for program in PROGRAMS:
                fds[program.name] = loader.load(program, code, maps)
        except BaseException:
            loader.close_all(fds)
            raise
        return cls(fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        loader.close_all(self.fds)


class Instance:
    """Programs and pins of one node.  Needs root for everything but is_attached()."""

    def __init__(self, cgroup: Path, bpffs: Path = layout.DEFAULT_BPFFS) -> None:
        self.cgroup = cgroup
        self.layout = Layout(bpffs)

    @property
    def text(self) -> str:
        """How this instance names itself to others that would collide with it."""
        return f"cgroup={self.cgroup} bpffs={self.layout.bpffs}"

    # ---- questions ----

    def is_attached(self) -> bool:
        """True if every hook has a pinned link to a living cgroup."""
        return all(map(self._link_lives, HOOKS))

    def _link_lives(self, hook: Hook) -> bool:
        try:
            return self.link_info(hook).cgroup_id != 0
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return False
            raise

    def link_info(self, hook: Hook) -> LinkInfo:
        return LinkInfo(hook.name, *pinned_link(self.layout.link(hook.name)))

    def conflicts(self) -> list[Conflict]:
        return neighbours.conflicts(cgroups.checked(self.cgroup), self.layout.bpffs)

    def foreign_programs(self) -> list[Attached]:
        """Programs of others on our hooks, for `doctor`."""
        return neighbours.foreign(cgroups.checked(self.cgroup))

    def others_come_last(self) -> bool:
        """True if a program that is not ours may rewrite addresses after ours."""
        return neighbours.others_come_last(self.cgroup)

    def open_maps(self) -> Maps:
        return Maps(self.layout)

    def make_directory(self) -> None:
        """The directory of the pins, so that it can be locked.  KernelError if it is not on a BPF file system."""
        self._check_bpffs()
        self.layout.bpffs.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---- attach ----

    def attach(self, *, orig_limit: int = ORIG_LIMIT, bytecode: Bytecode | None = None) -> None:
        """Compile (unless `bytecode` is given), load, pin and attach; or take over what is pinned.

        Raises ConflictError, KernelError or CompileError, each with what to do; the hooks are then as
        they were before.  `orig_limit` counts when the map `originals` is made, not for a pinned one.
        """
        with self.prepare(orig_limit=orig_limit, bytecode=bytecode) as programs:
            self.activate(programs)

    def prepare(self, *, orig_limit: int = ORIG_LIMIT, bytecode: Bytecode | None = None) -> Programs:
        """All of `attach` that can go wrong for reasons of this version or node; no hook and no setting changes.

        Maps are made where there are none.  Raises as `attach`.
        """
        cgroups.checked(self.cgroup)
        self._check_bpffs()
        code = bytecode or compile_in_child()
        with _attach_lock():
            self._refuse_conflicts()
            for directory in self.layout.directories():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fds = loader.open_maps(code, self.layout, orig_limit)
            try:
                return Programs.load(code, fds)
            finally:
                loader.close_all(fds)

    def activate(self, programs: Programs) -> None:
        """Put prepared programs into the hooks, in place of those that an earlier run or another agent put there."""
        with _attach_lock():
            self._refuse_conflicts()
            self._write_settings()
            with LinkSwap(self.layout, self.cgroup) as swap:
                for hook in HOOKS:
                    swap.put(hook, programs.fds[hook.name])
                for program in RUNNABLES:
                    swap.pin(program, programs.fds[program.name])
            self._drop_other_versions()

    def _check_bpffs(self) -> None:
        parent = next(path for path in (self.layout.bpffs, *self.layout.bpffs.parents) if path.is_dir())
        if bpf.filesystem_magic(parent) != BPFFS_MAGIC:
            raise KernelError(
                f"{parent} is not on a BPF file system, so maps and links cannot be pinned and would end with the "
                "agent. Mount it: mount -t bpf bpf /sys/fs/bpf"
            )

    def _refuse_conflicts(self) -> None:
        found = self.conflicts()
        if not found:
            return
        listed = "; ".join(str(conflict) for conflict in found)
        raise ConflictError(
            f"Another instance is attached where it would judge the same connections: {listed}. Two would redirect "
            "each other's redirects. Choose a cgroup beside it (--cgroup), or end it: nodeagent uninstall --bpffs "
            "with the directory named above."
        )

    def _write_settings(self) -> None:
        with self.open_maps() as maps:
            limit = maps.map(layout.ORIGINALS).spec.max_entries
            maps.write_config(
                Config(
                    bypass=maps.read_config().bypass,
                    heartbeat_limit_ms=HEARTBEAT_LIMIT_MS,
                    orig_limit=limit,
                    pod_limit=max(1, limit // POD_SHARE),
                    instance=self.text,
                )
            )
            loader.make_overflow_counters(maps.map(layout.CONNECTIONS))

    def _drop_other_versions(self) -> None:
        for path in self.layout.bpffs.glob("v*"):
            if path != self.layout.root:
                shutil.rmtree(path)

    # ---- detach ----

    def detach_links(self) -> None:
        """Detach every hook; maps stay pinned, so that the next run goes on counting.  Detached already is fine.

        Nobody is enrolled any more: for the next run, what a pod connects meanwhile is older than its enrolment.
        """
        with _attach_lock():
            for path in sorted(self.layout.bpffs.glob("v*/links/*"), reverse=True):
                remove_link(path)
            for name in (layout.PODS, layout.IN_FLIGHT):
                for path in self.layout.bpffs.glob(f"v*/maps/{name}"):
                    _empty(path)
            for path in self.layout.bpffs.glob(f"v*/maps/{layout.GUARD}"):
                _zero(path)  # else every pod would be a new one to the next run, until its first configuration

    def detach(self) -> None:
        """Detach every hook and remove every pin, of all layout versions.  Nothing to remove is fine."""
        with _attach_lock():
            for path in sorted(self.layout.bpffs.glob("v*/links/*"), reverse=True):
                remove_link(path)
            if self.layout.bpffs.exists():
                shutil.rmtree(self.layout.bpffs)


def _empty(path: Path) -> None:
    opened = bpf_map.Map.open(path)
    try:
        for key in opened.items():
            opened.delete(key)
    finally:
        opened.close()


def _zero(path: Path) -> None:
    """The only element of an array: such cannot be deleted."""
    opened = bpf_map.Map.open(path)
    try:
        opened.update(bytes(4), bytes(opened.spec.value_size))
    finally:
        opened.close()


@contextlib.contextmanager
def _attach_lock() -> Iterator[None]:
    """One attach or detach at a time on a machine: between looking for others and attaching, nobody else may."""
    fd = os.open(cgroups.root(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
