"""All objects -> one Snapshot, and what to say about each object.  Pure.

Frontends are (cluster IP, Service port); endpoints are (pod IP, target port); a namespace-wide policy
adds (pod IP, 0) for every other port.  Authorization belongs to endpoints: a frontend has the
policies of every Service that shares any of its endpoints, so that no second name evades a rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.config.conditions import ACCEPTED, FALSE, Condition
from nodeagent.config.objects import Broken, ObjectSet
from nodeagent.config.policies import PolicyIndex, policy_conditions, refused_targets, unenforceable
from nodeagent.config.resources import ServiceObject, ServicePort
from nodeagent.config.routes import PRODUCER, RouteIndex
from nodeagent.config.services import Topology
from nodeagent.config.workloads import workloads
from nodeagent.core.addresses import family
from nodeagent.core.model import Destination, Endpoint, Policy, Protocol, Snapshot, Workload

Owners = tuple[tuple[str, ...], tuple[int, ...]]  # (Services, port numbers) that lead to the same endpoints
Table = dict[tuple[str, int], Destination]


def compile(  # noqa: A001  (the word for it)
    objects: ObjectSet, generation: int, *, refuse_broken: bool = True
) -> tuple[Snapshot, list[Condition]]:
    """Compile everything.  `refuse_broken`: what a policy protects that never was good is refused."""
    topology = Topology(objects.services, objects.slices.values())
    policies = PolicyIndex(objects, refuse_broken=refuse_broken)
    routes = RouteIndex(objects, topology, generation)
    pods = workloads(objects.pods, objects.namespaces)
    table: Table = {}
    _add_endpoints(table, topology, policies)
    conditions = _add_frontends(table, topology, policies, routes)
    _add_other_ports(table, pods.values(), policies)
    conditions += [*routes.conditions, *policy_conditions(objects, generation)]
    conditions += broken_conditions(objects, generation, refuse_broken=refuse_broken)
    return Snapshot(generation, table, pods), conditions


def _add_endpoints(table: Table, topology: Topology, policies: PolicyIndex) -> None:
    for endpoint, owners in topology.owners.items():
        services = tuple(sorted({service.key for service, _ in owners.service_ports}))
        ports = {endpoint.port, *(port.port for _, port in owners.service_ports)}
        protocols = {port.protocol for _, port in owners.service_ports}
        protocol = protocols.pop() if len(protocols) == 1 else Protocol.OPAQUE
        name = f"{endpoint.address}:{endpoint.port}"
        table[endpoint.address, endpoint.port] = _destination(
            name, endpoint.address, endpoint.port, protocol, (services, tuple(sorted(ports))), policies
        )


def _destination(
    name: str, address: str, port: int, protocol: Protocol, owners: Owners, policies: PolicyIndex
) -> Destination:
    services, ports = owners
    applied = policies.of_services(services)
    return Destination(
        name=name,
        address=address,
        port=port,
        protocol=protocol,
        is_frontend=False,
        services=services,
        policies=applied,
        ports=ports,
        refuse=policies.refusal_of_services(services) or unenforceable(applied, protocol, ports, name),
    )


def _add_frontends(table: Table, topology: Topology, policies: PolicyIndex, routes: RouteIndex) -> list[Condition]:
    """Add a destination for every cluster IP and port; the first Service of an address taken twice keeps it."""
    conditions: list[Condition] = []
    for key in sorted(topology.services):
        service = topology.services[key]
        for address in service.addresses:
            for port in service.ports:
                taken = table.get((address, port.port))
                if taken is not None:
                    message = f"{address}:{port.port} already belongs to {taken.name}"
                    conditions.append(Condition("Service", key, "", ACCEPTED, FALSE, "Conflicted", message))
                    continue
                table[address, port.port] = _frontend(table, service, port, address, topology, policies, routes)
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
    services, ports = _owners_of(table, endpoints, service, port)
    applied = policies.of_services(services)
    name = f"{service.key}:{port.port}"
    return Destination(
        name=name,
        address=address,
        port=port.port,
        protocol=port.protocol,
        is_frontend=True,
        services=services,
        endpoints=endpoints,
        producer_rules=groups.get(PRODUCER, ()),
        consumer_rules={group: rules for group, rules in groups.items() if group != PRODUCER},
        has_producer_route=PRODUCER in groups,
        policies=applied,
        ports=ports,
        refuse=policies.refusal_of_services(services) or unenforceable(applied, port.protocol, ports, name),
    )


def _owners_of(table: Table, endpoints: Iterable[Endpoint], service: ServiceObject, port: ServicePort) -> Owners:
    """Every Service, and every port number, by which one of these endpoints can be called."""
    services, ports = {service.key}, {port.port}
    for endpoint in endpoints:
        found = table[endpoint.address, endpoint.port]
        services.update(found.services)
        ports.update(found.ports)
    return tuple(sorted(services)), tuple(sorted(ports))


def _add_other_ports(table: Table, pods: Iterable[Workload], policies: PolicyIndex) -> None:
    """Namespace-wide policies reach the pods' ports that no Service leads to."""
    for pod in pods:
        applied = policies.of_namespace(pod.namespace)
        refusal = policies.refusal_of_namespace(pod.namespace)
        if not applied and not refusal:
            continue
        for address in pod.addresses:
            for port in (0, *sorted(policies.named_ports(pod.namespace))):
                if (address, port) not in table:
                    table[address, port] = _other_port(address, port, applied, refusal)


def _other_port(address: str, port: int, applied: tuple[Policy, ...], refusal: str) -> Destination:
    name = f"{address}:{port or '*'}"
    return Destination(
        name=name,
        address=address,
        port=port,
        protocol=Protocol.OPAQUE,
        is_frontend=False,
        policies=applied,
        ports=(port,),
        refuse=refusal or unenforceable(applied, Protocol.OPAQUE, (port,), name),
    )


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
