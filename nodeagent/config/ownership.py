"""By which names the same endpoints can be called, and in whose namespaces their pods live.

Authorization belongs to endpoints: whatever leads to some of them (a frontend, a route's backend) has
the policies of every Service that shares any of these, and of the namespaces of the pods behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """The owners of endpoints.  `residents`: address -> namespaces of its pods; host-network pods share theirs."""

    def __init__(self, topology: Topology, pods: Iterable[Workload]) -> None:
        self.residents: dict[str, tuple[str, ...]] = {}
        for pod in pods:
            for address in pod.addresses:
                self.residents[address] = tuple(sorted({*self.residents.get(address, ()), pod.namespace}))
        self._topology = topology
        self._joined: dict[tuple[str, int, int], Owners] = {}
        self._of = {endpoint: self._owners(endpoint, owners) for endpoint, owners in topology.owners.items()}

    def _owners(self, endpoint: Endpoint, owners: EndpointOwners) -> Owners:
        return Owners(
            tuple(sorted({service.key for service, _ in owners.service_ports})),
            self.residents.get(endpoint.address, ()),
            tuple(sorted({endpoint.port, *(port.port for _, port in owners.service_ports)})),
        )

    def of_endpoint(self, endpoint: Endpoint) -> Owners:
        return self._of[endpoint]

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
