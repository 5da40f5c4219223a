"""What compile made, and brings up to date in place: a change costs what it meets, not what there is."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from nodeagent.config.claims import Claims
from nodeagent.config.conditions import ACCEPTED, FALSE, Condition, Conditions, ObjectKey
from nodeagent.config.destinations import Target, door, frontend, unrouted
from nodeagent.config.groundwork import Groundwork, Outdated
from nodeagent.config.node_addresses import NodeAddresses
from nodeagent.config.objects import ObjectSet
from nodeagent.config.other_ports import OtherPorts
from nodeagent.config.policies import PolicyIndex
from nodeagent.config.routes import KIND, RouteIndex
from nodeagent.config.rules import Surroundings
from nodeagent.config.said import Others, Speaker
from nodeagent.config.traffic import TrafficIndex
from nodeagent.config.workloads import Capped, capped
from nodeagent.core.differences import Edition
from nodeagent.core.model import Destination, Endpoint, Snapshot


class Options(NamedTuple):
    """As `compile` has them."""

    refuse_broken: bool = True
    allow_faults: bool = False
    kube_proxy: bool = False


class Compilation:
    """`version` tells who remembers it whether it has gone on since."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.version = 0
        self._policies = PolicyIndex(refuse_broken=options.refuse_broken)
        self._traffic = TrafficIndex(allow_faults=options.allow_faults)
        self._routes = RouteIndex()
        self._claims = Claims()
        self._other_ports = OtherPorts()
        self._nodes = NodeAddresses()
        self._table: Edition[Target, Destination] = Edition()
        self._capped: Capped | None = None
        self._speaker = Speaker(refuse_broken=options.refuse_broken)

    def update(
        self, objects: ObjectSet, ground: Groundwork, outdated: Outdated, generation: int
    ) -> tuple[Snapshot, Conditions]:
        """`outdated` is what of the groundwork is not as it was at the last call.

        Should this fail half-way, the version is another one, and nobody uses what there is.
        """
        self.version += 1
        policed, treated = self._policies.update(objects), self._traffic.update(objects)
        self._traffic.forget(outdated.services)
        around = Surroundings(ground.topology, ground.ownership, self._policies, self._traffic)
        services, endpoints = _reached(ground, policed)
        services |= outdated.services | {name for kind, name, _ in treated if kind == "Service"}
        routes = {name for kind, name, _ in treated if kind == KIND}
        met = self._routes.update(objects.routes, around, services, routes, generation)
        services |= met.services
        namespaces = {name for kind, name in policed if kind == "Namespace"}
        targets: set[Target] = set(self._claims.update(services, ground.topology.services))
        targets |= endpoints | outdated.endpoints
        targets |= self._other_ports.update(outdated.addresses, namespaces, ground.ownership, self._policies)
        targets |= self._nodes.update(objects.nodes, outdated.addresses)
        self._table = self._with(targets, around)
        said = self._conflicts(services, targets, ground, generation)
        said |= {(KIND, key): one for key, one in met.conditions.items()}
        conditions = self._speaker.update(objects, treated, self._traffic, Others(said, met.routes), generation)
        self._capped = capped(ground.pods, self._traffic.pod_limits(), self._capped)
        return Snapshot(generation, self._table, self._capped.made), conditions

    def _with(self, targets: Iterable[Target], around: Surroundings) -> Edition[Target, Destination]:
        """Destinations that are equal to before stay the same objects."""
        new: dict[Target, Destination] = {}
        left: list[Target] = []
        for target in targets:
            made, before = self._at(target, around), self._table.get(target)
            if made is None:
                left.append(target)
            elif before is None or made != before:
                new[target] = made
        return self._table.next(new, left)

    def _at(self, target: Target, around: Surroundings) -> Destination | None:
        endpoint = Endpoint(*target)
        owners = around.ownership.of_endpoint(endpoint)
        if owners is not None:
            return unrouted(target, around.topology.owners[endpoint].protocol, owners, self._policies)
        first = self._claims.first(target)
        if first is not None:
            service, port, is_door = first
            if is_door:
                return door(target, service, port, around)
            kube_proxy = self.options.kube_proxy
            return frontend(service, port, endpoint.address, around, self._routes, kube_proxy=kube_proxy)
        other = self._other_ports.at(target, around.ownership, self._policies)
        return self._nodes.mark(target, other, around.ownership)

    def _conflicts(
        self, services: AbstractSet[str], targets: Iterable[Target], ground: Groundwork, generation: int
    ) -> dict[ObjectKey, tuple[Condition, ...]]:
        """Cluster IPs and ports that belong to somebody else."""
        again = {key for target in targets for key in self._claims.claimants(target)} | services
        return {("Service", key): tuple(self._conflicts_of(key, ground, generation)) for key in again}

    def _conflicts_of(self, key: str, ground: Groundwork, generation: int) -> Iterable[Condition]:
        for target, is_first in self._claims.of(key):
            if not is_first or ground.ownership.of_endpoint(Endpoint(*target)) is not None:
                message = f"{target[0]}:{target[1]} already belongs to {self._table[target].name}"
                yield Condition("Service", key, "", ACCEPTED, FALSE, "Conflicted", message, generation=generation)


def _reached(ground: Groundwork, policed: Iterable[tuple[str, str]]) -> tuple[set[str], set[Endpoint]]:
    """Services and endpoints to which policies of these targets apply."""
    services, endpoints = set[str](), set[Endpoint]()
    for kind, name in policed:
        met = ground.ownership.of_service(name) if kind == "Service" else ground.ownership.of_namespace(name)
        endpoints |= met[0]
        services |= met[1]
    return services, endpoints
