"""What applies at one target (address, port), from the indexes.

Frontends are (cluster IP, Service port); doors are the Service's other addresses, node ports among them; endpoints are
(pod IP, target port), ready or not; a namespace-wide policy adds (pod IP, 0) for every other port.  What leads to
endpoints, a frontend, a door or a route's backend, has the policies of all who own them (nodeagent.config.ownership),
so that no second name evades a rule: not even a Service made in another namespace for that end, nor a route.
"""

from __future__ import annotations

from nodeagent.config.ownership import Owners
from nodeagent.config.policies import PolicyIndex, unenforceable
from nodeagent.config.resources import ServiceObject, ServicePort
from nodeagent.config.routes import RouteIndex
from nodeagent.config.rules import Surroundings
from nodeagent.config.standing import PRODUCER
from nodeagent.config.traffic import with_choice
from nodeagent.core.addresses import family
from nodeagent.core.model import Destination, Protocol

Target = tuple[str, int]


def unrouted(target: Target, protocol: Protocol, owners: Owners, policies: PolicyIndex) -> Destination:
    """A pod's port (0 = every port without an entry of its own)."""
    return _without_routes(target, f"{target[0]}:{target[1] or '*'}", protocol, owners, policies)


def door(target: Target, service: ServiceObject, port: ServicePort, around: Surroundings) -> Destination:
    """Another address of a Service: policies are judged, and where the connection goes then, kube-proxy decides."""
    owners = around.ownership.of_service_port(service.key, port.port, family(target[0]))
    return _without_routes(target, f"{service.key}:{port.port}", port.protocol, owners, around.policies)


def _without_routes(
    target: Target, name: str, protocol: Protocol, owners: Owners, policies: PolicyIndex
) -> Destination:
    address, port = target
    applied = policies.applied(owners.services, owners.namespaces)
    return Destination(
        name=name,
        address=address,
        port=port,
        protocol=protocol,
        is_frontend=False,
        services=owners.services,
        policies=applied,
        ports=owners.ports,
        refuse=policies.refusal(owners.services, owners.namespaces)
        or unenforceable(applied, protocol, owners.ports, name),
    )


def frontend(
    service: ServiceObject,
    port: ServicePort,
    address: str,
    around: Surroundings,
    routes: RouteIndex,
    *,
    kube_proxy: bool,
) -> Destination:
    """`kube_proxy`: it is there, and knows which endpoint a caller had before (sessionAffinity)."""
    policies, wanted = around.policies, family(address)
    groups = routes.groups(service.key, port.port, wanted)
    owners = around.ownership.of_service_port(service.key, port.port, wanted)
    treated = around.traffic.of_frontend(service.key, port)
    name = f"{service.key}:{port.port}"
    applied = policies.applied(owners.services, owners.namespaces)
    near = around.topology.chosen(service.key, port.port, wanted)
    return Destination(
        name=name,
        address=address,
        port=port.port,
        protocol=port.protocol,
        is_frontend=True,
        services=owners.services,
        endpoints=near.endpoints,
        producer_rules=with_choice(groups.get(PRODUCER, ()), treated.choice),
        consumer_rules={
            group: with_choice(rules, treated.choice) for group, rules in groups.items() if group != PRODUCER
        },
        has_producer_route=PRODUCER in groups,
        policies=applied,
        ports=owners.ports,
        refuse=policies.refusal(owners.services, owners.namespaces)
        or unenforceable(applied, port.protocol, owners.ports, name),
        traffic=treated.choice.traffic,
        shadow=treated.choice.shadow,
        rate_limits=treated.rate_limits,
        connection_rate=treated.connection_rate,
        nearby=near.where,
        affinity=service.affinity,
        leave_choice=service.affinity and kube_proxy,
    )
