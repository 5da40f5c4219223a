"""All objects -> one Snapshot, and what to say about each object.  Pure.

Frontends are (cluster IP, Service port); endpoints are (pod IP, target port); a namespace-wide policy
adds (pod IP, 0) for every other port.  Authorization belongs to endpoints: a frontend has the
policies of every Service that shares any of its endpoints, and of the namespaces of the pods behind
it, so that no second name evades a rule: not even a Service made in another namespace for that end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nodeagent.config.conditions import ACCEPTED, FALSE, Condition
from nodeagent.config.objects import Broken, ObjectSet
from nodeagent.config.policies import PolicyIndex, named_ports, policy_conditions, refused_targets, unenforceable
from nodeagent.config.resources import ServiceObject, ServicePort
from nodeagent.config.routes import PRODUCER, RouteIndex
from nodeagent.config.services import Topology
from nodeagent.config.workloads import workloads
from nodeagent.core.addresses import family
from nodeagent.core.model import Destination, Endpoint, Protocol, Snapshot, Workload

Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Owners:
    """By which names the same endpoints can be called, and in which namespaces their pods live; sorted."""

    services: tuple[str, ...]
    namespaces: tuple[str, ...]
    ports: tuple[int, ...]


@dataclass(slots=True)
class Table:
    """Destinations, and the owners of those that are endpoints."""

    destinations: dict[Target, Destination] = field(default_factory=dict)
    owners: dict[Target, Owners] = field(default_factory=dict)


def compile(  # noqa: A001  (the word for it)
    objects: ObjectSet, generation: int, *, refuse_broken: bool = True
) -> tuple[Snapshot, list[Condition]]:
    """Compile everything.  `refuse_broken`: what a policy protects that never was good is refused."""
    topology = Topology(objects.services, objects.slices.values())
    policies = PolicyIndex(objects, refuse_broken=refuse_broken)
    routes = RouteIndex(objects, topology, generation)
    pods = workloads(objects.pods, objects.namespaces)
    residents = _residents(pods.values())
    table = Table()
    _add_endpoints(table, topology, policies, residents)
    conditions = _add_frontends(table, topology, policies, routes)
    _add_other_ports(table.destinations, residents, policies)
    conditions += [*routes.conditions, *policy_conditions(objects, generation)]
    conditions += broken_conditions(objects, generation, refuse_broken=refuse_broken)
    return Snapshot(generation, table.destinations, pods), conditions


def _residents(pods: Iterable[Workload]) -> dict[str, tuple[str, ...]]:
    """Address -> namespaces of its pods; pods in the node's own network share theirs."""
    found: dict[str, tuple[str, ...]] = {}
    for pod in pods:
        for address in pod.addresses:
            found[address] = tuple(sorted({*found.get(address, ()), pod.namespace}))
    return found


def _add_endpoints(
    table: Table, topology: Topology, policies: PolicyIndex, residents: dict[str, tuple[str, ...]]
) -> None:
    for endpoint, owners in topology.owners.items():
        target = (endpoint.address, endpoint.port)
        ports = {endpoint.port, *(port.port for _, port in owners.service_ports)}
        protocols = {port.protocol for _, port in owners.service_ports}
        protocol = protocols.pop() if len(protocols) == 1 else Protocol.OPAQUE
        table.owners[target] = Owners(
            tuple(sorted({service.key for service, _ in owners.service_ports})),
            residents.get(endpoint.address, ()),
            tuple(sorted(ports)),
        )
        table.destinations[target] = _unrouted(target, protocol, table.owners[target], policies)


def _unrouted(target: Target, protocol: Protocol, owners: Owners, policies: PolicyIndex) -> Destination:
    """A pod's port (0 = every port without an entry of its own)."""
    address, port = target
    name = f"{address}:{port or '*'}"
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


def _add_frontends(table: Table, topology: Topology, policies: PolicyIndex, routes: RouteIndex) -> list[Condition]:
    """Add a destination for every cluster IP and port; the first Service of an address taken twice keeps it."""
    conditions: list[Condition] = []
    for key in sorted(topology.services):
        service = topology.services[key]
        for address in service.addresses:
            for port in service.ports:
                taken = table.destinations.get((address, port.port))
                if taken is not None:
                    message = f"{address}:{port.port} already belongs to {taken.name}"
                    conditions.append(Condition("Service", key, "", ACCEPTED, FALSE, "Conflicted", message))
                    continue
                table.destinations[address, port.port] = _frontend(
                    table, service, port, address, topology, policies, routes
                )
    return conditions


def _frontend(
    table: Table,
    service: ServiceObject,
    port: ServicePort,
    address: str,
    topology: Topology,
    policies: PolicyIndex,
    routes: RouteIndex,
) -> Destination:
    wanted = family(address)
    endpoints = topology.endpoints(service.key, port.port, wanted)
    groups = routes.groups(service.key, port.port, wanted)
    owners = _owners_of(table, endpoints, service, port)
    applied = policies.applied(owners.services, owners.namespaces)
    name = f"{service.key}:{port.port}"
    return Destination(
        name=name,
        address=address,
        port=port.port,
        protocol=port.protocol,
        is_frontend=True,
        services=owners.services,
        endpoints=endpoints,
        producer_rules=groups.get(PRODUCER, ()),
        consumer_rules={group: rules for group, rules in groups.items() if group != PRODUCER},
        has_producer_route=PRODUCER in groups,
        policies=applied,
        ports=owners.ports,
        refuse=policies.refusal(owners.services, owners.namespaces)
        or unenforceable(applied, port.protocol, owners.ports, name),
    )


def _owners_of(table: Table, endpoints: Iterable[Endpoint], service: ServiceObject, port: ServicePort) -> Owners:
    """Every Service, namespace and port number of all that share one of these endpoints."""
    services, namespaces, ports = {service.key}, set[str](), {port.port}
    for endpoint in endpoints:
        found = table.owners[endpoint.address, endpoint.port]
        services.update(found.services)
        namespaces.update(found.namespaces)
        ports.update(found.ports)
    return Owners(tuple(sorted(services)), tuple(sorted(namespaces)), tuple(sorted(ports)))


def _add_other_ports(
    destinations: dict[Target, Destination], residents: dict[str, tuple[str, ...]], policies: PolicyIndex
) -> None:
    """Namespace-wide policies reach the pods' ports that no Service leads to."""
    for address, namespaces in residents.items():
        applied = policies.applied((), namespaces)
        if not applied and not policies.refusal((), namespaces):
            continue
        for port in (0, *named_ports(applied)):
            if (address, port) not in destinations:
                owners = Owners((), namespaces, (port,))
                destinations[address, port] = _unrouted((address, port), Protocol.OPAQUE, owners, policies)


def broken_conditions(objects: ObjectSet, generation: int, *, refuse_broken: bool) -> list[Condition]:
    """Broken objects are not accepted; say what is in force instead."""
    found = []
    for broken in objects.broken:
        first = broken.problems[0]
        message = f"{first.message}; {_in_force(broken, refuse_broken=refuse_broken)}"
        identity = broken.identity
        found.append(
            Condition(identity.kind, identity.key, "", ACCEPTED, FALSE, broken.reason, message, first.field, generation)
        )
    return found


def _in_force(broken: Broken, *, refuse_broken: bool) -> str:
    if broken.last_good:
        return "the last good state stays in force"
    targets = ", ".join(f"{target.kind} {target.name}" for target in refused_targets(broken)) if refuse_broken else ""
    return f"it was never good, so {targets} is refused" if targets else "it was never good, so it has no effect"
