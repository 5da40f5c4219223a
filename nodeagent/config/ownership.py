"""By which names the same endpoints can be called, and in whose namespaces their pods live.

Authorization belongs to endpoints: whatever leads to some of them (a frontend, a route's backend) has
the policies of every Service that shares any of these, and of the namespaces of the pods behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from nodeagent.config.services import EndpointOwners, Topology
from nodeagent.core.layers import Layers
from nodeagent.core.model import Endpoint, Workload


@dataclass(frozen=True, slots=True)
class Owners:
    """All sorted."""

    services: tuple[str, ...]
    namespaces: tuple[str, ...]
    ports: tuple[int, ...]


class Ownership:
    """The owners of endpoints, and the namespaces of the pods at an address; host-network pods share theirs.

    Of `before` everything is used that pods that are `renewed` and the endpoints that its topology has `touched` have
    no part in: `touched` and `affected` (Services) are what may not be as before, `moved` the addresses of the pods.
    """

    def __init__(
        self,
        topology: Topology,
        pods: Mapping[str, Workload],
        before: Ownership | None = None,
        renewed: Iterable[str] | None = None,
    ) -> None:
        self._topology, self._pods = topology, pods
        self._at: Layers[str, tuple[str, ...]] = before._at.copy() if before else Layers()  # address -> pods
        self.moved = self._move(before._pods if before else {}, pods if renewed is None else renewed)
        other = before is None or before._topology is not topology
        self.touched: set[Endpoint] = set(topology.touched) if other else set()
        if before and self.moved:
            self.touched |= {one for one in topology.owners if one.address in self.moved}
        self._of: Layers[Endpoint, Owners] = before._of.copy() if before else Layers()
        self.affected: set[str] = set(topology.affected) if other else set()
        alike: dict[Owners, Owners] = {}
        for endpoint in self.touched:
            self._renew(endpoint, alike)
        self._joined: Layers[str, dict[tuple[int, int], Owners]]  # by Service
        self._joined = before._joined.copy() if before else Layers()
        for service in self.affected:
            self._joined.pop(service, None)

    def _move(self, before: Mapping[str, Workload], renewed: Iterable[str]) -> set[str]:
        """Note where pods are.  Returns the addresses at which one came, left or became another one."""
        moved = set[str]()
        for key in renewed:
            for table, is_there in ((before, False), (self._pods, True)):
                for address in table[key].addresses if key in table else ():
                    moved.add(address)
                    others = tuple(other for other in self._at.pop(address, ()) if other != key)
                    if others or is_there:
                        self._at[address] = (*others, key) if is_there else others
        return moved

    @property
    def addresses(self) -> Collection[str]:
        """Where pods are."""
        return self._at.keys()

    def residents(self, address: str) -> tuple[str, ...]:
        """The namespaces of the pods there."""
        found = self._at.get(address, ())
        return tuple(sorted({self._pods[key].namespace for key in found})) if found else ()

    def _renew(self, endpoint: Endpoint, alike: dict[Owners, Owners]) -> None:
        """`alike` makes equal ones the same object: most endpoints of a Service are alike."""
        old, owners = self._of.pop(endpoint, None), self._topology.owners.get(endpoint)
        new = self._owners(endpoint, owners) if owners else None
        if new:
            self._of[endpoint] = alike.setdefault(new, new)
        for one in (old, new):
            if one:
                self.affected.update(one.services)

    def _owners(self, endpoint: Endpoint, owners: EndpointOwners) -> Owners:
        return Owners(
            tuple(sorted({service.key for service, _ in owners.service_ports})),
            self.residents(endpoint.address),
            tuple(sorted({endpoint.port, *(port.port for _, port in owners.service_ports)})),
        )

    def of_endpoint(self, endpoint: Endpoint) -> Owners | None:
        """None = it is gone."""
        return self._of.get(endpoint)

    def of_service_port(self, service: str, port: int, wanted: int) -> Owners:
        """Every Service, namespace and port number of all that share an endpoint of family `wanted`, ready or not.

        So what protects a Service does not come and go with the readiness of its pods.
        """
        known, key = self._joined.setdefault(service, {}), (port, wanted)
        if key not in known:
            known[key] = self._join(service, port, self._topology.members(service, port, wanted))
        return known[key]

    def of_service(self, service: str) -> tuple[set[Endpoint], set[str]]:
        """Its endpoints; it and the Services that share any of them."""
        endpoints = self._topology.members_of(service)
        sharing = {other for owners in {self._of[endpoint] for endpoint in endpoints} for other in owners.services}
        return endpoints, {service} | sharing

    def of_namespace(self, namespace: str) -> tuple[set[Endpoint], set[str]]:
        """Endpoints that one of its pods or Services owns; its Services and those that share any of these."""
        ours = f"{namespace}/"
        services = {key for key in self._topology.services if key.startswith(ours)}
        about: dict[int, bool] = {}  # by the identity of owners: endpoints of one Service share them
        endpoints = set[Endpoint]()
        for endpoint, owners in self._of.items():
            if id(owners) not in about:
                about[id(owners)] = _is_about(owners, namespace, ours)
            if about[id(owners)]:
                endpoints.add(endpoint)
                services.update(owners.services)
        return endpoints, services

    def _join(self, service: str, port: int, endpoints: Iterable[Endpoint]) -> Owners:
        services, namespaces, ports = {service}, set[str](), {port}
        for endpoint in endpoints:
            found = self._of[endpoint]
            services.update(found.services)
            namespaces.update(found.namespaces)
            ports.update(found.ports)
        return Owners(tuple(sorted(services)), tuple(sorted(namespaces)), tuple(sorted(ports)))


def _is_about(owners: Owners, namespace: str, prefix: str) -> bool:
    return namespace in owners.namespaces or any(service.startswith(prefix) for service in owners.services)
