"""Maps behind descriptors: what they are, and reading and writing them.

Works without privileges on descriptors that were passed in (a worker's maps).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nodeagent.kernel import syscall
from nodeagent.kernel.syscall import BpfError, obj_get

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


def possible_cpus() -> int:
    """How many values a per-CPU map holds per key."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What syscall.MAP_CREATE needs; the compiler child reads it from bpf/maps.h."""

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
    attr = syscall.attr(
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
    return syscall.call(syscall.MAP_CREATE, attr, spec.name)


def btf_load(data: bytes) -> int:
    buffer = syscall.buffer(data)
    return syscall.call(syscall.BTF_LOAD, syscall.attr("<QQIII", ctypes.addressof(buffer), 0, len(data), 0, 0), "BTF")


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
        return syscall.attr("<IIQQQ", self.fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), flags)

    def _set_key(self, key: bytes) -> None:
        if len(key) != self.spec.key_size:
            raise ValueError(f"map {self.name}: key of {len(key)} bytes, expected {self.spec.key_size}")
        self._key.raw = key

    def _get(self, command: int, key: bytes) -> bytes | None:
        self._set_key(key)
        try:
            syscall.call(command, self._element(), self.name)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return self._value.raw

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None.  Of a per-CPU map: all CPUs' values in a row (see `percpu_values`)."""
        return self._get(syscall.MAP_LOOKUP, key)

    def take(self, key: bytes) -> bytes | None:
        """LOOKUP_AND_DELETE: the value, which nobody else can get any more, or None."""
        return self._get(syscall.MAP_LOOKUP_AND_DELETE, key)

    def percpu_values(self, raw: bytes) -> list[bytes]:
        size = self.spec.value_size
        return [raw[i * self._stride : i * self._stride + size] for i in range(self._cpus)]

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Write one element; a per-CPU map gets `value` on the first CPU and zeros on the others."""
        if len(value) != self.spec.value_size:
            raise ValueError(f"map {self.name}: value of {len(value)} bytes, expected {self.spec.value_size}")
        self._set_key(key)
        self._value.raw = value.ljust(len(self._value), b"\0")
        syscall.call(syscall.MAP_UPDATE, self._element(flags), self.name)

    def delete(self, key: bytes) -> bool:
        """True if the key was there."""
        self._set_key(key)
        try:
            syscall.call(syscall.MAP_DELETE, syscall.attr("<IIQ", self.fd, 0, ctypes.addressof(self._key)), self.name)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def keys(self) -> Iterator[bytes]:
        """Every key at least once while others write; a key deleted meanwhile restarts the walk."""
        attr = syscall.attr("<IIQQ", self.fd, 0, 0, ctypes.addressof(self._next))
        while True:
            try:
                syscall.call(syscall.MAP_NEXT_KEY, attr, self.name)
            except BpfError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            current = self._next.raw
            yield current
            pinned = syscall.buffer(current)
            attr = syscall.attr("<IIQQ", self.fd, 0, ctypes.addressof(pinned), ctypes.addressof(self._next))

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
            attr = syscall.attr("<QQQQIIQQ", start, place, *batch.addresses(), room, self.fd, 0, 0)
            try:
                syscall.call(syscall.MAP_LOOKUP_BATCH, attr, self.name)
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
        self._attr = syscall.attr("<IIQQQ", table.fd, 0, *addresses, 0)
        arguments = (syscall.NUMBER, syscall.MAP_LOOKUP_AND_DELETE, ctypes.addressof(self._attr), len(self._attr))
        self._arguments = tuple(map(ctypes.c_long, arguments))
        self._name = table.name

    def __call__(self) -> bool:
        """False when the key is not there."""
        if syscall.libc.syscall(*self._arguments) == 0:
            return True
        if ctypes.get_errno() == errno.ENOENT:
            return False
        raise syscall.error(syscall.MAP_LOOKUP_AND_DELETE, self._name)


def map_info(fd: int) -> MapSpec:
    raw = syscall.info(fd, 88)
    map_type, _id, key_size, value_size, max_entries, flags, name = struct.unpack_from("<IIIIII16s", raw)
    return MapSpec(name.split(b"\0")[0].decode(), map_type, key_size, value_size, max_entries, flags)


def map_id(fd: int) -> int:
    return int(struct.unpack_from("<I", syscall.info(fd, 88), 4)[0])


def map_by_id(number: int) -> int:
    return syscall.call(syscall.MAP_GET_FD_BY_ID, syscall.attr("<II", number, 0), f"map id {number}")
