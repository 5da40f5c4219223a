"""Typed reading and writing of an instance's pinned maps.

The agent writes through here, the CLI and /metrics read through here, also when no agent runs: all
that is needed is the pin directory.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

from nodeagent.core import canary
from nodeagent.kernel import abi, bpf_map, layout, syscall
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.bpf_map import Map
from nodeagent.kernel.dialled import Dialled
from nodeagent.kernel.names import NAMELESS

ORIGINAL_LIFETIME_S = 30.0
_COUNTERS = [field[0] for field in abi.ConnStats._fields_]
_CONN_STATS = struct.Struct(f"={len(_COUNTERS)}Q")
_CANARY_TARGET = bytes(abi.DestKey(abi.make_addr(canary.ADDRESS), abi.wire_port(canary.PORT), 0))


@dataclass(frozen=True, slots=True)
class Config:
    """Node-wide settings, decoded from the maps `config` and `bypass`."""

    bypass: bool  # read only: `set_bypass` writes it
    heartbeat_limit_ms: int
    orig_limit: int
    pod_limit: int
    instance: str


@dataclass(frozen=True, slots=True)
class Guard:
    """What happens to a pod's connects before its namespace is classified; no `kubepods` = nothing."""

    kubepods: int = 0  # cgroup id
    refuse: bool = False
    refuse_away: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """Counters of one (workload, destination, outcome, rule), names resolved; "" = none."""

    workload: str  # "namespace/workload/serviceaccount"
    destination: str  # "namespace/service:port" or "address:port"
    outcome: Outcome
    rule: str  # "namespace/name" of the policy that denied, audited or limited
    opened: int
    closed: int
    failed: int
    tx_bytes: int
    rx_bytes: int


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One request series of one worker; `buckets` are counts per bucket, not cumulative."""

    worker: int
    labels: dict[str, str]
    requests: int
    request_bytes: int
    response_bytes: int
    duration_us: int
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ListenerRow:
    netns: int
    worker: int
    family: int
    port: int


def _u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


class Maps:
    """All maps of one instance, opened on first use.  BpfError (ENOENT) if the instance has no pins."""

    def __init__(self, pins: layout.Layout) -> None:
        self.layout = pins
        self._open: dict[str, Map] = {}
        self._beats: memoryview[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        for opened in self._open.values():
            opened.close()
        self._open.clear()
        self._beats = None

    def map(self, name: str) -> Map:
        if name not in self._open:
            self._open[name] = Map.open(self.layout.map(name))
        return self._open[name]

    # ---- config ----

    def read_config(self) -> Config:
        raw = self.map(layout.CONFIG).lookup(_u32(0))
        # an array always has its element 0
        return decode_config(raw or bytes(ctypes.sizeof(abi.Config)), bypass=self.bypassed())

    def bypassed(self) -> bool:
        """Whether every pod's connections are left alone, as somebody wishes."""
        on = self.map(layout.BYPASS).lookup(_u32(0))
        return bool(on and any(on))

    def write_config(self, config: Config) -> None:
        packed = abi.Config(
            config.heartbeat_limit_ms,
            config.orig_limit,
            config.pod_limit,
            0,
            config.instance.encode()[:95],
        )
        self.map(layout.CONFIG).update(_u32(0), bytes(packed))

    def set_bypass(self, on: bool) -> None:
        """The next connect of every pod sees this; established connections keep what they have."""
        self.map(layout.BYPASS).update(_u32(0), _u32(int(on)))

    def write_guard(self, guard: Guard) -> None:
        packed = abi.Guard(guard.kubepods, guard.refuse, guard.refuse_away)
        self.map(layout.GUARD).update(_u32(0), bytes(packed))

    def trust_endpoints(self, until_ns: int) -> None:
        """Connects choose among the endpoints in the maps until then (CLOCK_MONOTONIC); 0 = for ever."""
        self.map(layout.ENDPOINTS_UNTIL).update(_u32(0), _u64(until_ns))

    # ---- where pods dialled to ----

    def dialled(self) -> Dialled:
        """As it is now: a copy."""
        raw = self.map(layout.DIALLED).lookup(_u32(0))
        return Dialled(bytearray(raw or ctypes.sizeof(abi.Dialled)))

    def dialled_by_pods(self) -> Dialled:
        """The map's own memory."""
        return Dialled(mmap.mmap(self.map(layout.DIALLED).fd, ctypes.sizeof(abi.Dialled)))

    # ---- the canary (nodeagent.core.canary) ----

    def write_canary(self, cookie: int) -> None:
        """Its connects go to a worker, or are refused: never past the hooks."""
        pod = abi.Pod(canary.ID, canary.ID, abi.POD_FAIL_CLOSED, 0, abi.Addr())
        dest = abi.Dest(canary.ID, abi.DEST_PROXY, 0, 0, 0, abi.ALLOW)
        self.map(layout.DESTINATIONS).update(_CANARY_TARGET, bytes(dest))
        self.map(layout.PODS).update(_u64(cookie), bytes(pod))

    def delete_canary(self, cookie: int) -> None:
        for name in (layout.PODS, layout.IN_FLIGHT):
            self.map(name).delete(_u64(cookie))
        self.map(layout.DESTINATIONS).delete(_CANARY_TARGET)

    # ---- our own sockets ----

    def exempt(self, cgroup: int) -> bool:
        """Never touch sockets of processes in this cgroup: True if it was not exempt before."""
        try:
            self.map(layout.EXEMPT_CGROUPS).update(_u64(cgroup), b"\1", bpf_map.NOEXIST)
        except syscall.BpfError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def end_exemption(self, cgroup: int) -> bool:
        return self.map(layout.EXEMPT_CGROUPS).delete(_u64(cgroup))

    def exempt_cgroups(self) -> set[int]:
        return {struct.unpack("=Q", key)[0] for key in self.map(layout.EXEMPT_CGROUPS).items()}

    # ---- workers ----

    def set_listener(self, netns: int, worker: int, family: int, port: int) -> None:
        key = abi.ListenerKey(netns, worker, family)
        self.map(layout.LISTENERS).update(bytes(key), bytes(abi.Listener(abi.wire_port(port), 0)))

    def delete_listener(self, netns: int, worker: int, family: int) -> bool:
        return self.map(layout.LISTENERS).delete(bytes(abi.ListenerKey(netns, worker, family)))

    def delete_worker_listeners(self, worker: int) -> int:
        rows = [row for row in self.listeners() if row.worker == worker]
        return sum(self.delete_listener(row.netns, row.worker, row.family) for row in rows)

    def listeners(self) -> list[ListenerRow]:
        rows = []
        for key, value in self.map(layout.LISTENERS).items().items():
            k, v = abi.ListenerKey.from_buffer_copy(key), abi.Listener.from_buffer_copy(value)
            rows.append(ListenerRow(k.netns, k.worker, k.family, abi.wire_port(v.port)))
        return rows

    def heartbeats(self) -> list[int]:
        """Per worker: CLOCK_MONOTONIC ns of its last beat, 0 = does not accept."""
        return self._heartbeats().tolist()

    def heartbeat(self, worker: int) -> int:
        """The same of one."""
        return self._heartbeats()[worker]

    def _heartbeats(self) -> memoryview[int]:
        """Mapped, as the workers have it: they are looked at several times a second."""
        if self._beats is None:
            size = abi.MAX_WORKERS * struct.calcsize("=Q")
            mapped = mmap.mmap(self.map(layout.HEARTBEATS).fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
            self._beats = memoryview(mapped).cast("Q")
        return self._beats

    def clear_heartbeat(self, worker: int) -> None:
        """Take a worker out of the choice at once (it is dead or hangs)."""
        self.map(layout.HEARTBEATS).update(_u32(worker), _u64(0))

    def requests_map(self, worker: int) -> Map:
        """This worker's series, created and pinned at the first start of such a worker."""
        name = layout.requests_map(worker)
        try:
            return self.map(name)
        except syscall.BpfError as error:
            if error.errno != errno.ENOENT:
                raise
        spec = self.map(layout.REQUESTS).spec
        fd = bpf_map.map_create(
            bpf_map.MapSpec(name, spec.map_type, spec.key_size, spec.value_size, spec.max_entries, spec.flags)
        )
        try:
            syscall.obj_pin(self.layout.map(name), fd)
        except syscall.BpfError:
            Map.from_fd(fd).close()
            raise
        self._open[name] = Map.from_fd(fd)
        return self._open[name]

    # ---- counters ----

    def text(self, number: int) -> str:
        """What an id stands for; "" = it has no name, or none any more."""
        raw = self.map(layout.NAMES).lookup(_u32(number)) if number != NAMELESS else None
        return abi.Name.from_buffer_copy(raw).text.decode("utf-8", "replace") if raw else ""

    def connections(self) -> list[ConnectionRow]:
        """Kernel counters, CPUs added up.  Left out: the canary's, and rows of only zeros (the overflow's reserve).

        A name is read when a row has it, and once: `names` holds the whole cluster's, and few of them are counted.
        """
        table, name_of = self.map(layout.CONNECTIONS), cache(self.text)
        listed = [item for item in table.items().items() if abi.ConnKey.from_buffer_copy(item[0]).workload != canary.ID]
        rows = [_connection_row(key, raw, name_of) for key, raw in listed]
        return [row for row in rows if row.opened or row.closed or row.failed]

    def add_outcome(self, workload: int, outcome: Outcome, count: int) -> None:
        """Count what the agent itself did (DRAINED, UNPOLICED, CUT): no hook writes these keys, no update is lost."""
        table = self.map(layout.CONNECTIONS)
        key = bytes(abi.ConnKey(workload, 0, outcome, 0))
        raw = table.lookup(key)
        cpus = [abi.ConnStats.from_buffer_copy(value) for value in table.percpu_values(raw)] if raw else []
        table.update(key, bytes(abi.ConnStats(opened=sum(cpu.opened for cpu in cpus) + count)))

    def request_workers(self) -> list[int]:
        """Workers that ever had a series map, sorted."""
        prefix = layout.requests_map(0)[:-1]
        found = [path.name.removeprefix(prefix) for path in self.layout.maps.glob(prefix + "*")]
        return sorted(int(text) for text in found if text.isdigit())

    def request_series(self, worker: int) -> list[SeriesRow]:
        """Series in use of one worker, read through the map's memory (a snapshot, not a lock)."""
        return list(_series_rows(worker, self.map(layout.requests_map(worker))))

    # ---- originals ----

    def sweep_originals(self, now_ns: int, lifetime_s: float = ORIGINAL_LIFETIME_S) -> int:
        """Delete entries nobody took: how many.  `now_ns` is CLOCK_MONOTONIC (time.monotonic_ns())."""
        limit = now_ns - int(lifetime_s * 1e9)
        originals = self.map(layout.ORIGINALS)
        stale = [key for key, value in originals.items().items() if abi.Orig.from_buffer_copy(value).created_ns < limit]
        return sum(originals.delete(key) for key in stale)

    def in_flight(self) -> int:
        """Redirects that no worker has accepted yet, reservations included."""
        return self.map(layout.ORIGINALS).count()

    def under_way(self, netns: int) -> int:
        """Sockets of one namespace that hold a place there and are not established: what `pod_limit` bounds."""
        raw = self.map(layout.IN_FLIGHT).lookup(_u64(netns))
        return int(struct.unpack("=q", raw)[0]) if raw else 0


def decode_config(raw: bytes, *, bypass: bool) -> Config:
    c = abi.Config.from_buffer_copy(raw)
    text = c.instance.decode("utf-8", "replace")
    return Config(bypass, c.heartbeat_limit_ms, c.orig_limit, c.pod_limit, text)


def _connection_row(key: bytes, raw: bytes, text: Callable[[int], str]) -> ConnectionRow:
    """`raw`: all CPUs' counters in a row, without gaps since they are multiples of eight bytes."""
    k = abi.ConnKey.from_buffer_copy(key)
    sums = map(sum, zip(*_CONN_STATS.iter_unpack(raw), strict=True))
    return ConnectionRow(
        workload=text(k.workload),
        destination=text(k.dest),
        outcome=Outcome(k.outcome),
        rule=text(k.rule),
        **dict(zip(_COUNTERS, sums, strict=True)),
    )


def _series_rows(worker: int, table: Map) -> Iterator[SeriesRow]:
    size = table.spec.value_size
    with mmap.mmap(table.fd, size * table.spec.max_entries, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        for offset in range(0, size * table.spec.max_entries, size):
            # `used` first: a slot that is not in use costs eight bytes of reading, not the whole struct
            if struct.unpack_from("=Q", memory, offset)[0]:
                yield _series_row(worker, memory[offset : offset + size])


def _series_row(worker: int, raw: bytes) -> SeriesRow:
    s = abi.Series.from_buffer_copy(raw)
    return SeriesRow(
        worker=worker,
        labels=dict(zip(abi.SERIES_LABELS, json.loads(s.labels), strict=True)) if s.labels else {},
        requests=s.requests,
        request_bytes=s.request_bytes,
        response_bytes=s.response_bytes,
        duration_us=s.duration_us,
        buckets=tuple(s.buckets),
    )
