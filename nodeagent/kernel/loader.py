"""From bytecode to pinned maps and loaded programs, with errors an operator can act on."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace

from nodeagent.kernel import abi, bpf, bpf_map, btf, layout, syscall
from nodeagent.kernel.bpf_map import MapSpec
from nodeagent.kernel.bytecode import Bytecode
from nodeagent.kernel.hooks import F_SLEEPABLE, PROGRAMS, Hook, Runnable
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.release import version

VERIFIER_LINES = 6
SLEEPABLE_NO_PREALLOC = (6, 1)
"""Linux; before, the verifier says "Sleepable programs can only use preallocated maps"."""


class KernelError(Exception):
    """What the kernel refused, why that matters, and what to do."""


def open_maps(bytecode: Bytecode, pins: Layout, orig_limit: int) -> dict[str, int]:
    """Descriptors of all maps by name: pinned ones are taken over, missing ones are made and pinned."""
    fds: dict[str, int] = {}
    try:
        for spec in maps_for(bytecode, version(os.uname().release)):
            wanted = replace(spec, max_entries=orig_limit) if spec.name == layout.ORIGINALS else spec
            fds[spec.name] = _reuse(wanted, pins) if pins.map(spec.name).exists() else _create(wanted, pins)
    except BaseException:
        close_all(fds)
        raise
    return fds


def maps_for(bytecode: Bytecode, kernel: tuple[int, int]) -> tuple[MapSpec, ...]:
    """The maps as this kernel takes them: an older one needs those preallocated that programs that may sleep use."""
    if kernel >= SLEEPABLE_NO_PREALLOC:
        return bytecode.maps
    sleepable = (bytecode.program(one.program) for one in PROGRAMS if one.flags & F_SLEEPABLE)
    names = {name for program in sleepable for _offset, name in program.relocations}
    return tuple(_preallocated(spec) if spec.name in names else spec for spec in bytecode.maps)


def _preallocated(spec: MapSpec) -> MapSpec:
    return replace(spec, flags=spec.flags & ~bpf_map.F_NO_PREALLOC)


def close_all(fds: Mapping[str, int]) -> None:
    for fd in fds.values():
        os.close(fd)


def _reuse(spec: MapSpec, pins: Layout) -> int:
    path = pins.map(spec.name)
    fd = syscall.obj_get(path)
    found = bpf_map.map_info(fd)
    if found.same_shape(spec):
        return fd
    os.close(fd)
    raise KernelError(
        f"The pinned map {path} has another shape ({found.key_size}+{found.value_size} bytes) than this version's "
        f"({spec.key_size}+{spec.value_size}), though both say layout {pins.version}; reading it would give nonsense. "
        f"Remove the old instance first: nodeagent uninstall --bpffs {pins.bpffs}"
    )


def _create(spec: MapSpec, pins: Layout) -> int:
    fd = _create_storage(spec) if spec.map_type == bpf_map.MAP_TYPE_SK_STORAGE else bpf_map.map_create(spec)
    try:
        syscall.obj_pin(pins.map(spec.name), fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_storage(spec: MapSpec) -> int:
    types = bpf_map.btf_load(btf.storage_types(spec.value_size))
    try:
        return bpf_map.map_create(spec, (types, btf.KEY_TYPE, btf.VALUE_TYPE))
    finally:
        os.close(types)


def make_overflow_counters(connections: bpf_map.Map) -> None:
    """The keys that count when the map is full: one per outcome, without names.  Existing ones stay."""
    for outcome in abi.Outcome:
        key = bytes(abi.ConnKey(0, 0, outcome, 0))
        if connections.lookup(key) is None:
            connections.update(key, bytes(connections.spec.value_size))


def load(program: Hook | Runnable, bytecode: Bytecode, fds: Mapping[str, int]) -> int:
    """fd of the loaded program.  KernelError in plain words if the verifier refuses it."""
    insns = bytecode.program(program.program).linked(fds)
    try:
        return bpf.prog_load(program.program, program.prog_type, insns, program.expected, program.flags)
    except bpf.LoadError as error:
        raise KernelError(explain(program.program, error.errno or 0, error.log)) from error


def explain(program: str, number: int, log: str) -> str:
    """What a refused load means.  `log` is the verifier's text, of which the last lines say what it minded."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("processed ")]
    last = "\n".join(f"    {line}" for line in lines[-VERIFIER_LINES:]) or "    (it said nothing)"
    reason = errno.errorcode.get(number, str(number))
    return (
        f"The kernel refused to load the program {program} ({reason}), so no pod can be redirected.\n"
        f"The verifier's last lines:\n{last}\n{_advice(number, log)}"
    )


def _advice(number: int, log: str) -> str:
    release = os.uname().release
    if "unknown func" in log or "invalid func" in log or "cannot use helper" in log or "program of this type" in log:
        return (
            f"This kernel ({release}) lacks a helper that the program calls: 5.19 or newer is needed. "
            "Run `nodeagent doctor` to see what else the node lacks."
        )
    if number in {errno.EPERM, errno.EACCES} and not log.strip():
        return "The process may not load BPF: run as root with CAP_BPF, CAP_NET_ADMIN, and without kernel lockdown."
    if number in {errno.E2BIG, errno.ENOSPC} or "too large" in log or "too complex" in log:
        return f"The verifier of this kernel ({release}) gave up on the program's size: use a newer kernel."
    if number == errno.ENOMEM:
        return "The kernel has no memory for it: raise the memory limit of the agent's cgroup."
    return f"This is a defect or an untested kernel ({release}): report it with the lines above and `nodeagent doctor`."
