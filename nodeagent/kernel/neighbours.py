"""Who else is on our hooks: other instances of this project (a conflict) and foreign programs (for doctor)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeagent.kernel import abi, bpf, bpf_map, cgroups, layout, syscall
from nodeagent.kernel.hooks import HOOKS, PROGRAM_PREFIX, Hook
from nodeagent.kernel.maps import decode_config

# Programs that read `config`, by which an instance tells its name.
_TELLING = tuple(hook for hook in HOOKS if hook.name.startswith("connect"))


@dataclass(frozen=True, slots=True)
class Attached:
    """One program on one hook of one cgroup."""

    cgroup: Path
    hook: str
    prog_id: int
    name: str
    map_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another instance that judges the same sockets as we would."""

    relation: str  # "equals", "lies above", "lies below"
    cgroup: Path
    instance: str  # "cgroup=... bpffs=..."

    def __str__(self) -> str:
        return f"its cgroup {self.cgroup} {self.relation} ours ({self.instance})"


def _attached(cgroup: Path, hook: Hook, effective: bool = False) -> list[Attached]:
    """Programs on one hook; [] if the cgroup or a program vanished meanwhile."""
    try:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        ids = bpf.prog_query(fd, hook.attach_type, effective)
    except syscall.BpfError as error:
        if error.errno == errno.ENODEV:  # the cgroup is being removed
            return []
        raise
    finally:
        os.close(fd)
    return [found for number in ids if (found := _describe(cgroup, hook, number)) is not None]


def _describe(cgroup: Path, hook: Hook, number: int) -> Attached | None:
    try:
        fd = bpf.prog_by_id(number)
    except syscall.BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    try:
        info = bpf.prog_info(fd)
    finally:
        os.close(fd)
    return Attached(cgroup, hook.name, number, info.name, info.map_ids)


def pinned_map_ids(bpffs: Path) -> frozenset[int]:
    """Ids of all maps pinned by the instance of this directory, whatever its layout version."""
    found = set()
    for path in bpffs.glob("v*/maps/*"):
        fd = syscall.obj_get(path)
        try:
            found.add(bpf_map.map_id(fd))
        finally:
            os.close(fd)
    return frozenset(found)


def _is_ours(program: Attached) -> bool:
    return program.name.startswith(PROGRAM_PREFIX)


def _instance_text(program: Attached) -> str:
    for number in program.map_ids:
        fd = bpf_map.map_by_id(number)
        opened = bpf_map.Map.from_fd(fd)
        try:
            if opened.name == layout.CONFIG and opened.spec.value_size == _CONFIG_SIZE:
                raw = opened.lookup(bytes(4)) or bytes(_CONFIG_SIZE)
                return decode_config(raw, bypass=False).instance
        finally:
            opened.close()
    return f"program id {program.prog_id}, which does not name its instance"


_CONFIG_SIZE = len(bytes(abi.Config()))


def _related(cgroup: Path) -> Iterator[tuple[str, Path]]:
    yield "equals", cgroup
    for above in cgroups.ancestors(cgroup):
        yield "lies above", above
    for below in cgroups.descendants(cgroup):
        yield "lies below", below


def conflicts(cgroup: Path, bpffs: Path) -> list[Conflict]:
    """Other instances whose hooks would run for the same sockets; our own earlier run is not one."""
    own = pinned_map_ids(bpffs)
    found: dict[int, Conflict] = {}
    for relation, place in _related(cgroup):
        for hook in _TELLING:
            for program in _attached(place, hook):
                _note(found, program, relation, own)
    for hook in _TELLING:  # what a cgroup namespace hides from the walk still runs for us
        for program in _attached(cgroup, hook, effective=True):
            _note(found, program, "lies above", own)
    return list(dict.fromkeys(found.values()))


def _note(found: dict[int, Conflict], program: Attached, relation: str, own: frozenset[int]) -> None:
    if _is_ours(program) and program.prog_id not in found and not own & set(program.map_ids):
        found[program.prog_id] = Conflict(relation, program.cgroup, _instance_text(program))


def others_come_last(cgroup: Path) -> bool:
    """True if a program of others may rewrite what a socket of this cgroup dials after ours has seen it.

    A cgroup's own programs run before those of the ones above it, so what is attached below ours comes before ours.
    """
    found = (program for hook in _TELLING for program in _attached(cgroup, hook, effective=True))
    return not all(map(_is_ours, found))


def foreign(cgroup: Path) -> list[Attached]:
    """Programs of others that run for sockets of this cgroup, on any hook that we use."""
    found: dict[tuple[int, str], Attached] = {}
    for _relation, place in _related(cgroup):
        for hook in HOOKS:
            for program in _attached(place, hook):
                found.setdefault((program.prog_id, program.hook), program)
    for hook in HOOKS:
        for program in _attached(cgroup, hook, effective=True):
            found.setdefault((program.prog_id, program.hook), program)
    return [program for program in found.values() if not _is_ours(program)]
