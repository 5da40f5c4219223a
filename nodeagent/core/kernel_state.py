"""What the kernel's maps should hold for a configuration: entries as plain values, no map in sight.

    (Snapshot, pods of this node, ids) -> Desired

Endpoint sets and verdict tables appear here as contents; `kernel_plan` gives them ids.  Rules that
hold for every pod and destination are in bpf/judge.h; here is only what differs between them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nodeagent.core.addresses import family
from nodeagent.core.authorization import Authorization, has_network_part
from nodeagent.core.backends import guarded_groups
from nodeagent.core.ledger import tolerance
from nodeagent.core.model import Destination, Endpoint, FailMode, Rung, Snapshot, Workload
from nodeagent.core.rate_limits import tokens
from nodeagent.core.traffic import ConnectionRate, Mode
from nodeagent.core.verdicts import Verdict, Verdicts


class NameKind(enum.IntEnum):
    """Kinds of ids, as in bpf/abi.h."""

    WORKLOAD = 1
    DEST = 2
    POLICY = 3
    POD = 4


Name = tuple[NameKind, str]
Ids = Mapping[Name, int]


class DestFlag(enum.IntFlag):
    """NA_DEST_* of bpf/abi.h."""

    PROXY = 1
    ENFORCE = 2
    REFUSE = 4
    FRONTEND = 8
    RATE = 16
    NODE = 32


@dataclass(frozen=True, slots=True)
class LocalPod:
    """An enrolled pod as found on this node; `addresses` are canonical and include what its namespace really has."""

    cookie: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodEntry:
    pod: int
    workload: int
    fail_closed: bool
    ipv4: str  # "" = none
    ipv6: str
    passes: bool = False  # not enrolled: known, and left alone


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    denied: bool
    rule: int  # id of the policy that decided, 0 = none
    audit: int  # id of an AUDIT policy that matched, 0 = none
    would: int = 0  # id of a policy in DryRun that would have denied, 0 = none


@dataclass(frozen=True, slots=True)
class RateEntry:
    """A token bucket of connections, in ns."""

    period: int
    tolerance: int
    policy: int  # id
    dry_run: bool


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """`endpoints` None = not a frontend; `verdicts` None = no L4 policy, else pod id -> verdict.

    Destinations of one id share a `rate`, those that have one: a Service's addresses of both families.
    """

    dest: int
    flags: DestFlag
    endpoints: tuple[Endpoint, ...] | None
    verdicts: Mapping[int, VerdictEntry] | None
    rate: RateEntry | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    pods: Mapping[int, PodEntry]  # netns cookie -> entry
    own_addresses: frozenset[tuple[int, str]]  # (netns cookie, address)
    destinations: Mapping[tuple[str, int], DestinationEntry]


def workload_text(workload: Workload) -> str:
    return f"{workload.namespace}/{workload.workload}/{workload.service_account}"


def pod_text(workload: Workload, pod: LocalPod) -> str:
    """Names everything a verdict depends on: if any of it changes, the pod gets a new id and new verdicts."""
    return f"{workload.key}@{pod.cookie}#{workload.service_account}#{','.join(sorted(workload.addresses))}"


def local_pods(snapshot: Snapshot, pods: Mapping[str, LocalPod]) -> Iterator[tuple[Workload, LocalPod]]:
    """The pods that are both held on this node and enrolled by the configuration."""
    for key, pod in pods.items():
        workload = snapshot.workloads.get(key)
        if workload is not None and workload.enrolled:
            yield workload, pod


def needed_names(snapshot: Snapshot, pods: Mapping[str, LocalPod]) -> set[Name]:
    """Every name that `build` will ask an id for."""
    names: set[Name] = set()
    for workload, pod in local_pods(snapshot, pods):
        names |= {(NameKind.WORKLOAD, workload_text(workload)), (NameKind.POD, pod_text(workload, pod))}
    for destination in snapshot.destinations.values():
        names.add((NameKind.DEST, destination.name))
        names |= {(NameKind.POLICY, policy.name) for policy in destination.policies}
        if destination.connection_rate is not None:
            names.add((NameKind.POLICY, destination.connection_rate.policy))
    return names


Passing = Mapping[int, tuple[str, ...]]
"""Namespaces that are known and left alone, by cookie: their addresses."""


def build(snapshot: Snapshot, pods: Mapping[str, LocalPod], ids: Ids, passing: Passing | None = None) -> Desired:
    """KeyError if `ids` lacks one of `needed_names`."""
    local = list(local_pods(snapshot, pods))
    verdicts = _VerdictTables([(workload, ids[NameKind.POD, pod_text(workload, pod)]) for workload, pod in local], ids)
    return Desired(
        pods={
            **{cookie: _passing_entry(addresses) for cookie, addresses in (passing or {}).items()},
            **{pod.cookie: _pod_entry(workload, pod, ids) for workload, pod in local},
        },
        own_addresses=frozenset(_own_addresses(local)),
        destinations={
            target: _destination_entry(destination, verdicts, ids)
            for target, destination in snapshot.destinations.items()
        },
    )


def _pod_entry(workload: Workload, pod: LocalPod, ids: Ids) -> PodEntry:
    return PodEntry(
        pod=ids[NameKind.POD, pod_text(workload, pod)],
        workload=ids[NameKind.WORKLOAD, workload_text(workload)],
        fail_closed=workload.fail_mode is FailMode.CLOSED,
        ipv4=_first((*workload.addresses, *pod.addresses), 4),
        ipv6=_first((*workload.addresses, *pod.addresses), 6),
    )


def _passing_entry(addresses: tuple[str, ...]) -> PodEntry:
    return PodEntry(0, 0, fail_closed=False, ipv4=_first(addresses, 4), ipv6=_first(addresses, 6), passes=True)


def _first(addresses: tuple[str, ...], wanted: int) -> str:
    """The address an application expects to see as its own: the configured one, else the first real one."""
    candidates = (address for address in addresses if not address.lower().startswith(("fe80:", "127.", "::1")))
    return next((address for address in candidates if family(address) == wanted), "")


def _own_addresses(local: Iterable[tuple[Workload, LocalPod]]) -> Iterator[tuple[int, str]]:
    for workload, pod in local:
        for address in (*workload.addresses, *pod.addresses):
            yield pod.cookie, address


def _destination_entry(destination: Destination, verdicts: _VerdictTables, ids: Ids) -> DestinationEntry:
    dest = ids[NameKind.DEST, destination.name]
    # Without a name there is no id of its own, under which a bucket could be.
    rate = destination.connection_rate if dest else None
    flags = destination_flags(destination)
    return DestinationEntry(
        dest=dest,
        flags=flags if rate is None else flags | DestFlag.RATE,
        endpoints=_reachable(destination) if _chooses(destination) else None,
        verdicts=None if destination.is_plain else verdicts.of(destination),
        rate=_rate_entry(rate, ids) if rate is not None else None,
    )


def _rate_entry(rate: ConnectionRate, ids: Ids) -> RateEntry:
    bucket = tokens(0, rate.limit)
    return RateEntry(
        period=bucket.period,
        tolerance=tolerance(bucket.period, bucket.burst),
        policy=ids[NameKind.POLICY, rate.policy],
        dry_run=rate.mode is Mode.DRY_RUN,
    )


_NO_FLAG = DestFlag(0)


def destination_flags(destination: Destination) -> DestFlag:
    if destination.is_plain:
        return _place_flags(destination)
    flags = _place_flags(destination)
    if destination.refuse:
        flags |= DestFlag.REFUSE
    if destination.rung is Rung.PROXY:
        flags |= DestFlag.PROXY
        if destination.enforces_http_policy or guarded_groups(destination):
            flags |= DestFlag.ENFORCE
    return flags


def _place_flags(destination: Destination) -> DestFlag:
    if _chooses(destination):
        return DestFlag.FRONTEND
    return DestFlag.NODE if destination.is_node else _NO_FLAG


def _chooses(destination: Destination) -> bool:
    """connect() picks the endpoint; else it lets pass what no rule denies, and kube-proxy picks."""
    return destination.is_frontend and not destination.leave_choice


def _reachable(destination: Destination) -> tuple[Endpoint, ...]:
    """Endpoints of the frontend's own family: a socket cannot change its family at connect()."""
    wanted = family(destination.address)
    return tuple([endpoint for endpoint in destination.endpoints if family(endpoint.address) == wanted])


class _VerdictTables:
    """Verdict tables of the pods of this node, which come with their ids; destinations that are alike share one."""

    def __init__(self, pods: Iterable[tuple[Workload, int]], ids: Ids) -> None:
        self._pods = list(pods)
        self._ids = ids
        self._verdicts = Verdicts()
        self._made: dict[Verdict, Mapping[int, VerdictEntry]] = {}

    def of(self, destination: Destination) -> Mapping[int, VerdictEntry] | None:
        if destination.refuse or not has_network_part(destination):
            return None
        verdict = self._verdicts.at(destination)
        if verdict not in self._made:
            self._made[verdict] = {pod: _entry(verdict.of(workload), self._ids) for workload, pod in self._pods}
        return self._made[verdict]


def _entry(outcome: Authorization, ids: Ids) -> VerdictEntry:
    return VerdictEntry(
        denied=outcome.denied,
        rule=ids[NameKind.POLICY, outcome.policy] if outcome.policy else 0,
        audit=ids[NameKind.POLICY, outcome.audits[0]] if outcome.audits else 0,
        would=ids[NameKind.POLICY, outcome.would[0][1]] if outcome.would else 0,
    )
