"""Rules of HTTPRoutes, as requests meet them: with the endpoints, policies and treatment of each backend."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.config.ownership import Ownership
from nodeagent.config.policies import PolicyIndex
from nodeagent.config.resources import BackendRef, MirrorRef, RouteObject, RouteRule
from nodeagent.config.services import Topology
from nodeagent.config.standing import Standings, told
from nodeagent.config.traffic import TrafficIndex
from nodeagent.core.matching import Precedence, precedence
from nodeagent.core.model import Backend, Fault, Mirror, Rule

Position = tuple[bool, Precedence]  # what takes more than it was meant to, because a part is unknown, comes last
Placed = tuple[Position, Rule]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules are made with, besides their routes."""

    topology: Topology
    ownership: Ownership
    policies: PolicyIndex
    traffic: TrafficIndex


class RuleBuilder:
    """Of one state of the surroundings."""

    def __init__(self, around: Surroundings) -> None:
        self._topology, self._ownership = around.topology, around.ownership
        self._policies, self._traffic = around.policies, around.traffic
        self._standings = Standings(around.topology)

    def rules(self, route: RouteObject, family: int) -> list[Placed]:
        """For callers of one address family."""
        return [
            ((one.matches[number].vague, precedence(rule, route.created, index, number)), rule)
            for index, one in enumerate(route.rules)
            for number, rule in enumerate(self._rule(route, one, family))
        ]

    def _rule(self, route: RouteObject, rule: RouteRule, family: int) -> list[Rule]:
        backends = tuple(self._backend(route.key, rule, ref, family) for ref in rule.backends)
        limits = self._traffic.limits_of_rule(route.key, rule)
        fault = Fault(rule.fault.reason, told(rule.fault)) if rule.fault else None
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
        reason, message = self._standings.backend_fault(ref)
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
            affinity=self._topology.services[service].affinity,
        )

    def _mirrors(self, route: str, rule: RouteRule, mirrors: tuple[MirrorRef, ...], family: int) -> tuple[Mirror, ...]:
        """Those whose backend can be sent a copy; requests go on without the others."""
        return tuple(
            Mirror(self._backend(route, rule, mirror.backend, family), mirror.numerator, mirror.denominator)
            for mirror in mirrors
            if not self._standings.backend_fault(mirror.backend)[0]
        )
