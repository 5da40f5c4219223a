"""A thin bpf(2): just the commands this project uses, with errors that name the command and the object.

Works without privileges on descriptors that were passed in (a worker's maps).  Only the standard
library; constants and attribute layouts are those of linux/bpf.h.  All calls raise BpfError, an
OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
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

ANY, NOEXIST, EXIST = 0, 1, 2

MAP_TYPE_HASH = 1
MAP_TYPE_ARRAY = 2
MAP_TYPE_PERCPU_HASH = 5
MAP_TYPE_PERCPU_ARRAY = 6
MAP_TYPE_SK_STORAGE = 24
_PERCPU_TYPES = (MAP_TYPE_PERCPU_HASH, MAP_TYPE_PERCPU_ARRAY)
MAP_TYPE_NAMES = {1: "hash", 2: "array", 5: "percpu_hash", 6: "percpu_array", 9: "lru_hash", 24: "sk_storage"}

F_NO_PREALLOC = 1
F_MMAPABLE = 0x400

QUERY_EFFECTIVE = 1

_libc = ctypes.CDLL(None, use_errno=True)


class BpfError(OSError):
    """A bpf(2) command failed: errno and text of the kernel, and what was attempted on what."""


def _syscall_number() -> int:
    machine = platform.machine()
    if machine not in _SYSCALLS:
        raise BpfError(errno.ENOSYS, f"bpf(2) has no known system call number on {machine}")
    return _SYSCALLS[machine]


_NUMBER = _syscall_number()


def _call(command: int, attr: ctypes.Array[ctypes.c_char], what: str = "") -> int:
    result: int = _libc.syscall(_NUMBER, command, attr, len(attr))
    if result < 0:
        raise _error(command, what)
    return result


def _error(command: int, what: str) -> BpfError:
    number = ctypes.get_errno()
    return BpfError(number, f"cannot {_COMMANDS[command]} {what}: {os.strerror(number)}")


def _attr(fmt: str, *values: object) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack(fmt, *values), _ATTR_SIZE)


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))


def possible_cpus() -> int:
    """How many values a per-CPU map holds per key."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1


# ---- maps -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What MAP_CREATE needs; the compiler child reads it from bpf/maps.h."""

    name: str
    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    def same_shape(self, other: MapSpec) -> bool:
        """True if a pinned map can serve for this declaration (its size may differ)."""
        mine = (self.map_type, self.key_size, self.value_size)
        return mine == (other.map_type, other.key_size, other.value_size)


def map_create(spec: MapSpec, btf: tuple[int, int, int] = (0, 0, 0)) -> int:
    """fd of a new map.  `btf` = (btf fd, key type id, value type id), needed by SK_STORAGE only."""
    attr = _attr(
        "<IIIIIII16sIIII",
        spec.map_type,
        spec.key_size,
        spec.value_size,
        spec.max_entries,
        spec.flags,
        0,
        0,
        spec.name.encode()[:15],
        0,
        *btf,
    )
    return _call(MAP_CREATE, attr, spec.name)


def btf_load(data: bytes) -> int:
    buffer = _buffer(data)
    return _call(BTF_LOAD, _attr("<QQIII", ctypes.addressof(buffer), 0, len(data), 0, 0), "BTF")


