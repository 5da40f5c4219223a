"""The objects that compile reads: typed, defaulted, and made from manifests that passed their schema."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nodeagent.config.problems import FieldPath
from nodeagent.core.cors import Cors
from nodeagent.core.filters import NO_FILTERS, Filters
from nodeagent.core.model import PathKind, Policy, Protocol, ValueMatch
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import (
    ConnectionRate,
    Mode,
    PodLimits,
    RateLimitPolicy,
    Retry,
    SessionPersistence,
    TrafficPolicy,
)


class Identity(NamedTuple):
    """What makes an object that object; `namespace` is "" for cluster-scoped kinds.  A tuple: it is hashed often."""

    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """ "namespace/name", or the bare name."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


@dataclass(frozen=True, slots=True)
class Namespaced:
    namespace: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NamespaceObject:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeObject:
    name: str
    zone: str = ""  # label topology.kubernetes.io/zone
    ready: bool = True  # condition Ready, where there is one
    uid: str = ""
    addresses: tuple[str, ...] = ()  # canonical: InternalIP and ExternalIP
    gateways: tuple[str, ...] = ()  # the first address of each podCIDR: most CNI plugins keep it for the node


@dataclass(frozen=True, slots=True)
class PodObject:
    namespace: str
    name: str
    service_account: str
    workload: str
    addresses: tuple[str, ...]  # canonical; () once the pod has ended
    dataplane: str  # the enrolment label's value, or ""
    netns: str
    node: str
    host_network: bool
    uid: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    port: int
    protocol: Protocol
    node_port: int = 0  # 0 = none


class TrafficDistribution(enum.Enum):
    """Of a Service (KEP-4444, KEP-3015); PreferClose is the older name of PreferSameZone."""

    NONE = ""
    SAME_ZONE = "PreferSameZone"
    SAME_NODE = "PreferSameNode"


@dataclass(frozen=True, slots=True)
class ServiceObject(Namespaced):
    """`addresses` are cluster IPs, canonical; () = headless or ExternalName.  `ports` are the TCP ones.

    `doors` are its other addresses, canonical: external IPs and load balancers'.  From there kube-proxy leads on.
    """

    addresses: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    headless: bool = False
    distribution: TrafficDistribution = TrafficDistribution.NONE
    doors: tuple[str, ...] = ()
    only_local: bool = False  # internalTrafficPolicy Local
    affinity: bool = False  # sessionAffinity ClientIP


class Readiness(enum.IntEnum):
    """Of an endpoint: whether new connections of its Service may go there.  More is better."""

    NOT_READY = 0  # policy protects it all the same: it may well answer who dials its own address
    LEAVING = 1  # terminating, but serving still: used while no endpoint is ready, as kube-proxy does
    READY = 2


class Placement(NamedTuple):
    """Where an endpoint is, and for whom: `hints` of its EndpointSlice.  A tuple: of two, one is the greater."""

    zone: str = ""
    node: str = ""
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()


NOWHERE = Placement()


@dataclass(frozen=True, slots=True)
class SliceObject:
    """Endpoints of one Service: `addresses` x `ports` (name -> number), TCP only; `places` of those that have one."""

    namespace: str
    name: str
    service: str  # "" = no Service named
    addresses: Mapping[str, Readiness]
    ports: Mapping[str, int]
    places: Mapping[str, Placement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParentRef:
    index: int  # position in spec.parentRefs
    namespace: str
    name: str
    port: int = 0  # 0 = all
    section: str = ""  # port name; "" = all


INVALID_KIND, UNSUPPORTED_VALUE = "InvalidKind", "UnsupportedValue"


@dataclass(frozen=True, slots=True)
class RuleFault:
    """Why a rule, or one backendRef of it, cannot be applied as written.  `field` is below the rule."""

    condition: str  # the reason of the route's condition: InvalidKind (a reference) or UnsupportedValue
    reason: str  # x-mesh-reason of the 500 that requests get
    field: FieldPath
    message: str


@dataclass(frozen=True, slots=True)
class BackendRef:
    group: str
    kind: str
    namespace: str
    name: str
    port: int
    weight: int
    filters: Filters = NO_FILTERS
    fault: RuleFault | None = None
    mirrors: tuple[MirrorRef, ...] = ()
    cors: Cors | None = None


@dataclass(frozen=True, slots=True)
class MirrorRef:
    """Copies of `numerator` of `denominator` requests go to `backend`; `field` is where in the rule that is said."""

    backend: BackendRef
    field: FieldPath
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class RouteMatch:
    path_kind: PathKind
    path: str  # normal form, no trailing slash for prefixes
    method: str
    headers: tuple[ValueMatch, ...]
    query: tuple[ValueMatch, ...]
    vague: bool = False  # a part of it cannot be judged, and was left out


@dataclass(frozen=True, slots=True)
class RouteRule:
    name: str
    matches: tuple[RouteMatch, ...]
    backends: tuple[BackendRef, ...]
    filters: Filters = NO_FILTERS
    timeouts: RouteTimeouts | None = None
    section: str = ""  # the name that it was given: what a policy may target
    fault: RuleFault | None = None
    retry: Retry | None = None
    session: SessionPersistence | None = None
    mirrors: tuple[MirrorRef, ...] = ()
    cors: Cors | None = None


@dataclass(frozen=True, slots=True)
class RouteObject(Namespaced):
    """An HTTPRoute.  `parents` holds Services only; other parents are for other controllers."""

    created: str
    hostnames: tuple[str, ...]
    parents: tuple[ParentRef, ...]
    rules: tuple[RouteRule, ...]


@dataclass(frozen=True, slots=True)
class TargetRef:
    kind: str  # Service | HTTPRoute | Namespace
    name: str
    section: str = ""  # a port's name, a rule's name; "" = the whole


@dataclass(frozen=True, slots=True)
class PolicyObject(Namespaced):
    targets: tuple[TargetRef, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class TargetingPolicy(Namespaced):
    """Policies that may be rivals for a target: the older one counts."""

    created: str
    targets: tuple[TargetRef, ...]


@dataclass(frozen=True, slots=True)
class TrafficObject(TargetingPolicy):
    """A TrafficPolicy: `limits` for a namespace's pods, or `policy` for the requests to its targets."""

    policy: TrafficPolicy
    limits: PodLimits | None = None


@dataclass(frozen=True, slots=True)
class RateLimitObject(TargetingPolicy):
    """A RateLimitPolicy: at least one of `http` and `connections`."""

    mode: Mode
    http: RateLimitPolicy | None = None
    connections: ConnectionRate | None = None


Resource = (
    NamespaceObject
    | NodeObject
    | PodObject
    | ServiceObject
    | SliceObject
    | RouteObject
    | PolicyObject
    | TrafficObject
    | RateLimitObject
)
