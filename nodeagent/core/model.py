"""The vocabulary of every decision: what a compiled configuration says, as frozen values.

Five nouns: a *Workload* is a pod we know; a *Destination* is an (address, port) that a pod may
dial and what applies there; a *Rule* is one compiled match of an HTTPRoute; a *Policy* is one
compiled AuthorizationPolicy; a *Snapshot* holds all of them and is never changed, only replaced.

Nothing here does I/O, and nothing here knows Kubernetes objects: `nodeagent.config` turns those
into these.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from nodeagent.core.addresses import unspecified
from nodeagent.core.cors import Cors
from nodeagent.core.filters import NO_FILTERS, Changes, Filters
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import ConnectionRate, PodLimits, RateLimitPolicy, Retry, SessionPersistence, TrafficPolicy

NODES = "nodes:*"
"""The name of a node's address, the same for all: a port there that is no node port counts as unknown."""

Would = tuple[tuple[str, str], ...]
"""What policies in DryRun would have done: (word, policy).  One word each of `nodeagent.core.dry_run`."""


class Protocol(enum.Enum):
    """What a Service port carries: appProtocol, else the port's name, else OPAQUE."""

    HTTP1 = "http/1.1"
    HTTP2 = "h2c"  # h2c and gRPC: relayed as bytes until a later release
    TLS = "tls"
    OPAQUE = "tcp"


class Rung(enum.Enum):
    """How much of the mesh a connection to a destination pays for (see ARCHITECTURE.md)."""

    DIRECT = "direct"
    PROXY = "proxy"


class FailMode(enum.Enum):
    """What a connect does that needs a worker when none lives."""

    OPEN = "Open"
    CLOSED = "Closed"


