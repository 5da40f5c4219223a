"""One instance: programs on one cgroup, pins below one bpffs directory.

attach() is also what a restart and an upgrade do: pinned maps are taken over, so counters go on, and
pinned links get the new programs by LINK_UPDATE, so that no connect sees a hook without a program.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodeagent.kernel import bpf, cgroups, layout, loader, neighbours
from nodeagent.kernel.bytecode import Bytecode, compile_in_child
from nodeagent.kernel.hooks import HOOKS, Hook
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.loader import KernelError
from nodeagent.kernel.maps import Config, Maps
from nodeagent.kernel.neighbours import Attached, Conflict

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
        return all(self.layout.link(hook.name).exists() and self._link_lives(hook) for hook in HOOKS)

    def _link_lives(self, hook: Hook) -> bool:
        return self.link_info(hook).cgroup_id != 0

    def link_info(self, hook: Hook) -> LinkInfo:
        fd = bpf.obj_get(self.layout.link(hook.name))
        try:
            prog_id, cgroup_id = bpf.cgroup_link_info(fd)
        finally:
            os.close(fd)
        return LinkInfo(hook.name, prog_id, cgroup_id)

    def conflicts(self) -> list[Conflict]:
        return neighbours.conflicts(cgroups.checked(self.cgroup), self.layout.bpffs)

    def foreign_programs(self) -> list[Attached]:
        """Programs of others on our hooks, for `doctor`."""
        return neighbours.foreign(cgroups.checked(self.cgroup))

    def open_maps(self) -> Maps:
        return Maps(self.layout)

    # ---- attach ----

    def attach(self, *, exempt_cgroup: int = 0, orig_limit: int = ORIG_LIMIT, bytecode: Bytecode | None = None) -> None:
        """Compile (unless `bytecode` is given), load, pin and attach; or take over what is pinned.

        Raises ConflictError, KernelError or CompileError, each with what to do; the hooks are then as
        they were before.  `orig_limit` counts when the map `originals` is made, not for a pinned one.
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
                self._write_settings(exempt_cgroup)
                self._load_and_attach(code, fds)
            finally:
                loader.close_all(fds)
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

    def _write_settings(self, exempt_cgroup: int) -> None:
        with self.open_maps() as maps:
            old = maps.read_config()  # a new map is all zeros
            limit = maps.map(layout.ORIGINALS).spec.max_entries
            maps.write_config(
                Config(
                    exempt_cgroup=exempt_cgroup,
                    bypass=old.bypass,
                    heartbeat_limit_ms=old.heartbeat_limit_ms or HEARTBEAT_LIMIT_MS,
                    orig_limit=limit,
                    pod_limit=max(1, limit // POD_SHARE),
                    instance=self.text,
                )
            )
            loader.make_overflow_counters(maps.map(layout.CONNECTIONS))

    def _load_and_attach(self, code: Bytecode, fds: Mapping[str, int]) -> None:
        """All programs load before the first hook changes: a refused one changes nothing."""
        programs: dict[str, int] = {}
        made: list[Hook] = []
        try:
            for hook in HOOKS:
                programs[hook.name] = loader.load(hook, code, fds)
            for hook in HOOKS:
                is_new = self._attach_hook(hook, programs[hook.name])
                made += [hook] if is_new else []
        except BaseException:
            for hook in made:
                self._remove_link(self.layout.link(hook.name))
            raise
        finally:
            loader.close_all(programs)

    def _attach_hook(self, hook: Hook, program: int) -> bool:
        """True if the hook had no program of ours before."""
        existing = self._existing_link(hook)
        if existing is not None:
            self._update_link(hook, existing, program)
        else:
            self._create_link(hook, program)
        _pin_again(self.layout.prog(hook.program), program)
        return existing is None

    def _existing_link(self, hook: Hook) -> Path | None:
        """A pinned link on our cgroup, of this or another layout version; one elsewhere is removed."""
        wanted = cgroups.cgroup_id(self.cgroup)
        for path in sorted(self.layout.bpffs.glob(f"v*/links/{hook.name}")):
            fd = bpf.obj_get(path)
            try:
                _prog, cgroup_id = bpf.cgroup_link_info(fd)
            finally:
                os.close(fd)
            if cgroup_id == wanted:
                return path
            self._remove_link(path)
        return None

    def _update_link(self, hook: Hook, path: Path, program: int) -> None:
        link = bpf.obj_get(path)
        try:
            bpf.link_update(link, program)
            if path != self.layout.link(hook.name):
                bpf.obj_pin(self.layout.link(hook.name), link)
        finally:
            os.close(link)

    def _create_link(self, hook: Hook, program: int) -> None:
        target = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            link = bpf.link_create(program, target, hook.attach_type)
            try:
                bpf.obj_pin(self.layout.link(hook.name), link)
            finally:
                os.close(link)
        finally:
            os.close(target)

    def _drop_other_versions(self) -> None:
        for path in self.layout.bpffs.glob("v*"):
            if path != self.layout.root:
                shutil.rmtree(path)

    # ---- detach ----

    def detach_links(self) -> None:
        """Detach every hook; maps stay pinned, so that the next run goes on counting.  Detached already is fine."""
        with _attach_lock():
            for path in sorted(self.layout.bpffs.glob("v*/links/*"), reverse=True):
                self._remove_link(path)

    def detach(self) -> None:
        """Detach every hook and remove every pin, of all layout versions.  Nothing to remove is fine."""
        with _attach_lock():
            for path in sorted(self.layout.bpffs.glob("v*/links/*"), reverse=True):
                self._remove_link(path)
            if self.layout.bpffs.exists():
                shutil.rmtree(self.layout.bpffs)

    @staticmethod
    def _remove_link(path: Path) -> None:
        """Detach before the pin goes: someone else may hold the link open."""
        fd = bpf.obj_get(path)
        try:
            _prog, cgroup_id = bpf.cgroup_link_info(fd)
            if cgroup_id:
                bpf.link_detach(fd)
        finally:
            os.close(fd)
        path.unlink()


def _pin_again(path: Path, fd: int) -> None:
    path.unlink(missing_ok=True)
    bpf.obj_pin(path, fd)


@contextlib.contextmanager
def _attach_lock() -> Iterator[None]:
    """One attach or detach at a time on a machine: between looking for others and attaching, nobody else may."""
    fd = os.open(cgroups.root(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
