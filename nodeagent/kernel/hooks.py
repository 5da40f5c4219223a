"""The programs of bpf/*.c: which goes into which hook, and those that workers run.

Program names carry the prefix `na_`, by which any instance's programs are recognised on a cgroup;
a hook's name is the file name of its source and of its pinned link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

PROGRAM_PREFIX = "na_"

PROG_TYPE_CGROUP_SOCK = 9
PROG_TYPE_SOCK_OPS = 13
PROG_TYPE_CGROUP_SOCK_ADDR = 18
PROG_TYPE_SYSCALL = 31
F_SLEEPABLE = 1 << 4


@dataclass(frozen=True, slots=True)
class Hook:
    """One attach point.  `expected` is what PROG_LOAD wants to hear: sock_ops has no such type and takes 0."""

    name: str
    prog_type: int
    attach_type: int
    expected: int
    flags: ClassVar[int] = 0

    @property
    def program(self) -> str:
        return PROGRAM_PREFIX + self.name

    @property
    def source(self) -> str:
        return f"{self.name}.c"


@dataclass(frozen=True, slots=True)
class Runnable:
    """A program in no hook, run by BPF_PROG_TEST_RUN on a descriptor: the ledger's.

    Of the type "syscall": a call costs half of what one of a packet type does, which gets a socket buffer made for
    it first.  The kernel loads that type only as one that may sleep, although ours do not.
    """

    name: str
    prog_type: ClassVar[int] = PROG_TYPE_SYSCALL
    expected: ClassVar[int] = 0
    flags: ClassVar[int] = F_SLEEPABLE

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

LEDGER = Runnable("ledger")
RECORD = Runnable("record")
RUNNABLES = (LEDGER, RECORD)
PROGRAMS: tuple[Hook | Runnable, ...] = (*HOOKS, *RUNNABLES)
