"""Which TrafficPolicy and which RateLimitPolicies apply where.

A target is ("Service", "namespace/name", port name or ""), ("HTTPRoute", "namespace/name", rule name or "") or
("Namespace", name, "").  Of the TrafficPolicies that could apply, the one with the most specific target counts, and
counts whole (GEP-713, Atomic Defaults); of two with the same target the older one, then by namespace/name.  Those in
DryRun are chosen among themselves, so that none hides one that is enforced.  RateLimitPolicies add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from nodeagent.config.objects import ObjectSet
from nodeagent.config.read_common import YOUNGEST
from nodeagent.config.resources import RateLimitObject, RouteRule, ServicePort, TargetRef, TrafficObject
from nodeagent.config.workloads import PodCaps
from nodeagent.core.differences import unequal
from nodeagent.core.model import Backend, Protocol, Rule
from nodeagent.core.traffic import ConnectionRate, Mode, RateLimitPolicy, TrafficPolicy

Target = tuple[str, str, str]


_AnyPolicy = TypeVar("_AnyPolicy", TrafficObject, RateLimitObject)


@dataclass(frozen=True, slots=True)
class Choice:
    """The TrafficPolicy that is enforced, and the one that is only simulated."""

    traffic: TrafficPolicy | None = None
    shadow: TrafficPolicy | None = None


@dataclass(frozen=True, slots=True)
class OfPort:
    """What policies for a Service and its port make of calls to a frontend."""

    choice: Choice = Choice()
    rate_limits: tuple[RateLimitPolicy, ...] = ()
    connection_rate: ConnectionRate | None = None


NO_CHOICE, NOTHING = Choice(), OfPort()


class TrafficIndex:
    """The policies by target, kept up to date in place.

    `allow_faults`: whether the agent was started with --allow-fault-injection.
    """

    def __init__(self, *, allow_faults: bool = False) -> None:
        self.allow_faults = allow_faults
        self.rivals: dict[Target, list[TrafficObject]] = {}
        self.rate_limits: dict[Target, list[RateLimitObject]] = {}
        self._traffic: Mapping[str, TrafficObject] = {}
        self._limits_of: Mapping[str, RateLimitObject] = {}
        self._policies: dict[str, TrafficPolicy] = {}
        self._ports: dict[str, dict[str, OfPort]] = {}  # by Service and port name
        self._pod_limits: dict[str, PodCaps] | None = None

    def update(self, objects: ObjectSet) -> set[Target]:
        """The targets that are treated otherwise than before."""
        changed = unequal(self._traffic, objects.traffic)
        touched = _replace_all(self.rivals, changed, self._traffic, objects.traffic)
        for key in changed:
            self._policies.pop(key, None)
            if (one := objects.traffic.get(key)) is not None:
                self._policies[key] = one.policy if self.allow_faults else _without_faults(one.policy)
        limits = unequal(self._limits_of, objects.rate_limits)
        touched |= _replace_all(self.rate_limits, limits, self._limits_of, objects.rate_limits)
        self._traffic, self._limits_of = objects.traffic, objects.rate_limits
        self.forget(name for kind, name, _ in touched if kind == "Service")
        if any(kind == "Namespace" for kind, _, _ in touched):
            self._pod_limits = None
        return touched

    def forget(self, services: Iterable[str]) -> None:
        """What was found for ports of these, which may not be there any more."""
        for service in services:
            self._ports.pop(service, None)

    @property
    def is_empty(self) -> bool:
        return not self.rivals and not self.rate_limits

    def of_frontend(self, service: str, port: ServicePort) -> OfPort:
        """For calls of a Service's port: without a route, and `rate_limits` with one, too."""
        found = self.of_port(service, port)
        return found if port.protocol is Protocol.HTTP1 else OfPort(connection_rate=found.connection_rate)

    def of_port(self, service: str, port: ServicePort) -> OfPort:
        """For requests that end up at a Service's port, whatever it says that it carries."""
        if self.is_empty:
            return NOTHING
        known = self._ports.setdefault(service, {})
        if port.name not in known:
            targets = port_targets(service, port)
            found = OfPort(self._choice(targets), self._limits(targets), self._connections(targets))
            known[port.name] = NOTHING if found == NOTHING else found
        return known[port.name]

    def of_route(self, route: str, rule: RouteRule, service: str, port: ServicePort) -> Choice:
        """For requests that a rule sends to a port of `service`."""
        return self._choice((*rule_targets(route, rule), *port_targets(service, port))) if self.rivals else NO_CHOICE

    def limits_of_rule(self, route: str, rule: RouteRule) -> tuple[RateLimitPolicy, ...]:
        return self._limits(rule_targets(route, rule)) if self.rate_limits else ()

    def pod_limits(self) -> dict[str, PodCaps]:
        """By namespace, for those that have any; the same object until one changes."""
        if self._pod_limits is None:
            namespaces = [target for target in self.rivals if target[0] == "Namespace"]
            self._pod_limits = {target[1]: self._caps(target) for target in namespaces}
        return self._pod_limits

    def _caps(self, target: Target) -> PodCaps:
        winners = (self._winner(target, mode) for mode in (Mode.ENFORCE, Mode.DRY_RUN))
        enforced, shadow = (winner.limits if winner else None for winner in winners)
        return enforced, shadow

    def _winner(self, target: Target, mode: Mode) -> TrafficObject | None:
        return next((one for one in self.rivals.get(target, ()) if one.policy.mode is mode), None)

    def _choice(self, targets: Iterable[Target]) -> Choice:
        """`targets` come with the most specific first."""
        found: dict[Mode, TrafficPolicy] = {}
        for target in targets:
            for one in self.rivals.get(target, ()):
                found.setdefault(one.policy.mode, self._policies[one.key])
        return Choice(found.get(Mode.ENFORCE), found.get(Mode.DRY_RUN)) if found else NO_CHOICE

    def _limits(self, targets: Iterable[Target]) -> tuple[RateLimitPolicy, ...]:
        found = (one.http for target in targets for one in self.rate_limits.get(target, ()) if one.http)
        return tuple(dict.fromkeys(found))

    def _connections(self, targets: Iterable[Target]) -> ConnectionRate | None:
        """One only, as the kernel keeps one bucket a port: an enforced one first, then the most specific."""
        found = [one.connections for target in targets for one in self.rate_limits.get(target, ()) if one.connections]
        return min(found, key=lambda rate: rate.mode is not Mode.ENFORCE, default=None)


