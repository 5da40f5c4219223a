"""Makes the maps say what a Snapshot says.

    kernel = KernelSync(maps)
    kernel.sync(snapshot, pods)     # at every new snapshot or change of pods
    kernel.collect(time.monotonic())    # every second or so

sync() looks only at destinations that are other objects than before and writes only differences, in
the order that `kernel_plan` gives; collect() deletes what nothing has referred to for GRACE_S.  One
process writes (the agent that holds the lease), so what the maps hold is read once and then remembered.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nodeagent.core import kernel_state
from nodeagent.core.differences import changed, gone
from nodeagent.core.kernel_plan import DestinationRow, Plan, Tables, Target, plan
from nodeagent.core.kernel_state import DestFlag, LocalPod, Passing, PodEntry, RateEntry, VerdictEntry
from nodeagent.core.model import Destination, Endpoint, Snapshot, Workload
from nodeagent.kernel import abi, layout
from nodeagent.kernel.bpf_map import Map
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.names import NAMELESS, Names

LocalPods = list[tuple[Workload, LocalPod]]

GRACE_S = 1.0
_COOKIE = struct.Struct("=Q")
_ID = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class SyncResult:
    """How many elements were written or deleted at once, and how many wait for `collect`."""

    written: int
    deleted: int
    retired: int


class KernelSync:
    """Writer of pods, own_addresses, destinations, connect_rates, endpoints, verdicts and names."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._names = Names(maps.map(layout.NAMES), self._destinations_in_use)
        self._tables: Tables | None = None
        self._written: tuple[Snapshot, LocalPods] | None = None  # what `_tables` were made from
        self._nameless = False  # the map of names was full at the last `sync`
        self._pods_changed = True  # since ids of pods were dropped
        self._retired: list[tuple[float, Plan]] = []

    def sync(self, snapshot: Snapshot, pods: Mapping[str, LocalPod], passing: Passing | None = None) -> SyncResult:
        """Write the difference.  `pods`: key "namespace/name" -> what was found on this node.

        BpfError (E2BIG) if a map is full: what was written is consistent, the rest is tried at the next call.
        """
        local = list(kernel_state.local_pods(snapshot, pods))
        renewed, left = self._renewed(snapshot, local)
        part = replace(snapshot, destinations=renewed)
        ids = self._names.allocate(kernel_state.needed_names(part, pods))
        self._nameless = NAMELESS in ids.values()
        desired = kernel_state.build(part, pods, ids, passing)
        tables, self._tables = self._tables or read_tables(self._maps), None  # until all is written, not to be trusted
        todo = plan(tables, desired, left)
        for _when, waiting in self._retired:  # before writing: what fails half way may name these already
            waiting.spare(tables)
        self._pods_changed = self._pods_changed or bool(todo.pods or todo.gone_pods)
        self._apply(todo)
        self._tables = tables
        self._written = snapshot, local
        self._retired.append((time.monotonic(), todo))
        old = sum(todo.old_sets.values()) + len(todo.old_verdicts)
        return SyncResult(_written(todo), _deleted(todo), old)

    def _renewed(
        self, snapshot: Snapshot, local: LocalPods
    ) -> tuple[Mapping[Target, Destination], set[Target] | None]:
        """Destinations to look at, and those that left; None = all are looked at.

        Rows need no look where the objects are the same, with the same verdicts for the same pods.  While a name has
        no room, everything is gone through: it may get some.
        """
        there = snapshot.destinations
        if self._tables is None or self._written is None or self._nameless:
            return there, None
        before, pods = self._written
        renewed, left = changed(before.destinations, there), gone(before.destinations, there)
        if local != pods:
            ruled = (target for target, row in self._tables.destinations.items() if row.policy)
            renewed |= {target: there[target] for target in ruled if target in there}
        return renewed, left

    def count(self, workload: Workload, outcome: abi.Outcome, count: int) -> None:
        """Add to what the agent itself counts of a workload's connections."""
        name = (kernel_state.NameKind.WORKLOAD, kernel_state.workload_text(workload))
        self._maps.add_outcome(self._names.allocate([name])[name], outcome, count)

    def _destinations_in_use(self) -> set[int]:
        """Ids of destinations in counters and in rows that a connect may be reading."""
        counted = {abi.ConnKey.from_buffer_copy(key).dest for key in self._maps.map(layout.CONNECTIONS).items()}
        rows = self._maps.map(layout.DESTINATIONS).items().values()
        return counted | {abi.Dest.from_buffer_copy(value).dest for value in rows}

    def _apply(self, todo: Plan) -> None:
        self._write_ahead(todo)
        write = self._maps.map
        for cookie in todo.gone_pods:
            write(layout.PODS).delete(_COOKIE.pack(cookie))
            write(layout.IN_FLIGHT).delete(_COOKIE.pack(cookie))
        for cookie, entry in todo.passing.items():
            write(layout.PODS).update(_COOKIE.pack(cookie), _pod(entry))
        for target, row in todo.destinations.items():
            write(layout.DESTINATIONS).update(_target(target), _destination(row))
        for target in todo.gone_destinations:
            write(layout.DESTINATIONS).delete(_target(target))
        for dest in todo.gone_rates:
            write(layout.CONNECT_RATES).delete(_ID.pack(dest))
        for cookie, entry in todo.pods.items():
            write(layout.PODS).update(_COOKIE.pack(cookie), _pod(entry))
        for own in todo.gone_own:
            write(layout.OWN_ADDRESSES).delete(_own_key(own))

    def _write_ahead(self, todo: Plan) -> None:
        """What destinations and pods will name."""
        write = self._maps.map
        for own in todo.new_own:
            write(layout.OWN_ADDRESSES).update(_own_key(own), b"\1")
        for number, endpoints in todo.new_sets.items():
            for index, endpoint in enumerate(endpoints):
                write(layout.ENDPOINTS).update(bytes(abi.EndpointKey(number, index)), _endpoint(endpoint))
        for (table, pod), verdict in todo.new_verdicts.items():
            write(layout.VERDICTS).update(bytes(abi.VerdictKey(table, pod)), _verdict(verdict))
        for dest, rate in todo.rates.items():
            _write_rate(write(layout.CONNECT_RATES), dest, rate)

    def collect(self, now: float) -> int:
        """Delete retired sets and verdicts whose grace is over: how many elements.  `now` is time.monotonic().

        What the kernel refuses to delete (BpfError) stays retired, and is tried again at the next call.
        """
        deleted = 0
        while self._retired and now - self._retired[0][0] >= GRACE_S:
            deleted += self._delete_old(self._retired[0][1])
            if self._pods_changed and len(self._retired) == 1 and self._tables is not None:
                self._names.drop_pods(entry.pod for entry in self._tables.pods.values())
                self._pods_changed = False
            del self._retired[0]
        return deleted

    def _delete_old(self, todo: Plan) -> int:
        endpoints, verdicts = self._maps.map(layout.ENDPOINTS), self._maps.map(layout.VERDICTS)
        for number, count in todo.old_sets.items():
            for index in range(count):
                endpoints.delete(bytes(abi.EndpointKey(number, index)))
        for table, pod in todo.old_verdicts:
            verdicts.delete(bytes(abi.VerdictKey(table, pod)))
        return sum(todo.old_sets.values()) + len(todo.old_verdicts)


