"""What to say about TrafficPolicies and RateLimitPolicies towards each of their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nodeagent.config.conditions import ACCEPTED, FALSE, PROGRAMMED, TRUE, UNKNOWN, Condition
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import RateLimitObject, ServiceObject, ServicePort, TargetRef, TrafficObject
from nodeagent.config.traffic import TrafficIndex, target_of
from nodeagent.core.model import Protocol
from nodeagent.core.traffic import Limit, PolicyTimeouts, TrafficPolicy
from nodeagent.core.treatment_text import each_text, limit_text

TRAFFIC, RATE_LIMIT = "TrafficPolicy", "RateLimitPolicy"
_ROUTABLE = (Protocol.HTTP1, Protocol.OPAQUE)  # a route takes an undeclared port of a backend for HTTP/1


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` Accepted, with what the reader would not expect as a note; or why a policy does not apply here."""

    reason: str
    message: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What a policy is judged by.  `nodes`: how many nodes the known pods are on, at least 1."""

    objects: ObjectSet
    index: TrafficIndex
    nodes: int


def traffic_conditions(policy: TrafficObject, known: Known, generation: int) -> tuple[Condition, ...]:
    """Accepted of a TrafficPolicy towards every target, and Programmed where it is."""
    return tuple(
        one
        for number, ref in enumerate(policy.targets)
        for one in _said(TRAFFIC, policy, number, _traffic_verdict(policy, number, ref, known), generation)
    )


def limit_conditions(policy: RateLimitObject, known: Known, generation: int) -> tuple[Condition, ...]:
    """The same of a RateLimitPolicy."""
    return tuple(
        one
        for number, ref in enumerate(policy.targets)
        for one in _said(RATE_LIMIT, policy, number, _limits_verdict(policy, number, ref, known), generation)
    )


def parent_name(namespace: str, ref: TargetRef) -> str:
    """ "Service shop/cart:http", "HTTPRoute shop/r:canary", "Namespace shop"."""
    kind, name, section = target_of(namespace, ref)
    return f"{kind} {name}" + (f":{section}" if section else "")


def _said(
    kind: str, policy: TrafficObject | RateLimitObject, number: int, verdict: Verdict, generation: int
) -> Iterator[Condition]:
    accepted, where = verdict.reason == "Accepted", parent_name(policy.namespace, policy.targets[number])
    status, said = TRUE if accepted else FALSE, (verdict.reason, verdict.message, verdict.field)
    yield Condition(kind, policy.key, where, ACCEPTED, status, *said, generation, number)
    if accepted:
        yield Condition(kind, policy.key, where, PROGRAMMED, UNKNOWN, "Pending", "", "", generation, number)


def _traffic_verdict(policy: TrafficObject, number: int, ref: TargetRef, known: Known) -> Verdict:
    at = f"spec.targetRefs[{number}]"
    fault = _missing(policy.namespace, ref, at, known.objects) or _conflict(policy, ref, at, known.index)
    if fault:
        return fault
    notes, service = [], _service(policy.namespace, ref, known.objects)
    if service is not None:
        ports = _ports(service, ref)
        if not any(port.protocol in _ROUTABLE for port in ports):
            return Verdict("Invalid", _nothing_to_read(service, ports), at)
        notes = _unread(service, ports, parts_of(policy.policy))
    if policy.policy.fault_injection is not None and not known.index.allow_faults:
        notes.append("faultInjection is left out; to allow it, start the agent with --allow-fault-injection")
        at = "spec.faultInjection"
    return Verdict("Accepted", "; ".join(notes), at if notes else "")


def _limits_verdict(policy: RateLimitObject, number: int, ref: TargetRef, known: Known) -> Verdict:
    at = f"spec.targetRefs[{number}]"
    missing = _missing(policy.namespace, ref, at, known.objects)
    if missing:
        return missing
    service, notes, connections = _service(policy.namespace, ref, known.objects), list[str](), False
    if service is not None:
        ports = _ports(service, ref)
        lost = _lost_connections(policy, service, ports, known.index)
        fault = _unlimited(policy, service, ports, lost, at)
        if fault:
            return fault
        notes = [*(_unread(service, ports, ["http"]) if policy.http else ()), *lost]
        connections = len(lost) < len(ports)
    totals = _totals(policy, known.nodes, connections=connections)
    return Verdict("Accepted", "; ".join(["limits are per node", *totals, *notes]), at)


# ---- what keeps a policy from applying ----


def _missing(namespace: str, ref: TargetRef, at: str, objects: ObjectSet) -> Verdict | None:
    where = f"{ref.kind} {namespace}/{ref.name}"
    if ref.kind == "Namespace":
        return None
    if ref.kind == "Service":
        service, what = objects.services.get(f"{namespace}/{ref.name}"), "TCP port"
        sections = None if service is None else {port.name for port in service.ports}
    else:
        route, what = objects.routes.get(f"{namespace}/{ref.name}"), "rule"
        sections = None if route is None else {rule.section for rule in route.rules}
    if sections is None:
        return Verdict("TargetNotFound", f"{where} does not exist; the policy takes effect when it does", f"{at}.name")
    if ref.section and ref.section not in sections:
        message = f"{where} has no {what} named {ref.section}; the policy takes effect when it does"
        return Verdict("TargetNotFound", message, f"{at}.sectionName")
    return None


def _conflict(policy: TrafficObject, ref: TargetRef, at: str, index: TrafficIndex) -> Verdict | None:
    """Of one mode, one policy a target; which one, `by_target` says by its order."""
    rivals = index.rivals[target_of(policy.namespace, ref)]
    winner = next(one for one in rivals if one.policy.mode is policy.policy.mode)
    if winner.key == policy.key:
        return None
    why = "is older" if winner.created != policy.created else "comes first by name"
    return Verdict("Conflicted", f"{TRAFFIC} {winner.key} has the same target and {why}: only that one counts", at)


def _lost_connections(
    policy: RateLimitObject, service: ServiceObject, ports: list[ServicePort], index: TrafficIndex
) -> list[str]:
    """The ports whose connections this policy does not limit: the kernel keeps one limit a port."""
    if not policy.connections:
        return []
    if not service.addresses:
        why = "there is no cluster IP to connect to"
        return [f"connections to port {port.port} are not limited: {why}" for port in ports]
    rates = ((port, index.of_port(service.key, port).connection_rate) for port in ports)
    others = ((port, rate.policy) for port, rate in rates if rate is not None and rate.policy != policy.key)
    return [f"connections to port {port.port} are limited by {RATE_LIMIT} {other} instead" for port, other in others]


def _unlimited(
    policy: RateLimitObject, service: ServiceObject, ports: list[ServicePort], lost: list[str], at: str
) -> Verdict | None:
    """When no part of the policy has anything to limit at this Service."""
    if policy.http:
        counts = policy.connections and len(lost) < len(ports)
        readable = any(port.protocol in _ROUTABLE for port in ports)
        return None if counts or readable else Verdict("Invalid", _nothing_to_read(service, ports), at)
    if not ports:
        return Verdict("Invalid", _no_port(service), at)
    if not service.addresses:
        return Verdict("Invalid", f"Service {service.key} has no cluster IP, so nobody connects to one", at)
    return Verdict("Conflicted", "; ".join(lost), at) if len(lost) == len(ports) else None


def _nothing_to_read(service: ServiceObject, ports: list[ServicePort]) -> str:
    if not ports:
        return _no_port(service)
    return f"no port of Service {service.key} is plain HTTP/1 ({_listed(ports)}), so there are no requests to treat"


def _no_port(service: ServiceObject) -> str:
    return f"Service {service.key} has no TCP port"


# ---- what an accepted policy does not do ----


def _unread(service: ServiceObject, ports: list[ServicePort], parts: list[str]) -> list[str]:
    """Where calls of the Service itself are not touched; a route of another Service may lead there all the same."""
    said, others = ", ".join(parts), [port for port in ports if port.protocol is not Protocol.HTTP1]
    if not parts:
        return []
    if not service.addresses:
        return [f"Service {service.key} has no cluster IP: only requests that an HTTPRoute sends to it get {said}"]
    return [f"calls of port {_listed(others)} are not plain HTTP/1 and go without {said}"] if others else []


def _totals(policy: RateLimitObject, nodes: int, *, connections: bool) -> list[str]:
    """`connections`: whether those of a port are limited by this policy."""
    rules = policy.http.rules if policy.http else ()
    found = [f"rule {rule.name}: {_total(rule.limit, nodes, each_text(rule))}" for rule in rules]
    limited = policy.connections if connections else None
    return found + ([f"connections: {_total(limited.limit, nodes)}"] if limited else [])


def _total(limit: Limit, nodes: int, each: str = "") -> str:
    """ "9 per 1s burst 20 for each account on each node, in all 27 per 1s burst 60 for each account on 3 nodes"."""
    whole = replace(limit, requests=limit.requests * nodes, burst=limit.burst * nodes)
    plural = "s" if nodes > 1 else ""
    return f"{limit_text(limit)}{each} on each node, in all {limit_text(whole)}{each} on {nodes} node{plural}"


def parts_of(policy: TrafficPolicy) -> list[str]:
    """The fields of its spec that ask for something."""
    given = {
        "timeouts": None if policy.timeouts == PolicyTimeouts() else policy.timeouts,
        "retry": policy.retry,
        "circuitBreaker": policy.circuit_breaker,
        "outlierDetection": policy.outlier_detection,
        "loadBalancer": policy.load_balancer,
        "faultInjection": policy.fault_injection,
    }
    return [name for name, value in given.items() if value is not None]


def _service(namespace: str, ref: TargetRef, objects: ObjectSet) -> ServiceObject | None:
    return objects.services.get(f"{namespace}/{ref.name}") if ref.kind == "Service" else None


def _ports(service: ServiceObject, ref: TargetRef) -> list[ServicePort]:
    return [port for port in service.ports if ref.section in ("", port.name)]


def _listed(ports: list[ServicePort]) -> str:
    return ", ".join(f"{port.port} ({port.protocol.value})" for port in ports)
