"""Services and EndpointSlices joined: the endpoints of each Service port, and who shares an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.config.resources import ServiceObject, ServicePort, SliceObject
from nodeagent.core.addresses import family
from nodeagent.core.model import Endpoint, Protocol

FAMILIES = (4, 6)
ServicePortKey = tuple[str, int]  # ("namespace/name", port number)


@dataclass(slots=True)
class EndpointOwners:
    """The Service ports that lead to one endpoint."""

    service_ports: list[tuple[ServiceObject, ServicePort]] = field(default_factory=list)

    @property
    def protocol(self) -> Protocol:
        """What the ports agree on; opaque when they do not."""
        first = self.service_ports[0][1].protocol
        return first if all(port.protocol is first for _, port in self.service_ports[1:]) else Protocol.OPAQUE


class Topology:
    """Look-ups over one ObjectSet; endpoint tuples are sorted, so equal sets compare equal."""

    def __init__(self, services: Mapping[str, ServiceObject], slices: Iterable[SliceObject]) -> None:
        self.services = services
        self.owners: dict[Endpoint, EndpointOwners] = {}
        self._endpoints: dict[tuple[str, int, int], tuple[Endpoint, ...]] = {}
        by_service = _group(slices)
        for key, service in services.items():
            self._join(service, by_service.get(key, ()))

    def endpoints(self, service: str, port: int, wanted: int) -> tuple[Endpoint, ...]:
        """Ready endpoints of address family `wanted` (4 or 6)."""
        return self._endpoints.get((service, port, wanted), ())

    def reachable(self, service: str, port: int, preferred: int) -> tuple[Endpoint, ...]:
        """Endpoints for a route's backend: of the caller's family when there are any, else of the other."""
        return self.endpoints(service, port, preferred) or self.endpoints(service, port, 10 - preferred)

    def port(self, service: str, port: int) -> ServicePort | None:
        found = self.services.get(service)
        return next((item for item in found.ports if item.port == port), None) if found else None

    def _join(self, service: ServiceObject, slices: Iterable[SliceObject]) -> None:
        for port in service.ports:
            found: dict[int, set[tuple[str, int]]] = {4: set(), 6: set()}
            for one in slices:
                target = one.ports.get(port.name)
                if target is None:
                    continue
                for address in one.addresses:  # an IPv4-mapped one of an IPv6 slice is IPv4 here
                    found[family(address)].add((address, target))
            for number, pairs in found.items():
                if pairs:
                    self._add(service, port, number, [Endpoint(*pair) for pair in sorted(pairs)])

    def _add(self, service: ServiceObject, port: ServicePort, number: int, endpoints: list[Endpoint]) -> None:
        self._endpoints[service.key, port.port, number] = tuple(endpoints)
        for endpoint in endpoints:
            self.owners.setdefault(endpoint, EndpointOwners()).service_ports.append((service, port))


def _group(slices: Iterable[SliceObject]) -> dict[str, list[SliceObject]]:
    groups: dict[str, list[SliceObject]] = {}
    for one in slices:
        if one.service:
            groups.setdefault(f"{one.namespace}/{one.service}", []).append(one)
    return groups
