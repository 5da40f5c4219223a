"""Services and EndpointSlices joined: the endpoints of each Service port, and who shares an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.config.resources import Readiness, ServiceObject, ServicePort, SliceObject
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
    """Look-ups over one ObjectSet; endpoint tuples are sorted, so equal sets compare equal.

    `owners` has every endpoint, ready or not: policy protects a pod by its address as long as it may answer there.
    """

    def __init__(self, services: Mapping[str, ServiceObject], slices: Iterable[SliceObject]) -> None:
        self.services = services
        self.owners: dict[Endpoint, EndpointOwners] = {}
        self._members: dict[tuple[str, int, int], tuple[Endpoint, ...]] = {}
        self._chosen: dict[tuple[str, int, int], tuple[Endpoint, ...]] = {}
        by_service = _group(slices)
        for key, service in services.items():
            self._join(service, by_service.get(key, ()))

    def endpoints(self, service: str, port: int, wanted: int) -> tuple[Endpoint, ...]:
        """Where new connections go: endpoints of address family `wanted` (4 or 6) that are ready, or the next best."""
        return self._chosen.get((service, port, wanted), ())

    def members(self, service: str, port: int, wanted: int) -> tuple[Endpoint, ...]:
        """Every endpoint of this family, ready or not."""
        return self._members.get((service, port, wanted), ())

    def reachable_family(self, service: str, port: int, preferred: int) -> int:
        """For a route's backend: the caller's family when it has endpoints to choose from, else the other."""
        families = (preferred, 10 - preferred)
        return next((wanted for wanted in families if self.endpoints(service, port, wanted)), preferred)

    def port(self, service: str, port: int) -> ServicePort | None:
        found = self.services.get(service)
        return next((item for item in found.ports if item.port == port), None) if found else None

    def _join(self, service: ServiceObject, slices: Iterable[SliceObject]) -> None:
        for port in service.ports:
            found: dict[tuple[str, int], Readiness] = {}
            for one in slices:
                target = one.ports.get(port.name)
                if target is None:
                    continue
                for address, readiness in one.addresses.items():
                    pair = address, target
                    found[pair] = max(readiness, found.get(pair, readiness))
            for number in FAMILIES:  # an IPv4-mapped address of an IPv6 slice is IPv4 here
                pairs = sorted(pair for pair in found if family(pair[0]) == number)
                if pairs:
                    self._add(service, port, number, [(Endpoint(*pair), found[pair]) for pair in pairs])

    def _add(
        self, service: ServiceObject, port: ServicePort, number: int, endpoints: list[tuple[Endpoint, Readiness]]
    ) -> None:
        key = (service.key, port.port, number)
        best = max(readiness for _, readiness in endpoints)
        if best is not Readiness.NOT_READY:
            self._chosen[key] = tuple(endpoint for endpoint, readiness in endpoints if readiness is best)
        self._members[key] = tuple(endpoint for endpoint, _ in endpoints)
        for endpoint, _ in endpoints:
            self.owners.setdefault(endpoint, EndpointOwners()).service_ports.append((service, port))


def _group(slices: Iterable[SliceObject]) -> dict[str, list[SliceObject]]:
    groups: dict[str, list[SliceObject]] = {}
    for one in slices:
        if one.service:
            groups.setdefault(f"{one.namespace}/{one.service}", []).append(one)
    return groups
