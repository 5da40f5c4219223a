"""HTTPRoutes joined to Service ports: who they apply to, in which order, and what is wrong with them.

A route in the Service's own namespace is a producer route (every caller); one in another namespace
is a consumer route: for callers of that namespace it replaces the producer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from nodeagent.config.conditions import (
    ACCEPTED,
    FALSE,
    PARTIALLY_INVALID,
    PROGRAMMED,
    RESOLVED_REFS,
    TRUE,
    UNKNOWN,
    Condition,
)
from nodeagent.config.objects import ObjectSet
from nodeagent.config.ownership import Ownership
from nodeagent.config.patterns import PatternRoom
from nodeagent.config.policies import PolicyIndex
from nodeagent.config.problems import FieldPath, field_text
from nodeagent.config.reading import is_service
from nodeagent.config.resources import (
    INVALID_KIND,
    UNSUPPORTED_VALUE,
    BackendRef,
    MirrorRef,
    ParentRef,
    RouteObject,
    RouteRule,
    RuleFault,
    ServiceObject,
    ServicePort,
)
from nodeagent.config.services import ServicePortKey, Topology
from nodeagent.config.shadowed import Place, Shadows
from nodeagent.config.traffic import TrafficIndex
from nodeagent.core.matching import Precedence, precedence
from nodeagent.core.model import Backend, Fault, Mirror, Protocol, Rule

KIND = "HTTPRoute"
PRODUCER = ""  # the group of producer rules; consumer groups are called like their namespace
Position = tuple[bool, Precedence]  # what takes more than it was meant to, because a part is unknown, comes last
_ANSWERED = "requests that the rule takes are answered 500"
_BACKEND_PROTOCOLS = (Protocol.HTTP1, Protocol.OPAQUE)  # an undeclared port of a backend is taken for HTTP/1

# By route and family: the rules, and the Services that were looked at for them.
Built = dict[tuple[str, int], tuple[list[tuple[Position, Rule]], frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a later index need not make anew."""

    built: Built
    shadows: Shadows


@dataclass(slots=True)
class Attached:
    """Routes on one Service port: group -> routes."""

    groups: dict[str, list[RouteObject]] = field(default_factory=dict)