def _without_faults(policy: TrafficPolicy) -> TrafficPolicy:
    return replace(policy, fault_injection=None, faults_left_out=True) if policy.fault_injection else policy


def with_choice(rules: tuple[Rule, ...], choice: Choice) -> tuple[Rule, ...]:
    """What applies to the Service dialled counts where nothing closer does."""
    if choice == NO_CHOICE:
        return rules
    return tuple(replace(rule, backends=tuple(_chosen(one, choice) for one in rule.backends)) for rule in rules)


def _chosen(backend: Backend, choice: Choice) -> Backend:
    if backend.error or (backend.traffic and backend.shadow):
        return backend
    return replace(backend, traffic=backend.traffic or choice.traffic, shadow=backend.shadow or choice.shadow)


def port_targets(service: str, port: ServicePort) -> tuple[Target, ...]:
    """From the most specific to the least; a port without a name can only be meant with its whole Service."""
    whole = ("Service", service, "")
    return (("Service", service, port.name), whole) if port.name else (whole,)


def rule_targets(route: str, rule: RouteRule) -> tuple[Target, ...]:
    whole = ("HTTPRoute", route, "")
    return (("HTTPRoute", route, rule.section), whole) if rule.section else (whole,)


def target_of(namespace: str, ref: TargetRef) -> Target:
    return (ref.kind, ref.name if ref.kind == "Namespace" else f"{namespace}/{ref.name}", ref.section)


def _replace_all(
    table: dict[Target, list[_AnyPolicy]],
    changed: Iterable[str],
    before: Mapping[str, _AnyPolicy],
    now: Mapping[str, _AnyPolicy],
) -> set[Target]:
    """Put these policies into the lists of their targets: the one that wins a conflict comes first."""
    touched: set[Target] = set()
    for key in changed:
        old: _AnyPolicy | None = before.get(key)
        new: _AnyPolicy | None = now.get(key)
        for target in _all_targets(old):
            table[target] = [one for one in table[target] if one.key != key]
        for target in _all_targets(new):
            table.setdefault(target, []).append(new)  # type: ignore[arg-type]  # without one there are no targets
        touched |= {*_all_targets(old), *_all_targets(new)}
    for target in touched:
        if table[target]:
            table[target].sort(key=lambda one: (one.created or YOUNGEST, one.key))
        else:
            del table[target]
    return touched


def _all_targets(policy: TrafficObject | RateLimitObject | None) -> list[Target]:
    return [target_of(policy.namespace, ref) for ref in policy.targets] if policy else []
