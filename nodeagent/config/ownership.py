"""By which names the same endpoints can be called, and in whose namespaces their pods live.

Authorization belongs to endpoints: whatever leads to some of them (a frontend, a route's backend) has
the policies of every Service that shares any of these, and of the namespaces of the pods behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from nodeagent.config.services import EndpointOwners, Topology
from nodeagent.core.model import Endpoint, Workload


@dataclass(frozen=True, slots=True)
class Owners:
    """All sorted."""

    services: tuple[str, ...]
    namespaces: tuple[str, ...]
    ports: tuple[int, ...]


class Ownership:
    """The owners of endpoints.  `residents`: address -> namespaces of its pods; host-network pods share theirs.

    Of `before` everything is used that pods at the addresses `moved` and the endpoints that its topology has
    `touched` have no part in: `touched` and `affected` (Services) are what may not be as before.
    """

    def __init__(
        self,
        topology: Topology,
        pods: Iterable[Workload],
        before: Ownership | None = None,
        moved: AbstractSet[str] = frozenset(),
    ) -> None:
        self._topology = topology
        self.residents: Mapping[str, tuple[str, ...]] = _residents(pods, before.residents if before else None, moved)
        at_moved = {one for one in topology.owners if one.address in moved} if moved else set()
        renewed = before is None or before._topology is not topology
        self.touched: set[Endpoint] = (topology.touched if renewed else set()) | at_moved
        self._of: dict[Endpoint, Owners] = dict(before._of) if before else {}
        self.affected: set[str] = set(topology.affected) if renewed else set()
        alike: dict[Owners, Owners] = {}
        for endpoint in self.touched:
            self._renew(endpoint, alike)
        self._joined: dict[tuple[str, int, int], Owners] = {}
        if before:
            self._joined = {key: one for key, one in before._joined.items() if key[0] not in self.affected}

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
            self.residents.get(endpoint.address, ()),
            tuple(sorted({endpoint.port, *(port.port for _, port in owners.service_ports)})),
        )

    def of_endpoints(self) -> Iterable[tuple[Endpoint, Owners]]:
        """Of every endpoint; those of one Service are mostly the same object."""
        return self._of.items()

    def of_endpoint(self, endpoint: Endpoint) -> Owners | None:
        """None = it is gone."""
        return self._of.get(endpoint)

    def of_service_ports(self) -> Iterable[tuple[str, Owners]]:
        """Service and owners, of every port that was asked for."""
        return ((key[0], owners) for key, owners in self._joined.items())

    def of_service_port(self, service: str, port: int, wanted: int) -> Owners:
        """Every Service, namespace and port number of all that share an endpoint of family `wanted`, ready or not.

        So what protects a Service does not come and go with the readiness of its pods.
        """
        key = (service, port, wanted)
        if key not in self._joined:
            self._joined[key] = self._join(service, port, self._topology.members(*key))
        return self._joined[key]

    def _join(self, service: str, port: int, endpoints: Iterable[Endpoint]) -> Owners:
        services, namespaces, ports = {service}, set[str](), {port}
        for endpoint in endpoints:
            found = self._of[endpoint]
            services.update(found.services)
            namespaces.update(found.namespaces)
            ports.update(found.ports)
        return Owners(tuple(sorted(services)), tuple(sorted(namespaces)), tuple(sorted(ports)))


def _residents(
    pods: Iterable[Workload], before: Mapping[str, tuple[str, ...]] | None, moved: AbstractSet[str]
) -> Mapping[str, tuple[str, ...]]:
    """`before` is right but for the addresses `moved`."""
    if before is not None and not moved:
        return before
    found = {address: names for address, names in before.items() if address not in moved} if before else {}
    for pod in pods:
        for address in pod.addresses:
            if before is None or address in moved:
                found[address] = tuple(sorted({*found.get(address, ()), pod.namespace}))
    return found