class Map:
    """A map behind a descriptor.  Keys and values are bytes of exactly the map's sizes.

    Not safe for threads: the argument buffers are prepared once and reused, since a worker calls
    `take` for every connection it accepts.
    """

    def __init__(self, fd: int, spec: MapSpec) -> None:
        self.fd = fd
        self.spec = spec
        self.name = spec.name
        self.percpu = spec.map_type in _PERCPU_TYPES
        self._cpus = possible_cpus() if self.percpu else 1
        self._stride = (spec.value_size + 7) // 8 * 8 if self.percpu else spec.value_size
        self._key = ctypes.create_string_buffer(spec.key_size)
        self._value = ctypes.create_string_buffer(self._stride * self._cpus)
        self._next = ctypes.create_string_buffer(spec.key_size)

    @classmethod
    def from_fd(cls, fd: int) -> Map:
        return cls(fd, map_info(fd))

    @classmethod
    def open(cls, path: Path) -> Map:
        """A pinned map.  BpfError (ENOENT) if nothing is pinned there."""
        return cls.from_fd(obj_get(path))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _element(self, flags: int = 0) -> ctypes.Array[ctypes.c_char]:
        return _attr("<IIQQQ", self.fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), flags)

    def _set_key(self, key: bytes) -> None:
        if len(key) != self.spec.key_size:
            raise ValueError(f"map {self.name}: key of {len(key)} bytes, expected {self.spec.key_size}")
        self._key.raw = key

    def _get(self, command: int, key: bytes) -> bytes | None:
        self._set_key(key)
        try:
            _call(command, self._element(), self.name)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return self._value.raw

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None.  Of a per-CPU map: all CPUs' values in a row (see `percpu_values`)."""
        return self._get(MAP_LOOKUP, key)

    def take(self, key: bytes) -> bytes | None:
        """LOOKUP_AND_DELETE: the value, which nobody else can get any more, or None."""
        return self._get(MAP_LOOKUP_AND_DELETE, key)

    def percpu_values(self, raw: bytes) -> list[bytes]:
        size = self.spec.value_size
        return [raw[i * self._stride : i * self._stride + size] for i in range(self._cpus)]

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Write one element; a per-CPU map gets `value` on the first CPU and zeros on the others."""
        if len(value) != self.spec.value_size:
            raise ValueError(f"map {self.name}: value of {len(value)} bytes, expected {self.spec.value_size}")
        self._set_key(key)
        self._value.raw = value.ljust(len(self._value), b"\0")
        _call(MAP_UPDATE, self._element(flags), self.name)

    def delete(self, key: bytes) -> bool:
        """True if the key was there."""
        self._set_key(key)
        try:
            _call(MAP_DELETE, _attr("<IIQ", self.fd, 0, ctypes.addressof(self._key)), self.name)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def keys(self) -> Iterator[bytes]:
        """Every key at least once while others write; a key deleted meanwhile restarts the walk."""
        attr = _attr("<IIQQ", self.fd, 0, 0, ctypes.addressof(self._next))
        while True:
            try:
                _call(MAP_NEXT_KEY, attr, self.name)
            except BpfError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            current = self._next.raw
            yield current
            pinned = _buffer(current)
            attr = _attr("<IIQQ", self.fd, 0, ctypes.addressof(pinned), ctypes.addressof(self._next))

    def items(self) -> dict[bytes, bytes]:
        """All elements, read in batches where the map type can do that."""
        if self.spec.map_type == MAP_TYPE_SK_STORAGE:
            return {}
        try:
            return dict(pair for batch in self._batches() for pair in batch.pairs())
        except BpfError:
            return self._items_one_by_one()

    def count(self) -> int:
        """How many elements there are.  Cheap: no element is copied out of the batches' buffers.

        A batch holds whole buckets of the hash, each seen once: what others write meanwhile is not counted twice.
        """
        if self.spec.map_type == MAP_TYPE_SK_STORAGE:
            return 0
        try:
            return sum(batch.count for batch in self._batches())
        except BpfError:  # a walk that deletions restart sees a key again, and has to end: two rounds are enough
            return len(set(islice(self.keys(), 2 * self.spec.max_entries)))

    def _items_one_by_one(self) -> dict[bytes, bytes]:
        found = {}
        for key in list(self.keys()):
            value = self.lookup(key)
            if value is not None:
                found[key] = value
        return found

    def _batches(self, room: int = 1024) -> Iterator[Batch]:
        """BpfError if a bucket of the hash does not fit the room (ENOSPC) or the type has no batch command."""
        batch = Batch(self.spec.key_size, self._stride * self._cpus, room)
        cursor = ctypes.create_string_buffer(max(self.spec.key_size, 8))
        place = ctypes.addressof(cursor)
        start, last = 0, False
        while not last:
            attr = _attr("<QQQQIIQQ", start, place, *batch.addresses(), room, self.fd, 0, 0)
            try:
                _call(MAP_LOOKUP_BATCH, attr, self.name)
            except BpfError as error:
                if error.errno != errno.ENOENT:
                    raise
                last = True
            batch.count = struct.unpack_from("<I", attr.raw, 32)[0]
            yield batch
            start = place


class Batch:
    """What one batch look-up found; the next one overwrites it."""

    def __init__(self, key_size: int, value_size: int, room: int) -> None:
        self.count = 0
        self._sizes = key_size, value_size
        self._keys = ctypes.create_string_buffer(room * key_size)
        self._values = ctypes.create_string_buffer(room * value_size)

    def addresses(self) -> tuple[int, int]:
        return ctypes.addressof(self._keys), ctypes.addressof(self._values)

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        key_size, value_size = self._sizes
        keys, values = self._keys.raw, self._values.raw
        for i in range(self.count):
            yield keys[i * key_size : (i + 1) * key_size], values[i * value_size : (i + 1) * value_size]


class PreparedTake:
    """LOOKUP_AND_DELETE of one map with every argument made beforehand: a worker does it for each connection.

    Write the key into `key`, call, read the value from `value`.
    """

    def __init__(self, table: Map) -> None:
        self.key = ctypes.create_string_buffer(table.spec.key_size)
        self.value = ctypes.create_string_buffer(table.spec.value_size)
        addresses = ctypes.addressof(self.key), ctypes.addressof(self.value)
        self._attr = _attr("<IIQQQ", table.fd, 0, *addresses, 0)
        arguments = (_NUMBER, MAP_LOOKUP_AND_DELETE, ctypes.addressof(self._attr), len(self._attr))
        self._arguments = tuple(map(ctypes.c_long, arguments))
        self._name = table.name

    def __call__(self) -> bool:
        """False when the key is not there."""
        if _libc.syscall(*self._arguments) == 0:
            return True
        if ctypes.get_errno() == errno.ENOENT:
            return False
        raise _error(MAP_LOOKUP_AND_DELETE, self._name)


def map_info(fd: int) -> MapSpec:
    raw = _info(fd, 88)
    map_type, _id, key_size, value_size, max_entries, flags, name = struct.unpack_from("<IIIIII16s", raw)
    return MapSpec(name.split(b"\0")[0].decode(), map_type, key_size, value_size, max_entries, flags)


def map_id(fd: int) -> int:
    return int(struct.unpack_from("<I", _info(fd, 88), 4)[0])


# ---- programs ---------------------------------------------------------------------------------


class LoadError(BpfError):
    """PROG_LOAD was refused; `log` holds the verifier's text."""

    def __init__(self, number: int, message: str, log: str) -> None:
        super().__init__(number, message)
        self.log = log


