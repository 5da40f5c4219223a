"""The hooks: which program of bpf/*.c goes where.

Program names carry the prefix `na_`, by which any instance's programs are recognised on a cgroup;
a hook's name is the file name of its source and of its pinned link.
"""

from __future__ import annotations

from dataclasses import dataclass

PROGRAM_PREFIX = "na_"

PROG_TYPE_CGROUP_SOCK = 9
PROG_TYPE_SOCK_OPS = 13
PROG_TYPE_CGROUP_SOCK_ADDR = 18


@dataclass(frozen=True, slots=True)
class Hook:
    """One attach point.  `expected` is what PROG_LOAD wants to hear: sock_ops has no such type and takes 0."""

    name: str
    prog_type: int
    attach_type: int
    expected: int

    @property
    def program(self) -> str:
        return PROGRAM_PREFIX + self.name

    @property
    def source(self) -> str:
        return f"{self.name}.c"


def _sock_addr(name: str, attach_type: int) -> Hook:
    return Hook(name, PROG_TYPE_CGROUP_SOCK_ADDR, attach_type, attach_type)


# Attached in this order: what restores an application's view comes before what changes it.
HOOKS: tuple[Hook, ...] = (
    _sock_addr("getpeername4", 29),
    _sock_addr("getpeername6", 30),
    _sock_addr("getsockname4", 31),
    _sock_addr("getsockname6", 32),
    Hook("sock_ops", PROG_TYPE_SOCK_OPS, 3, 0),
    Hook("sock_release", PROG_TYPE_CGROUP_SOCK, 34, 34),
    _sock_addr("connect4", 10),
    _sock_addr("connect6", 11),
)