class RouteIndex:
    """Routes by Service port.  Rules are built once per route and address family.

    `kept` is what of an index before is `still_good`.
    """

    def __init__(
        self,
        objects: ObjectSet,
        topology: Topology,
        ownership: Ownership,
        policies: PolicyIndex,
        traffic: TrafficIndex,
        generation: int,
        kept: Kept | None = None,
    ) -> None:
        self._routes = objects.routes
        self._topology = topology
        self._ownership = ownership
        self._policies = policies
        self._traffic = traffic
        self._generation = generation
        self._attached: dict[ServicePortKey, Attached] = {}
        self._built: Built = kept.built if kept else {}
        self._looked_at: set[str] = set()
        self._patterns = PatternRoom()
        self._shadows = Shadows(kept.shadows if kept else None)
        self._accepted: list[tuple[RouteObject, ParentRef, ServiceObject, list[Place]]] = []
        self.conditions: list[Condition] = []
        for route in sorted(objects.routes.values(), key=lambda one: (one.created or "~", one.key)):
            for parent in route.parents:
                self._attach(route, parent)
        for accepted in self._accepted:
            self._say_all(*accepted)

    def still_good(self, routes: Mapping[str, RouteObject], affected: AbstractSet[str]) -> Kept:
        """Of the same traffic policies: where the route did not change, and looks at no Service that is `affected`."""
        built = {
            key: built
            for key, built in self._built.items()
            if routes.get(key[0]) is self._routes[key[0]] and built[1].isdisjoint(affected)
        }
        return Kept(built, self._shadows)

    def groups(self, service: str, port: int, family: int) -> dict[str, tuple[Rule, ...]]:
        """Group -> rules in order of precedence, for callers of one address family."""
        attached = self._attached.get((service, port))
        if attached is None:
            return {}
        return {group: self._sorted(routes, family) for group, routes in attached.groups.items()}

    def _sorted(self, routes: list[RouteObject], family: int) -> tuple[Rule, ...]:
        pairs = [pair for route in routes for pair in self._rules(route, family)]
        return tuple(rule for _, rule in sorted(pairs, key=lambda pair: pair[0]))

    def _rules(self, route: RouteObject, family: int) -> list[tuple[Position, Rule]]:
        key = (route.key, family)
        if key not in self._built:
            self._looked_at = set()
            rules = [
                ((one.matches[number].vague, precedence(rule, route.created, index, number)), rule)
                for index, one in enumerate(route.rules)
                for number, rule in enumerate(self._rule(route, one, family))
            ]
            self._built[key] = rules, frozenset(self._looked_at)
        return self._built[key][0]

    def _rule(self, route: RouteObject, rule: RouteRule, family: int) -> list[Rule]:
        backends = tuple(self._backend(route.key, rule, ref, family) for ref in rule.backends)
        limits = self._traffic.limits_of_rule(route.key, rule)
        fault = Fault(rule.fault.reason, _told(rule.fault)) if rule.fault else None
        return [
            Rule(
                route.key,
                rule.name,
                match.path_kind,
                match.path,
                match.method,
                match.headers,
                match.query,
                backends,
                rule.filters,
                rule.timeouts,
                rate_limits=limits,
                fault=fault,
                retry=rule.retry,
                session=rule.session,
                mirrors=self._mirrors(route.key, rule, rule.mirrors, family),
                cors=rule.cors,
            )
            for match in rule.matches
        ]

    def _backend(self, route: str, rule: RouteRule, ref: BackendRef, family: int) -> Backend:
        service = f"{ref.namespace}/{ref.name}"
        name = f"{service}:{ref.port}"
        reason, message = self.backend_fault(ref)
        port = self._topology.port(service, ref.port)
        if reason or port is None:
            word = ref.fault.reason if ref.fault else ""
            return Backend(name, ref.weight, (), f"{reason}: {message}", reason=word)
        choice = self._traffic.of_route(route, rule, service, port)
        reached = self._topology.reachable_family(service, ref.port, family)
        owners = self._ownership.of_service_port(service, ref.port, reached)
        near = self._topology.chosen(service, ref.port, reached)
        return Backend(
            name,
            ref.weight,
            near.endpoints,
            policies=self._policies.applied(owners.services, owners.namespaces),
            ports=owners.ports,
            refuse=self._policies.refusal(owners.services, owners.namespaces),
            filters=ref.filters,
            traffic=choice.traffic,
            shadow=choice.shadow,
            rate_limits=self._traffic.of_port(service, port).rate_limits,
            mirrors=self._mirrors(route, rule, ref.mirrors, family),
            cors=ref.cors,
            nearby=near.where,
        )

    def _mirrors(self, route: str, rule: RouteRule, mirrors: tuple[MirrorRef, ...], family: int) -> tuple[Mirror, ...]:
        """Those whose backend can be sent a copy; requests go on without the others."""
        return tuple(
            Mirror(self._backend(route, rule, mirror.backend, family), mirror.numerator, mirror.denominator)
            for mirror in mirrors
            if not self.backend_fault(mirror.backend)[0]
        )

    def backend_fault(self, ref: BackendRef) -> tuple[str, str]:
        """(reason, message) of a reference that cannot serve; its share is answered 500."""
        if ref.fault is not None:
            return ref.fault.condition, _told(ref.fault)
        if not is_service(ref.group, ref.kind):
            return "InvalidKind", f"{ref.kind} of group {ref.group!r} cannot be a backend, only a Service can"
        service = f"{ref.namespace}/{ref.name}"
        self._looked_at.add(service)
        if service not in self._topology.services:
            return "BackendNotFound", f"Service {service} does not exist"
        port = self._topology.port(service, ref.port)
        if port is None:
            return "BackendNotFound", f"Service {service} has no TCP port {ref.port}"
        if port.protocol not in _BACKEND_PROTOCOLS:
            return "UnsupportedProtocol", f"port {ref.port} of Service {service} is {port.protocol.value}, not HTTP/1"
        return "", ""

    def _attach(self, route: RouteObject, parent: ParentRef) -> None:
        service = self._topology.services.get(f"{parent.namespace}/{parent.name}")
        reason, message, at = _parent_fault(parent, service)
        if reason or service is None:
            self._say(route, parent, ACCEPTED, FALSE, reason, message, at)
            return
        group = PRODUCER if route.namespace == service.namespace else route.namespace
        ports = [port.port for port in _ports(parent, service) if port.protocol is Protocol.HTTP1]
        places = [(service.key, port, group) for port in ports]
        refusal = self._patterns.admit(route, places)
        if refusal:
            self._say(route, parent, ACCEPTED, FALSE, "UnsupportedValue", refusal, "spec.rules")
            return
        for port in ports:
            attached = self._attached.setdefault((service.key, port), Attached())
            routes = attached.groups.setdefault(group, [])
            if route not in routes:  # two parentRefs may lead to the same port
                routes.append(route)
        self._accepted.append((route, parent, service, places))

    def _say_all(self, route: RouteObject, parent: ParentRef, service: ServiceObject, places: list[Place]) -> None:
        """Once all routes are attached: of two that want the same requests, one gets them."""
        self._accept(route, parent, _note(route, parent, service, self._shadow(route, places)))
        self._resolve(route, parent)
        self._say(route, parent, PROGRAMMED, UNKNOWN, "Pending")

    def _shadow(self, route: RouteObject, places: list[Place]) -> str:
        notes = (self._shadows.note(at, self._attached[at[:2]].groups[at[2]], route.key) for at in places)
        return next((note for note in notes if note), "")

    def _accept(self, route: RouteObject, parent: ParentRef, note: tuple[str, str]) -> None:
        """One fault stands for all.  It is in force where it is not accepted, too: its rules answer 500."""
        message, at = next(_unsupported(route), ("", ""))
        if message and all(rule.fault and rule.fault.condition == UNSUPPORTED_VALUE for rule in route.rules):
            self._say(route, parent, ACCEPTED, FALSE, UNSUPPORTED_VALUE, message, at)
            return
        self._say(route, parent, ACCEPTED, TRUE, "Accepted", *note)
        if message:
            self._say(route, parent, PARTIALLY_INVALID, TRUE, UNSUPPORTED_VALUE, message, at)

    def _resolve(self, route: RouteObject, parent: ParentRef) -> None:
        fault = next(self._backend_faults(route), None)
        if fault is None:
            self._say(route, parent, RESOLVED_REFS, TRUE, "ResolvedRefs")
        else:
            reason, message, at = fault
            self._say(route, parent, RESOLVED_REFS, FALSE, reason, message, at)

    def _backend_faults(self, route: RouteObject) -> Iterator[tuple[str, str, str]]:
        """(reason, message, field) of each reference that leads nowhere."""
        for index, rule in enumerate(route.rules):
            if rule.fault is not None and rule.fault.condition == INVALID_KIND:
                yield INVALID_KIND, f"{rule.fault.message}; {_ANSWERED}", _field(index, rule.fault)
            for number, ref in enumerate(rule.backends):
                reason, message = self.backend_fault(ref)
                if reason not in ("", UNSUPPORTED_VALUE):
                    at = _field(index, ref.fault) if ref.fault else f"spec.rules[{index}].backendRefs[{number}]"
                    yield reason, f"{message}; its share is answered 500", at
            for mirror in (*rule.mirrors, *(mirror for ref in rule.backends for mirror in ref.mirrors)):
                reason, message = self.backend_fault(mirror.backend)
                if reason:
                    yield reason, f"{message}; no copies are sent", _below(index, mirror.field)

    def _say(
        self,
        route: RouteObject,
        parent: ParentRef,
        kind: str,
        status: str,
        reason: str,
        message: str = "",
        at: str = "",
    ) -> None:
        where = f"Service {parent.namespace}/{parent.name}" + (f":{parent.port}" if parent.port else "")
        said = (kind, status, reason, message, at, self._generation, parent.index)
        self.conditions.append(Condition(KIND, route.key, where, *said))


