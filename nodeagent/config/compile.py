"""All objects -> one Snapshot, and what to say about each object.  Pure.

Frontends are (cluster IP, Service port); endpoints are (pod IP, target port), ready or not; a namespace-wide policy
adds (pod IP, 0) for every other port.  What leads to endpoints, a frontend or a route's backend, has
the policies of all who own them (nodeagent.config.ownership), so that no second name evades a rule:
not even a Service made in another namespace for that end, nor a route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodeagent.config.conditions import ACCEPTED, FALSE, Condition
from nodeagent.config.groundwork import Groundwork, lay
from nodeagent.config.objects import Broken, ObjectSet
from nodeagent.config.outdated import outdated
from nodeagent.config.ownership import Owners, Ownership
from nodeagent.config.policies import PolicyIndex, named_ports, policy_conditions, refused_targets, unenforceable
from nodeagent.config.resources import PolicyObject, ServiceObject, ServicePort
from nodeagent.config.routes import PRODUCER, RouteIndex
from nodeagent.config.services import Topology
from nodeagent.config.traffic import Choice, OfPort, TrafficIndex, with_choice
from nodeagent.config.traffic_conditions import treatment_conditions
from nodeagent.core.addresses import family
from nodeagent.core.model import Destination, Endpoint, Protocol, Snapshot

Target = tuple[str, int]
Table = dict[Target, Destination]


@dataclass(frozen=True, slots=True)
class Indexes:
    """The objects, by whatever a destination is made from."""

    topology: Topology
    ownership: Ownership
    policies: PolicyIndex
    routes: RouteIndex
    traffic: TrafficIndex


def compile(  # noqa: A001  (the word for it)
    objects: ObjectSet,
    generation: int,
    *,
    refuse_broken: bool = True,
    allow_faults: bool = False,
    groundwork: Groundwork | None = None,
) -> tuple[Snapshot, list[Condition]]:
    """Compile everything.

    `refuse_broken`: what a policy protects that never was good is refused.  `allow_faults`: TrafficPolicies may
    inject faults.  `groundwork` is that of these objects, for who has it already: what the last call with it made
    and nothing changed is in the new snapshot, too: who comes later looks only at what is another object than before.
    """
    ground = groundwork or lay(objects)
    work = _work(objects, generation, ground, refuse_broken=refuse_broken, allow_faults=allow_faults)
    policies, traffic, routes = work.indexes.policies, work.indexes.traffic, work.indexes.routes
    table = dict(work.endpoints)
    conditions = _add_frontends(table, work.indexes, ground)
    _add_other_ports(table, ground, policies)
    ground.compiled(table, work)
    conditions += [*routes.conditions, *policy_conditions(objects, generation)]
    conditions += treatment_conditions(objects, traffic, generation, allow_faults=allow_faults)
    conditions += broken_conditions(objects, generation, refuse_broken=refuse_broken)
    return Snapshot(generation, table, ground.pods_with(traffic.pod_limits())), conditions


@dataclass(frozen=True, slots=True)
class _Work:
    """What destinations are made with.  `of`: the objects and options that it depends on as a whole."""

    of: tuple[object, ...]
    policies: Mapping[str, PolicyObject]
    indexes: Indexes
    endpoints: Table


def _work(
    objects: ObjectSet, generation: int, ground: Groundwork, *, refuse_broken: bool, allow_faults: bool
) -> _Work:
    """Of what the last compile worked with everything is used that the changes since have no part in."""
    of = (objects.broken, objects.traffic, objects.rate_limits, refuse_broken, allow_faults)
    last = next((one for one in ground.last if isinstance(one, _Work) and one.of == of), None)
    same = last is not None and last.policies == objects.policies
    policies = last.indexes.policies if last and same else PolicyIndex(objects, refuse_broken=refuse_broken)
    traffic = last.indexes.traffic if last else TrafficIndex(objects, allow_faults=allow_faults)
    affected, dirty = outdated(ground, last.indexes.policies if last else None, policies)
    topology, ownership = ground.topology, ground.ownership
    kept = last.indexes.routes.still_good(objects.routes, affected) if last else None
    routes = RouteIndex(objects, topology, ownership, policies, traffic, generation, kept)
    endpoints = {target: one for target, one in last.endpoints.items() if target not in dirty} if last else Table()
    endpoints |= _endpoints(ground, policies, dirty)
    return _Work(of, objects.policies, Indexes(topology, ownership, policies, routes, traffic), endpoints)


def _endpoints(ground: Groundwork, policies: PolicyIndex, endpoints: Iterable[Endpoint]) -> Table:
    """Destinations of these endpoints; those that are equal to before are the same objects."""
    table: Table = {}
    for endpoint in endpoints:
        owners = ground.ownership.of_endpoint(endpoint)
        if owners is not None:
            target = (endpoint.address, endpoint.port)
            before = ground.made.get(target)
            if before is None or target in ground.stale or not _same_policies(before, owners, policies):
                new = _unrouted(target, ground.topology.owners[endpoint].protocol, owners, policies)
                before = before if before == new else new
            table[target] = before
    return table


def _same_policies(before: Destination, owners: Owners, policies: PolicyIndex) -> bool:
    """What policies make of a destination depends on them, and on what is in the same groundwork."""
    return before.policies == policies.applied(owners.services, owners.namespaces) and not (
        before.refuse or policies.refusal(owners.services, owners.namespaces)
    )


def _same_treatment(before: Destination, treated: OfPort) -> bool:
    choice = Choice(before.traffic, before.shadow)
    return treated == OfPort(choice, before.rate_limits, before.connection_rate)


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


def _add_frontends(table: Table, indexes: Indexes, ground: Groundwork) -> list[Condition]:
    """Add a destination for every cluster IP and port; the first Service of an address taken twice keeps it."""
    conditions: list[Condition] = []
    services = indexes.topology.services
    for key in sorted(services):
        service = services[key]
        for address in service.addresses:
            for port in service.ports:
                target = (address, port.port)
                taken = table.get(target)
                if taken is not None:
                    message = f"{address}:{port.port} already belongs to {taken.name}"
                    conditions.append(Condition("Service", key, "", ACCEPTED, FALSE, "Conflicted", message))
                    continue
                known = None if target in ground.stale else ground.made.get(target)
                made = _frontend(service, port, address, indexes, known)
                before = ground.made.get(target)
                table[target] = made if made is before or made != before else before  # kept where it is equal
    return conditions


def _frontend(
    service: ServiceObject, port: ServicePort, address: str, indexes: Indexes, before: Destination | None
) -> Destination:
    policies, wanted = indexes.policies, family(address)
    groups = indexes.routes.groups(service.key, port.port, wanted)
    owners = indexes.ownership.of_service_port(service.key, port.port, wanted)
    treated = indexes.traffic.of_frontend(service.key, port)
    name = f"{service.key}:{port.port}"
    near = indexes.topology.chosen(service.key, port.port, wanted)
    unrouted = before and before.name == name and not before.has_routes and not groups
    if before and unrouted and _same_policies(before, owners, policies) and _same_treatment(before, treated):
        return before
    applied = policies.applied(owners.services, owners.namespaces)
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
    )


def _add_other_ports(table: Table, ground: Groundwork, policies: PolicyIndex) -> None:
    """Namespace-wide policies reach the pods' ports that no Service leads to."""
    known: dict[tuple[str, ...], tuple[int, ...]] = {}  # namespaces of an address -> ports to add
    for address, namespaces in ground.ownership.residents.items():
        if namespaces not in known:
            applied = policies.applied((), namespaces)
            ruled = applied or policies.refusal((), namespaces)
            known[namespaces] = (0, *named_ports(applied)) if ruled else ()
        for port in known[namespaces]:
            target = (address, port)
            if target not in table:
                owners = Owners((), namespaces, (port,))
                new, before = _unrouted(target, Protocol.OPAQUE, owners, policies), ground.made.get(target)
                table[target] = before if before == new else new


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
