"""A route on each of its parents: whether it applies there, to which ports, and what to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config.conditions import ACCEPTED, FALSE, PARTIALLY_INVALID, PROGRAMMED, RESOLVED_REFS, TRUE, UNKNOWN
from nodeagent.config.problems import FieldPath, field_text
from nodeagent.config.reading import is_service
from nodeagent.config.resources import (
    INVALID_KIND,
    UNSUPPORTED_VALUE,
    BackendRef,
    ParentRef,
    RouteObject,
    RuleFault,
    ServiceObject,
    ServicePort,
)
from nodeagent.config.services import ServicePortKey, Topology
from nodeagent.core.model import Protocol

PRODUCER = ""  # the group of producer rules; consumer groups are called like their namespace
_ANSWERED = "requests that the rule takes are answered 500"
_BACKEND_PROTOCOLS = (Protocol.HTTP1, Protocol.OPAQUE)  # an undeclared port of a backend is taken for HTTP/1

Said = tuple[str, str, str, str, str, str]  # of a condition: parent, type, status, reason, message, field


@dataclass(frozen=True, slots=True)
class OnParent:
    """A route on one parent: the ports that it applies to, none where it cannot; `said` holds where it is admitted."""

    group: str
    ports: tuple[ServicePortKey, ...]
    said: tuple[Said, ...]
    ref: int  # position in spec.parentRefs


def named_services(route: RouteObject) -> set[str]:
    """Every Service that what is made of a route can depend on, whether it is there or not."""
    refs = [ref for rule in route.rules for ref in rule.backends]
    mirrors = [*(one for rule in route.rules for one in rule.mirrors), *(one for ref in refs for one in ref.mirrors)]
    backends = {f"{ref.namespace}/{ref.name}" for ref in (*refs, *(one.backend for one in mirrors))}
    return backends | {f"{parent.namespace}/{parent.name}" for parent in route.parents}


class Standings:
    """By the Services of one topology."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def of(self, route: RouteObject) -> tuple[OnParent, ...]:
        """On each parent."""
        return tuple(self._on_parent(route, parent) for parent in route.parents)

    def backend_fault(self, ref: BackendRef) -> tuple[str, str]:
        """(reason, message) of a reference that cannot serve; its share is answered 500."""
        if ref.fault is not None:
            return ref.fault.condition, told(ref.fault)
        if not is_service(ref.group, ref.kind):
            return "InvalidKind", f"{ref.kind} of group {ref.group!r} cannot be a backend, only a Service can"
        service = f"{ref.namespace}/{ref.name}"
        if service not in self._topology.services:
            return "BackendNotFound", f"Service {service} does not exist"
        port = self._topology.port(service, ref.port)
        if port is None:
            return "BackendNotFound", f"Service {service} has no TCP port {ref.port}"
        if port.protocol not in _BACKEND_PROTOCOLS:
            return "UnsupportedProtocol", f"port {ref.port} of Service {service} is {port.protocol.value}, not HTTP/1"
        return "", ""

    def _on_parent(self, route: RouteObject, parent: ParentRef) -> OnParent:
        service = self._topology.services.get(f"{parent.namespace}/{parent.name}")
        reason, message, at = _parent_fault(parent, service)
        if reason or service is None:
            return OnParent("", (), (said(parent, ACCEPTED, FALSE, reason, message, at),), parent.index)
        group = PRODUCER if route.namespace == service.namespace else route.namespace
        ports = [port.port for port in _ports(parent, service) if port.protocol is Protocol.HTTP1]
        words = (
            *_accepted(route, parent, _note(route, parent, service)),
            self._resolved(route, parent),
            said(parent, PROGRAMMED, UNKNOWN, "Pending"),
        )
        return OnParent(group, tuple((service.key, port) for port in ports), words, parent.index)

    def _resolved(self, route: RouteObject, parent: ParentRef) -> Said:
        fault = next(self._backend_faults(route), None)
        if fault is None:
            return said(parent, RESOLVED_REFS, TRUE, "ResolvedRefs")
        reason, message, at = fault
        return said(parent, RESOLVED_REFS, FALSE, reason, message, at)

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


def said(parent: ParentRef, kind: str, status: str, reason: str, message: str = "", at: str = "") -> Said:
    where = f"Service {parent.namespace}/{parent.name}" + (f":{parent.port}" if parent.port else "")
    return where, kind, status, reason, message, at


def _accepted(route: RouteObject, parent: ParentRef, note: tuple[str, str]) -> Iterator[Said]:
    """One fault stands for all.  It is in force where it is not accepted, too: its rules answer 500."""
    message, at = next(_unsupported(route), ("", ""))
    if message and all(rule.fault and rule.fault.condition == UNSUPPORTED_VALUE for rule in route.rules):
        yield said(parent, ACCEPTED, FALSE, UNSUPPORTED_VALUE, message, at)
        return
    yield said(parent, ACCEPTED, TRUE, "Accepted", *note)
    if message:
        yield said(parent, PARTIALLY_INVALID, TRUE, UNSUPPORTED_VALUE, message, at)


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


def told(fault: RuleFault) -> str:
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


def _note(route: RouteObject, parent: ParentRef, service: ServiceObject) -> tuple[str, str]:
    """(message, field) about what an accepted route does not do."""
    notes, at = [], ""
    others = [str(port.port) for port in _ports(parent, service) if port.protocol is not Protocol.HTTP1]
    if others:
        notes.append(f"not applied to port {', '.join(others)}, which is not plain HTTP/1")
        at = f"spec.parentRefs[{parent.index}]"
    if route.hostnames:
        notes.append("hostnames are ignored for a Service parent; match the Host header instead")
        at = "spec.hostnames"
    return "; ".join(notes), at


def _ports(parent: ParentRef, service: ServiceObject) -> list[ServicePort]:
    return [port for port in service.ports if parent.port in (0, port.port) and parent.section in ("", port.name)]
