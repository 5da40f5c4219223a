"""Programs into hooks: a pinned link per hook, swapped one after another, and all put back if one cannot be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from nodeagent.kernel import bpf, cgroups, syscall
from nodeagent.kernel.hooks import Hook, Runnable
from nodeagent.kernel.layout import Layout


class LinkSwap:
    """`put` every hook inside a `with`; an exception leaves each hook with the program that it had before."""

    def __init__(self, pins: Layout, cgroup: Path) -> None:
        self._pins = pins
        self._cgroup = cgroup
        self._undo = contextlib.ExitStack()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        with self._held:
            if kind is not None:
                self._undo.close()

    def put(self, hook: Hook, program: int) -> None:
        existing = self._existing(hook)
        if existing is None:
            self._create(hook, program)
        else:
            self._update(hook, existing, program)
        self.pin(hook, program)

    def _existing(self, hook: Hook) -> Path | None:
        """A pinned link on our cgroup, of this or another layout version; one elsewhere is removed."""
        wanted = cgroups.cgroup_id(self._cgroup)
        for path in sorted(self._pins.bpffs.glob(f"v*/links/{hook.name}")):
            if pinned_link(path)[1] == wanted:
                return path
            remove_link(path)
        return None

    def _update(self, hook: Hook, path: Path, program: int) -> None:
        old = self._keep(bpf.prog_by_id(pinned_link(path)[0]))
        link = self._keep(syscall.obj_get(path))
        bpf.link_update(link, program)
        self._undo.callback(bpf.link_update, link, old)
        if path != self._pins.link(hook.name):
            syscall.obj_pin(self._pins.link(hook.name), link)
            self._undo.callback(self._pins.link(hook.name).unlink)

    def _create(self, hook: Hook, program: int) -> None:
        target = self._keep(os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY))
        link = self._keep(bpf.link_create(program, target, hook.attach_type))
        syscall.obj_pin(self._pins.link(hook.name), link)
        self._undo.callback(remove_link, self._pins.link(hook.name))

    def pin(self, what: Hook | Runnable, program: int) -> None:
        """The program alone, for those that are run by descriptor."""
        path = self._pins.prog(what.program)
        if path.exists():
            self._undo.callback(_pin_again, path, self._keep(syscall.obj_get(path)))
        _pin_again(path, program)

    def _keep(self, fd: int) -> int:
        """Open until the end: an old program lives by it, and so does what undoing needs."""
        self._held.callback(os.close, fd)
        return fd


def pinned_link(path: Path) -> tuple[int, int]:
    """(program id, cgroup id) of a pinned link; cgroup id 0 = its cgroup is gone, or it was detached."""
    fd = syscall.obj_get(path)
    try:
        return bpf.cgroup_link_info(fd)
    finally:
        os.close(fd)


def remove_link(path: Path) -> None:
    """Detach before the pin goes: someone else may hold the link open."""
    fd = syscall.obj_get(path)
    try:
        _prog, cgroup_id = bpf.cgroup_link_info(fd)
        if cgroup_id:
            bpf.link_detach(fd)
    finally:
        os.close(fd)
    path.unlink()


def _pin_again(path: Path, fd: int) -> None:
    path.unlink(missing_ok=True)
    syscall.obj_pin(path, fd)