class Action(enum.Enum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"


class EnforcementLevel(enum.Enum):
    NETWORK = "Network"
    APPLICATION = "Application"


class PathKind(enum.Enum):
    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod.

    One of this node has `netns`, the path that its manifest names, or `uid`, by which its namespace is looked for.
    """

    namespace: str
    name: str
    service_account: str
    workload: str  # the controller's name (Deployment, ...): what metrics call it
    addresses: tuple[str, ...]
    netns: str | None = None
    enrolled: bool = False
    fail_mode: FailMode = FailMode.OPEN
    cut_unpoliced: bool = False  # end connections older than the enrolment
    node_id: str = ""
    limits: PodLimits | None = None  # its namespace's, instead of the agent's defaults
    shadow_limits: PodLimits | None = None  # of a policy in DryRun
    uid: str = ""  # of a pod of this node
    host_network: bool = False

    @property
    def is_here(self) -> bool:
        """It lives on this node."""
        return bool(self.netns or self.uid)

    @property
    def is_judged_elsewhere(self) -> bool:
        """It is to be enrolled, by the agent of another node."""
        return self.enrolled and not self.is_here

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Endpoint(NamedTuple):
    """A tuple and not a dataclass: requests look it up in tables, and a tuple's hash is not made in Python."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """One backendRef.  `error` names why it cannot serve (BackendNotFound, InvalidKind): its share gets 500.

    `policies`, `ports` and `refuse` are what a Destination's are, for the endpoints here: connect() judged the
    frontend that was dialled, so whoever sends a request here judges it by these too.
    """

    name: str  # "namespace/service:port"
    weight: int
    endpoints: tuple[Endpoint, ...] = ()
    error: str = ""
    policies: tuple[Policy, ...] = ()
    ports: tuple[int, ...] = ()
    refuse: str = ""
    filters: Filters = NO_FILTERS  # after the rule's own; no redirect
    traffic: TrafficPolicy | None = None  # for requests that this rule sends here
    shadow: TrafficPolicy | None = None  # the same of those in DryRun
    rate_limits: tuple[RateLimitPolicy, ...] = ()  # of the Service
    reason: str = ""  # x-mesh-reason for `error`, where it is another one than of a backend that is not there
    mirrors: tuple[Mirror, ...] = ()  # of what is sent here
    cors: Cors | None = None  # where the rule has none
    nearby: str = ""  # as a Destination's
    affinity: bool = False  # as a Destination's, of the backend's own Service

    @property
    def port_numbers(self) -> tuple[int, ...]:
        return self.ports


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of `numerator` of `denominator` requests goes to one endpoint of `backend`; its answer is nobody's."""

    backend: Backend
    numerator: int = 100
    denominator: int = 100


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or query parameter match; `name` is lower case for headers."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a rule cannot be applied as it is written: every request that it takes is answered 500 with `reason`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One match of one HTTPRoute rule with its backends, in the position precedence gave it."""

    route: str  # "namespace/name" of the HTTPRoute
    rule: str  # the rule's name, else its index
    path_kind: PathKind
    path: str
    method: str  # "" = any
    headers: tuple[ValueMatch, ...]
    query: tuple[ValueMatch, ...]
    backends: tuple[Backend, ...]
    filters: Filters = NO_FILTERS
    timeouts: RouteTimeouts | None = None
    rate_limits: tuple[RateLimitPolicy, ...] = ()  # of the route, and of this rule
    fault: Fault | None = None
    retry: Retry | None = None  # in place of what a TrafficPolicy says, but for the budget
    session: SessionPersistence | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None

    @property
    def all_filters(self) -> tuple[Filters, ...]:
        return (self.filters, *(backend.filters for backend in self.backends))

    @property
    def reached(self) -> tuple[Backend, ...]:
        """Every backend that a request, or a copy of it, may be sent to."""
        mirrors = (*self.mirrors, *(mirror for backend in self.backends for mirror in backend.mirrors))
        return (*self.backends, *(mirror.backend for mirror in mirrors))

    @property
    def answers(self) -> bool:
        """Its requests go to no backend."""
        return self.fault is not None or self.filters.redirect is not None


@dataclass(frozen=True, slots=True)
class Source:
    """Callers an authorization rule names.  Every non-empty list must match (AND); a list matches by any item (OR)."""

    service_accounts: tuple[str, ...] = ()  # "namespace/name"; "namespace/*" allowed
    namespaces: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpOperation:
    """L7 part of an authorization rule; empty lists match anything."""

    methods: tuple[str, ...] = ()
    paths: tuple[tuple[PathKind, str], ...] = ()
    hosts: tuple[str, ...] = ()  # exact or "*.suffix", lower case, without port
    headers: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyRule:
    sources: tuple[Source, ...]  # empty = any caller
    ports: tuple[int, ...]  # empty = any port; the *target* port number a Service port leads to, or the Service port
    http: tuple[HttpOperation, ...]  # empty = any request


@dataclass(frozen=True, slots=True)
class Policy:
    """One AuthorizationPolicy as it applies to a destination.

    ALLOW with no rule allows nothing; DENY with no rule denies nothing; a rule without fields matches everything.
    """

    name: str  # "namespace/name"
    action: Action
    level: EnforcementLevel
    rules: tuple[PolicyRule, ...]
    dry_run: bool = False  # what it would deny is found and counted, and denied it is not; never of an AUDIT

    @property
    def needs_http(self) -> bool:
        return self.level is EnforcementLevel.APPLICATION

    @property
    def reads_paths(self) -> bool:
        return any(op.paths for rule in self.rules for op in rule.http)


@dataclass(frozen=True, slots=True)
class Destination:
    """Everything that applies when a pod dials (address, port).

    A frontend (a Service's cluster IP and port) has `endpoints` and may have routes; an endpoint
    (a pod's IP and target port, or port 0 = any other port of that pod) has policies only.  So has a *door*, another
    address of a Service from which kube-proxy leads on: an external IP, a load balancer's, or a node's with a node
    port.  What applies at a node port is kept once, at the unspecified address, for all addresses that are `is_node`.
    """

    name: str  # "namespace/service:port" or "address:port": the metrics' destination_service
    address: str
    port: int
    protocol: Protocol
    is_frontend: bool
    services: tuple[str, ...] = ()  # "namespace/name" of the Services behind it, sorted
    endpoints: tuple[Endpoint, ...] = ()
    producer_rules: tuple[Rule, ...] = ()  # sorted by precedence, first match wins
    # caller namespace -> rules that replace the producer's
    consumer_rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    has_producer_route: bool = False  # a route with no usable rule still turns "no match" into 404
    policies: tuple[Policy, ...] = ()
    ports: tuple[int, ...] = ()  # every number a policy may call this by: Service and target ports; () = just `port`
    refuse: str = ""  # not empty: a rule here cannot be enforced; deny at connect, and this is why
    traffic: TrafficPolicy | None = None  # of a frontend, for requests that no route takes
    shadow: TrafficPolicy | None = None  # the same of those in DryRun
    rate_limits: tuple[RateLimitPolicy, ...] = ()  # of a frontend's Service, for every request
    connection_rate: ConnectionRate | None = None  # of a frontend, for every connect()
    nearby: str = ""  # "zone eu-1a", "node n1": what all `endpoints` have in common, where others are farther away
    is_node: bool = False  # with port 0: node ports are found here
    affinity: bool = False  # of a frontend: a caller's requests stay with one endpoint (sessionAffinity ClientIP)
    leave_choice: bool = False  # of a frontend: kube-proxy chooses the endpoint of what goes direct

    @property
    def is_door(self) -> bool:
        return not self.is_frontend and "/" in self.name

    @property
    def is_plain(self) -> bool:
        """Nothing is to be decided about a caller or a request here: most destinations of a big configuration."""
        return not (self.policies or self.refuse or self.has_routes or self.is_managed)

    @property
    def is_managed(self) -> bool:
        """A TrafficPolicy or RateLimitPolicy applies to requests here, with or without a route."""
        return self.traffic is not None or self.shadow is not None or bool(self.rate_limits)

    @property
    def has_routes(self) -> bool:
        return self.has_producer_route or bool(self.consumer_rules)

    @property
    def port_numbers(self) -> tuple[int, ...]:
        return self.ports or (self.port,)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Of every caller, in no order that matters."""
        return (*self.producer_rules, *(rule for group in self.consumer_rules.values() for rule in group))

    @property
    def all_policies(self) -> tuple[Policy, ...]:
        """Its own and its backends', each at least once: what a request dialled here may be judged by."""
        pools = {id(one.policies): one.policies for rule in self.rules for one in rule.reached if one.policies}
        return (*self.policies, *(policy for pool in pools.values() for policy in pool))

    def rule_group(self, namespace: str) -> str:
        """Which rules are for callers of `namespace`: a key of `consumer_rules`, or "" = the producer's."""
        return namespace if namespace in self.consumer_rules else ""

    @property
    def has_http_policy(self) -> bool:
        """A policy of its own needs HTTP, in DryRun or not."""
        return bool(self.policies) and any(policy.needs_http for policy in self.policies)

    @property
    def enforces_http_policy(self) -> bool:
        """The same of those in force; of those behind its routes `core.backends.guarded_groups` tells."""
        return bool(self.policies) and any(policy.needs_http and not policy.dry_run for policy in self.policies)

    @property
    def rung(self) -> Rung:
        http = self.protocol is Protocol.HTTP1
        ruled = self.has_routes or self.has_http_policy or self.is_managed
        return Rung.PROXY if http and ruled else Rung.DIRECT

    @property
    def is_met_by_workers(self) -> bool:
        """True when connections here are redirected, or when a live one may still meet a rule here.

        Plain endpoints without a policy are most of a big configuration, and a worker treats one like an unknown
        address.  One with a policy is kept even where connect() judges it: a connection made under a former L7
        rule is still here, and its next request must meet the rule of now.
        """
        return self.is_frontend or self.is_node or self.rung is Rung.PROXY or bool(self.policies or self.refuse)

    @property
    def judges_paths(self) -> bool:
        """True when a route or policy here looks at the path: then only its normal form is judged and forwarded.

        A path that a filter changes counts too: a dot segment must not lead out of what it is replaced with.
        A policy in DryRun reads the normal form for itself, since what it changes must not be seen.
        """
        rules = self.rules
        if any(not (rule.path_kind is PathKind.PREFIX and rule.path == "/") for rule in rules):
            return True
        if any(filters.change_paths for rule in rules for filters in rule.all_filters):
            return True
        return any(policy.reads_paths and not policy.dry_run for policy in self.all_policies)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable configuration.  `destinations` is keyed (address, port); addresses are canonical text."""

    generation: int
    destinations: Mapping[tuple[str, int], Destination]
    workloads: Mapping[str, Workload]  # "namespace/name" -> Workload

    def destination(self, address: str, port: int) -> Destination | None:
        """What applies when (address, port) is dialled; na_find_dest of bpf/judge.h finds the same."""
        found = self.destinations.get((address, port))
        if found is not None:
            return found
        other = self.destinations.get((address, 0))
        if other is None or not other.is_node:
            return other
        door = self.destinations.get((unspecified(address), port))
        if door is not None:
            return replace(door, address=address)
        return None if other.is_plain else other


@dataclass(slots=True)  # never changed, but not frozen: that triples the cost of what every request makes
class RequestHead:
    """A parsed request head, as far as decisions look at it.

    `path` is what rules judge: the normal form when the destination judges paths, else the path as
    received.  `headers` keeps order; names are lower-case, a character of a value is one byte as it was
    received (latin-1; `matching.field_text` reads it).  `host` is lower case, without port.
    """

    method: str
    path: str
    query: str  # without "?"
    host: str
    headers: Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What policies ask of the requests that go one way, beyond forwarding them.

    `endpoints` are all those of `backend`, to choose from by `traffic`; none when the answer comes from here.
    `shadow` is simulated and counted beside `traffic`, whether that is there or not.
    `retry` is the rule's own, and counts in place of `traffic.retry`; it has the budget of that one.
    """

    backend: str
    endpoints: tuple[Endpoint, ...] = ()
    traffic: TrafficPolicy | None = None
    rate_limits: tuple[RateLimitPolicy, ...] = ()
    shadow: TrafficPolicy | None = None
    retry: Retry | None = None
    session: SessionPersistence | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one request.  `status` 0 = forward to `endpoint` of `backend`; else answer that status.

    `location` is where a redirect leads, `changes` what filters make of the request and its response, `timeouts`
    how long it may take, `treatment` what has to be asked before and while it is forwarded, `fields` what an answer of
    ours says beside its reason, `mirrors` who may get a copy.
    `reason` is one word for x-mesh-reason and the counters, `detail` one line for the client and for
    `explain`, `flag` the Envoy response flag ("UH", "NR", ...).  `audits` names AUDIT policies that matched, `would`
    what policies in DryRun would have done to the request before anything else became of it.
    """

    status: int = 0
    reason: str = ""
    detail: str = ""
    flag: str = ""
    route: str = ""
    rule: str = ""
    policy: str = ""
    backend: str = ""
    endpoint: Endpoint | None = None
    audits: tuple[str, ...] = ()
    location: str = ""
    changes: Changes | None = None
    timeouts: RouteTimeouts | None = None
    treatment: Treatment | None = None
    fields: tuple[tuple[str, str], ...] = ()  # header fields of an answer of ours
    mirrors: tuple[Mirror, ...] = ()
    would: Would = ()

    @property
    def is_refusal(self) -> bool:
        """It is answered here, and not with what was asked for: a redirect or a preflight's answer is none."""
        return self.status >= 400