def _deleted(todo: Plan) -> int:
    return len(todo.gone_pods) + len(todo.gone_own) + len(todo.gone_destinations) + len(todo.gone_rates)


def _written(todo: Plan) -> int:
    endpoints = sum(len(content) for content in todo.new_sets.values())
    rows = len(todo.destinations) + len(todo.rates) + len(todo.pods) + len(todo.passing)
    return len(todo.new_own) + endpoints + len(todo.new_verdicts) + rows


# ---- entries to bytes ----


def _own_key(own: tuple[int, str]) -> bytes:
    return bytes(abi.OwnKey(own[0], abi.make_addr(own[1])))


def _target(target: tuple[str, int]) -> bytes:
    return bytes(abi.DestKey(abi.make_addr(target[0]), abi.wire_port(target[1]), 0))


def _endpoint(endpoint: Endpoint) -> bytes:
    return bytes(abi.Ep(abi.make_addr(endpoint.address), abi.wire_port(endpoint.port), 0))


def _verdict(entry: VerdictEntry) -> bytes:
    noted = (abi.AUDIT if entry.audit else 0) | (abi.WOULD_DENY if entry.would else 0)
    verdict = (abi.DENY if entry.denied else abi.ALLOW) | noted
    return bytes(abi.Verdict(verdict, entry.rule, entry.audit, entry.would))


def _destination(row: DestinationRow) -> bytes:
    """A pod without a verdict is denied: its verdicts are written before it is, so there is none such."""
    return bytes(abi.Dest(row.dest, row.flags, row.ep_set, row.ep_count, row.policy, abi.DENY))


