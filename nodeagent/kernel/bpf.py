"""Programs and links by bpf(2): loading, asking, attaching.  Maps: bpf_map; the call itself: syscall."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodeagent.kernel import syscall
from nodeagent.kernel.syscall import BpfError

QUERY_EFFECTIVE = 1


class LoadError(BpfError):
    """syscall.PROG_LOAD was refused; `log` holds the verifier's text."""

    def __init__(self, number: int, message: str, log: str) -> None:
        super().__init__(number, message)
        self.log = log


def prog_load(name: str, prog_type: int, insns: bytes, expected: int, flags: int = 0, log_size: int = 1 << 20) -> int:
    """fd of a loaded program (licence: Dual BSD/GPL).  LoadError with the verifier's log if it is refused."""
    code, licence = syscall.buffer(insns), syscall.buffer(b"Dual BSD/GPL\0")

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        level, size, where = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
        attr = syscall.attr(
            "<IIQQIIQII16sII",
            prog_type,
            len(insns) // 8,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            level,
            size,
            where,
            0,
            flags,
            name.encode()[:15],
            0,
            expected,
        )
        return syscall.call(syscall.PROG_LOAD, attr, name)

    try:
        return attempt(None)
    except BpfError:
        return _load_again_with_log(attempt, log_size)


def _load_again_with_log(attempt: Callable[[ctypes.Array[ctypes.c_char]], int], log_size: int) -> int:
    log = ctypes.create_string_buffer(log_size)
    try:
        return attempt(log)
    except BpfError as error:
        text = log.value.decode("utf-8", "replace")
        raise LoadError(error.errno or 0, error.strerror or "", text) from error


@dataclass(frozen=True, slots=True)
class ProgInfo:
    prog_id: int
    prog_type: int
    name: str
    map_ids: tuple[int, ...]
    jited_size: int
    loaded_ns: int


def prog_info(fd: int, max_maps: int = 64) -> ProgInfo:
    ids = (ctypes.c_uint32 * max_maps)()
    seed = bytearray(232)
    struct.pack_into("<I", seed, 52, max_maps)
    struct.pack_into("<Q", seed, 56, ctypes.addressof(ids))
    raw = syscall.info(fd, len(seed), bytes(seed))
    prog_type, prog_id, _tag, jited = struct.unpack_from("<II8sI", raw)
    loaded_ns, _uid, count, _ids, name = struct.unpack_from("<QIIQ16s", raw, 40)
    return ProgInfo(prog_id, prog_type, name.split(b"\0")[0].decode(), tuple(ids[:count]), jited, loaded_ns)


def prog_by_id(prog_id: int) -> int:
    return syscall.call(syscall.PROG_GET_FD_BY_ID, syscall.attr("<II", prog_id, 0), f"program id {prog_id}")


def prog_query(target_fd: int, attach_type: int, effective: bool = False, room: int = 64) -> list[int]:
    """Ids of the programs attached to a cgroup; `effective` adds those of its ancestors."""
    ids = (ctypes.c_uint32 * room)()
    flags = QUERY_EFFECTIVE if effective else 0
    attr = syscall.attr("<IIIIQI", target_fd, attach_type, flags, 0, ctypes.addressof(ids), room)
    syscall.call(syscall.PROG_QUERY, attr, f"cgroup (attach type {attach_type})")
    count = struct.unpack_from("<I", attr.raw, 24)[0]
    return list(ids[:count])


def test_run(prog_fd: int, data: bytes) -> int:
    """Run a program on `data` (packet bytes) and return its return value."""
    buffer = syscall.buffer(data)
    attr = syscall.attr("<IIIIQQ", prog_fd, 0, len(data), 0, ctypes.addressof(buffer), 0)
    syscall.call(syscall.PROG_TEST_RUN, attr, f"descriptor {prog_fd}")
    return int(struct.unpack_from("<I", attr.raw, 4)[0])


# ---- links and pins ---------------------------------------------------------------------------


def link_create(prog_fd: int, target_fd: int, attach_type: int) -> int:
    attr = syscall.attr("<IIII", prog_fd, target_fd, attach_type, 0)
    return syscall.call(syscall.LINK_CREATE, attr, f"attach type {attach_type}")


def link_update(link_fd: int, prog_fd: int) -> None:
    """Swap the program atomically: no packet or connect sees the hook empty."""
    syscall.call(syscall.LINK_UPDATE, syscall.attr("<IIII", link_fd, prog_fd, 0, 0), f"descriptor {link_fd}")


def link_detach(link_fd: int) -> None:
    syscall.call(syscall.LINK_DETACH, syscall.attr("<I", link_fd), f"descriptor {link_fd}")


def cgroup_link_info(fd: int) -> tuple[int, int]:
    """(program id, cgroup id) of a cgroup link; cgroup id 0 = its cgroup was removed, or it was detached."""
    raw = syscall.info(fd, 64)
    _type, _id, prog_id = struct.unpack_from("<III", raw)
    return prog_id, struct.unpack_from("<Q", raw, 16)[0]


def filesystem_magic(path: Path) -> int:
    """f_type of statfs(2): which file system a directory is on."""
    buffer = ctypes.create_string_buffer(256)
    if syscall.libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise BpfError(number, f"cannot ask for the file system of {path}: {os.strerror(number)}")
    return int(struct.unpack_from("<q", buffer.raw)[0])
