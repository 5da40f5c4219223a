"""bpf(2) itself: commands, attributes, errors that name the command and the object, pins.

Only the standard library; constants and attribute layouts are those of linux/bpf.h.  All calls raise
BpfError, an OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_ATTR_SIZE = 144

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD, OBJ_PIN, OBJ_GET = range(8)
PROG_TEST_RUN = 10
PROG_GET_FD_BY_ID = 13
MAP_GET_FD_BY_ID = 14
OBJ_GET_INFO = 15
PROG_QUERY = 16
BTF_LOAD = 18
MAP_LOOKUP_AND_DELETE = 21
MAP_LOOKUP_BATCH = 24
LINK_CREATE = 28
LINK_UPDATE = 29
LINK_DETACH = 34

_COMMANDS = {
    MAP_CREATE: "create map",
    MAP_LOOKUP: "look up in map",
    MAP_UPDATE: "update map",
    MAP_DELETE: "delete from map",
    MAP_NEXT_KEY: "walk map",
    PROG_LOAD: "load program",
    OBJ_PIN: "pin",
    OBJ_GET: "open pin",
    PROG_TEST_RUN: "run program",
    PROG_GET_FD_BY_ID: "open program",
    MAP_GET_FD_BY_ID: "open map",
    OBJ_GET_INFO: "get info of",
    PROG_QUERY: "list programs of",
    BTF_LOAD: "load type information",
    MAP_LOOKUP_AND_DELETE: "take from map",
    MAP_LOOKUP_BATCH: "read map",
    LINK_CREATE: "attach",
    LINK_UPDATE: "replace program of link",
    LINK_DETACH: "detach link",
}

F_RDONLY = 1 << 3
"""For OBJ_GET: a descriptor that cannot write the map."""

libc = ctypes.CDLL(None, use_errno=True)


class BpfError(OSError):
    """A bpf(2) command failed: errno and text of the kernel, and what was attempted on what."""


def _syscall_number() -> int:
    machine = platform.machine()
    if machine not in _SYSCALLS:
        raise BpfError(errno.ENOSYS, f"bpf(2) has no known system call number on {machine}")
    return _SYSCALLS[machine]


NUMBER = _syscall_number()


def call(command: int, attr: ctypes.Array[ctypes.c_char], what: str = "") -> int:
    result: int = libc.syscall(NUMBER, command, attr, len(attr))
    if result < 0:
        raise error(command, what)
    return result


def error(command: int, what: str) -> BpfError:
    number = ctypes.get_errno()
    return BpfError(number, f"cannot {_COMMANDS[command]} {what}: {os.strerror(number)}")


def attr(fmt: str, *values: object) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack(fmt, *values), _ATTR_SIZE)


def buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))


def info(fd: int, size: int, seed: bytes = b"") -> bytes:
    buffer = ctypes.create_string_buffer(seed, size)
    call(OBJ_GET_INFO, attr("<IIQ", fd, size, ctypes.addressof(buffer)), f"descriptor {fd}")
    return buffer.raw


def obj_pin(path: Path, fd: int) -> None:
    text = buffer(os.fsencode(path) + b"\0")
    call(OBJ_PIN, attr("<QI", ctypes.addressof(text), fd), str(path))


def obj_get(path: Path, flags: int = 0) -> int:
    text = buffer(os.fsencode(path) + b"\0")
    return call(OBJ_GET, attr("<QII", ctypes.addressof(text), 0, flags), str(path))