def prog_load(name: str, prog_type: int, insns: bytes, expected: int, log_size: int = 1 << 20) -> int:
    """fd of a loaded program (licence: Dual BSD/GPL).  LoadError with the verifier's log if it is refused."""
    code, licence = _buffer(insns), _buffer(b"Dual BSD/GPL\0")

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        level, size, where = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
        attr = _attr(
            "<IIQQIIQII16sII",
            prog_type,
            len(insns) // 8,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            level,
            size,
            where,
            0,
            0,
            name.encode()[:15],
            0,
            expected,
        )
        return _call(PROG_LOAD, attr, name)

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
    raw = _info(fd, len(seed), bytes(seed))
    prog_type, prog_id, _tag, jited = struct.unpack_from("<II8sI", raw)
    loaded_ns, _uid, count, _ids, name = struct.unpack_from("<QIIQ16s", raw, 40)
    return ProgInfo(prog_id, prog_type, name.split(b"\0")[0].decode(), tuple(ids[:count]), jited, loaded_ns)


def _info(fd: int, size: int, seed: bytes = b"") -> bytes:
    buffer = ctypes.create_string_buffer(seed, size)
    _call(OBJ_GET_INFO, _attr("<IIQ", fd, size, ctypes.addressof(buffer)), f"descriptor {fd}")
    return buffer.raw


def prog_by_id(prog_id: int) -> int:
    return _call(PROG_GET_FD_BY_ID, _attr("<II", prog_id, 0), f"program id {prog_id}")


def map_by_id(number: int) -> int:
    return _call(MAP_GET_FD_BY_ID, _attr("<II", number, 0), f"map id {number}")


def prog_query(target_fd: int, attach_type: int, effective: bool = False, room: int = 64) -> list[int]:
    """Ids of the programs attached to a cgroup; `effective` adds those of its ancestors."""
    ids = (ctypes.c_uint32 * room)()
    flags = QUERY_EFFECTIVE if effective else 0
    attr = _attr("<IIIIQI", target_fd, attach_type, flags, 0, ctypes.addressof(ids), room)
    _call(PROG_QUERY, attr, f"cgroup (attach type {attach_type})")
    count = struct.unpack_from("<I", attr.raw, 24)[0]
    return list(ids[:count])


def test_run(prog_fd: int, data: bytes) -> int:
    """Run a program on `data` (packet bytes) and return its return value."""
    buffer = _buffer(data)
    attr = _attr("<IIIIQQ", prog_fd, 0, len(data), 0, ctypes.addressof(buffer), 0)
    _call(PROG_TEST_RUN, attr, f"descriptor {prog_fd}")
    return int(struct.unpack_from("<I", attr.raw, 4)[0])


# ---- links and pins ---------------------------------------------------------------------------


def link_create(prog_fd: int, target_fd: int, attach_type: int) -> int:
    return _call(LINK_CREATE, _attr("<IIII", prog_fd, target_fd, attach_type, 0), f"attach type {attach_type}")


def link_update(link_fd: int, prog_fd: int) -> None:
    """Swap the program atomically: no packet or connect sees the hook empty."""
    _call(LINK_UPDATE, _attr("<IIII", link_fd, prog_fd, 0, 0), f"descriptor {link_fd}")


def link_detach(link_fd: int) -> None:
    _call(LINK_DETACH, _attr("<I", link_fd), f"descriptor {link_fd}")


def obj_pin(path: Path, fd: int) -> None:
    text = _buffer(os.fsencode(path) + b"\0")
    _call(OBJ_PIN, _attr("<QI", ctypes.addressof(text), fd), str(path))


def obj_get(path: Path) -> int:
    text = _buffer(os.fsencode(path) + b"\0")
    return _call(OBJ_GET, _attr("<QI", ctypes.addressof(text), 0), str(path))


def cgroup_link_info(fd: int) -> tuple[int, int]:
    """(program id, cgroup id) of a cgroup link; cgroup id 0 = its cgroup was removed, or it was detached."""
    raw = _info(fd, 64)
    _type, _id, prog_id = struct.unpack_from("<III", raw)
    return prog_id, struct.unpack_from("<Q", raw, 16)[0]


def filesystem_magic(path: Path) -> int:
    """f_type of statfs(2): which file system a directory is on."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise BpfError(number, f"cannot ask for the file system of {path}: {os.strerror(number)}")
    return int(struct.unpack_from("<q", buffer.raw)[0])