def _write_rate(table: Map, dest: int, rate: RateEntry) -> None:
    """Another rate goes on where the one before was: a changed policy does not fill the bucket."""
    before = table.lookup(_ID.pack(dest))
    tat = abi.Rate.from_buffer_copy(before).tat if before else 0
    flags = abi.RATE_DRY_RUN if rate.dry_run else 0
    table.update(_ID.pack(dest), bytes(abi.Rate(rate.period, rate.tolerance, tat, flags, rate.policy)))


def _pod(entry: PodEntry) -> bytes:
    ipv4 = abi.make_addr(entry.ipv4).w[3] if entry.ipv4 else 0
    ipv6 = abi.make_addr(entry.ipv6) if entry.ipv6 else abi.Addr()
    flags = (abi.POD_FAIL_CLOSED if entry.fail_closed else 0) | (abi.POD_PASS if entry.passes else 0)
    return bytes(abi.Pod(entry.pod, entry.workload, flags, ipv4, ipv6))


# ---- bytes to entries ----


def read_tables(maps: Maps) -> Tables:
    """What the maps hold, e.g. from an earlier run of the agent."""
    tables = Tables()
    for key, value in maps.map(layout.PODS).items().items():
        tables.pods[_COOKIE.unpack(key)[0]] = _read_pod(abi.Pod.from_buffer_copy(value))
    for key in maps.map(layout.OWN_ADDRESSES).items():
        own = abi.OwnKey.from_buffer_copy(key)
        tables.own_addresses.add((own.netns, abi.unpack_addr(bytes(own.addr))))
    for key, value in maps.map(layout.DESTINATIONS).items().items():
        k, d = abi.DestKey.from_buffer_copy(key), abi.Dest.from_buffer_copy(value)
        row = DestinationRow(d.dest, DestFlag(d.flags), d.ep_set, d.ep_count, d.policy)
        tables.destinations[abi.unpack_addr(bytes(k.addr)), abi.wire_port(k.port)] = row
    for key, value in maps.map(layout.CONNECT_RATES).items().items():
        rate = abi.Rate.from_buffer_copy(value)
        entry = RateEntry(rate.period, rate.tolerance, rate.policy, bool(rate.flags & abi.RATE_DRY_RUN))
        tables.rates[_ID.unpack(key)[0]] = entry
    _read_sets(maps, tables)
    _read_verdicts(maps, tables)
    numbers = [*tables.endpoint_sets, *tables.verdict_tables]
    numbers += [number for row in tables.destinations.values() for number in (row.ep_set, row.policy)]
    tables.next_id = max(numbers, default=0) + 1
    return tables


def _read_pod(pod: abi.Pod) -> PodEntry:
    ipv4 = abi.unpack_addr(abi.MAPPED_PREFIX + struct.pack("=I", pod.ipv4)) if pod.ipv4 else ""
    raw6 = bytes(pod.ipv6)
    ipv6 = abi.unpack_addr(raw6) if any(raw6) else ""
    closed, passes = bool(pod.flags & abi.POD_FAIL_CLOSED), bool(pod.flags & abi.POD_PASS)
    return PodEntry(pod.pod, pod.workload, closed, ipv4, ipv6, passes)


def _read_sets(maps: Maps, tables: Tables) -> None:
    members: dict[int, dict[int, Endpoint]] = {}
    for key, value in maps.map(layout.ENDPOINTS).items().items():
        k, e = abi.EndpointKey.from_buffer_copy(key), abi.Ep.from_buffer_copy(value)
        members.setdefault(k.ep_set, {})[k.index] = Endpoint(abi.unpack_addr(bytes(e.addr)), abi.wire_port(e.port))
    for number, found in members.items():
        # a set that was being written or deleted when its writer died has holes: then it can only be retired
        tables.endpoint_sets[number] = tuple(found.get(i, Endpoint("::", 0)) for i in range(max(found) + 1))


def _read_verdicts(maps: Maps, tables: Tables) -> None:
    for key, value in maps.map(layout.VERDICTS).items().items():
        k, v = abi.VerdictKey.from_buffer_copy(key), abi.Verdict.from_buffer_copy(value)
        entry = VerdictEntry(not v.verdict & abi.ALLOW, v.rule, v.audit, v.would)
        tables.verdict_tables.setdefault(k.policy, {})[k.pod] = entry