def _unsupported(route: RouteObject) -> Iterator[tuple[str, str]]:
    """(message, field) of each value that this release does not know.  Gateway API asks for the first words."""
    for index, rule in enumerate(route.rules):
        if rule.fault is not None and rule.fault.condition == UNSUPPORTED_VALUE:
            yield f"Dropped Rule {index}: {rule.fault.message}; {_ANSWERED}", _field(index, rule.fault)
        for ref in rule.backends:
            if ref.fault is not None and ref.fault.condition == UNSUPPORTED_VALUE:
                message = f"Dropped Rule {index} in part: {ref.fault.message}; its share is answered 500"
                yield message, _field(index, ref.fault)


def _field(index: int, fault: RuleFault) -> str:
    return _below(index, fault.field)


def _below(index: int, field: FieldPath) -> str:
    return field_text(("spec", "rules", index, *field))


def _told(fault: RuleFault) -> str:
    return f"{field_text(fault.field)}: {fault.message}"


def _parent_fault(parent: ParentRef, service: ServiceObject | None) -> tuple[str, str, str]:
    """(reason, message, field) when the route cannot apply to this parent at all."""
    at, name = f"spec.parentRefs[{parent.index}]", f"Service {parent.namespace}/{parent.name}"
    if service is None:
        return "NoMatchingParent", f"{name} does not exist", f"{at}.name"
    if not service.addresses:
        return "NoMatchingParent", f"{name} has no cluster IP, and a route applies to calls to the cluster IP", at
    ports = _ports(parent, service)
    if not ports:
        return "NoMatchingParent", f"{name} has no TCP port {parent.port or parent.section}", at
    if all(port.protocol is not Protocol.HTTP1 for port in ports):
        listed = ", ".join(f"{port.port} ({port.protocol.value})" for port in ports)
        message = f"no port of {name} is plain HTTP/1: {listed}; set appProtocol: http, or name the port http-..."
        return "UnsupportedValue", message, at
    return "", "", ""


def _note(route: RouteObject, parent: ParentRef, service: ServiceObject, shadow: str) -> tuple[str, str]:
    """(message, field) about what an accepted route does not do."""
    notes, at = [], ""
    others = [str(port.port) for port in _ports(parent, service) if port.protocol is not Protocol.HTTP1]
    if others:
        notes.append(f"not applied to port {', '.join(others)}, which is not plain HTTP/1")
        at = f"spec.parentRefs[{parent.index}]"
    if route.hostnames:
        notes.append("hostnames are ignored for a Service parent; match the Host header instead")
        at = "spec.hostnames"
    if shadow:
        notes.append(shadow)
        at = "spec.rules"
    return "; ".join(notes), at


def _ports(parent: ParentRef, service: ServiceObject) -> list[ServicePort]:
    return [port for port in service.ports if parent.port in (0, port.port) and parent.section in ("", port.name)]
