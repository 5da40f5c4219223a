"""Services and EndpointSlices joined: the endpoints of each Service port, and who shares an endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodeagent.config.locality import ANYWHERE, Locality, Nearby, nearby
from nodeagent.config.resources import NOWHERE, Placement, Readiness, ServiceObject, ServicePort, SliceObject
from nodeagent.core.addresses import family
from nodeagent.core.differences import unequal
from nodeagent.core.layers import Layers
from nodeagent.core.model import Endpoint, Protocol

FAMILIES = (4, 6)
ServicePortKey = tuple[str, int]  # ("namespace/name", port number)
PortFamily = tuple[str, int, int]  # the same, and 4 or 6
_NONE = Nearby(())


@dataclass(frozen=True, slots=True)
class EndpointOwners:
    """The Service ports that lead to one endpoint: at least one."""

    service_ports: tuple[tuple[ServiceObject, ServicePort], ...]

    @property
    def protocol(self) -> Protocol:
        """What the ports agree on; opaque when they do not."""
        first = self.service_ports[0][1].protocol
        return first if all(port.protocol is first for _, port in self.service_ports[1:]) else Protocol.OPAQUE


class Topology:
    """Look-ups over one ObjectSet; endpoint tuples are sorted, so equal sets compare equal.

    `owners` has every endpoint, ready or not: policy protects a pod by its address as long as it may answer there.
    Of `before` everything is used that does not belong to a Service which changed, or one of whose slices did:
    `affected` are the others, `touched` the endpoints whose owners may not be those of `before`.  `before` must be of
    the same `here`: where this node is decides which endpoints are near.
    """

    def __init__(
        self,
        services: Mapping[str, ServiceObject],
        slices: Mapping[str, SliceObject],
        before: Topology | None = None,
        here: Locality = ANYWHERE,
    ) -> None:
        self.services, self._slices, self._here = services, slices, here
        self.owners: Layers[Endpoint, EndpointOwners] = before.owners.copy() if before else Layers()
        self._members: Layers[PortFamily, tuple[Endpoint, ...]] = before._members.copy() if before else Layers()
        self._chosen: Layers[PortFamily, Nearby] = before._chosen.copy() if before else Layers()
        self._slices_of: Layers[str, tuple[str, ...]] = before._slices_of.copy() if before else Layers()  # by Service
        self.affected = self._sort_slices(before._slices if before else {})
        self.affected |= unequal(before.services, services) if before else set(services)
        self.touched: set[Endpoint] = set()
        for key in self.affected:
            if before and key in before.services:
                self._leave(before.services[key])
        for key in self.affected:
            if key in services:
                self._join(services[key], [slices[name] for name in self._slices_of.get(key, ())])

    def endpoints(self, service: str, port: int, wanted: int) -> tuple[Endpoint, ...]:
        """Where new connections go: endpoints of address family `wanted` (4 or 6) that are ready, or the next best."""
        return self.chosen(service, port, wanted).endpoints

    def chosen(self, service: str, port: int, wanted: int) -> Nearby:
        """The same, and what they have in common where others are ready but farther away."""
        return self._chosen.get((service, port, wanted), _NONE)

    def members(self, service: str, port: int, wanted: int) -> tuple[Endpoint, ...]:
        """Every endpoint of this family, ready or not."""
        return self._members.get((service, port, wanted), ())

    def reachable_family(self, service: str, port: int, preferred: int) -> int:
        """For a route's backend: the caller's family when it has endpoints to choose from, else the other."""
        families = (preferred, 10 - preferred)
        return next((wanted for wanted in families if self.endpoints(service, port, wanted)), preferred)

    def port(self, service: str, port: int) -> ServicePort | None:
        found = self.services.get(service)
        for item in found.ports if found else ():
            if item.port == port:
                return item
        return None

    def members_of(self, service: str) -> set[Endpoint]:
        """Every endpoint of all its ports."""
        found = self.services.get(service)
        keys = ((service, port.port, number) for port in (found.ports if found else ()) for number in FAMILIES)
        return {endpoint for key in keys for endpoint in self._members.get(key, ())}

    def _sort_slices(self, before: Mapping[str, SliceObject]) -> set[str]:
        """Note which slices are of which Service.  Returns the Services that have others than before."""
        affected = set[str]()
        for name in unequal(before, self._slices):
            for table, is_there in ((before, False), (self._slices, True)):
                one = table.get(name)
                if one is not None and one.service:
                    key = f"{one.namespace}/{one.service}"
                    affected.add(key)
                    others = tuple(other for other in self._slices_of.pop(key, ()) if other != name)
                    if others or is_there:
                        self._slices_of[key] = (*others, name) if is_there else others
        return affected

    def _join(self, service: ServiceObject, slices: Collection[SliceObject]) -> None:
        for port in service.ports:
            found = _found(slices, port.name)
            for number in FAMILIES:  # an IPv4-mapped address of an IPv6 slice is IPv4 here
                pairs = sorted(pair for pair in found if family(pair[0]) == number)
                if pairs:
                    self._add(service, port, number, [(Endpoint(*pair), *found[pair]) for pair in pairs])

    def _add(
        self,
        service: ServiceObject,
        port: ServicePort,
        number: int,
        endpoints: list[tuple[Endpoint, Readiness, Placement]],
    ) -> None:
        key = (service.key, port.port, number)
        self._choose(key, service, endpoints)
        self._members[key] = tuple(endpoint for endpoint, _, _ in endpoints)
        for endpoint in self._members[key]:
            owners = self.owners.get(endpoint)
            others = owners.service_ports if owners else ()
            self.owners[endpoint] = EndpointOwners((*others, (service, port)))
        self.touched.update(self._members[key])

    def _choose(
        self,
        key: PortFamily,
        service: ServiceObject,
        endpoints: Sequence[tuple[Endpoint, Readiness, Placement]],
    ) -> None:
        node = self._here.node if service.only_local else ""
        allowed = [one for one in endpoints if one[2].node == node] if node else endpoints
        best = max((readiness for _, readiness, _ in allowed), default=Readiness.NOT_READY)
        usable = [(endpoint, place) for endpoint, readiness, place in allowed if readiness is best]
        if best is Readiness.READY and not node:
            self._chosen[key] = nearby(usable, service.distribution, self._here)
        elif best is not Readiness.NOT_READY:  # leaving: wherever they are, as with kube-proxy
            where = f"node {node}" if len(allowed) < len(endpoints) else ""
            self._chosen[key] = Nearby(tuple(endpoint for endpoint, _ in usable), where)

    def _leave(self, service: ServiceObject) -> None:
        for port in service.ports:
            for number in FAMILIES:
                key = (service.key, port.port, number)
                self._chosen.pop(key, None)
                for endpoint in self._members.pop(key, ()):
                    self.touched.add(endpoint)
                    found = self.owners.pop(endpoint)
                    left = tuple(pair for pair in found.service_ports if pair != (service, port))
                    if left:
                        self.owners[endpoint] = EndpointOwners(left)


def _found(slices: Iterable[SliceObject], port_name: str) -> dict[tuple[str, int], tuple[Readiness, Placement]]:
    """(address, target port) of a named port -> what is best of it in all slices, in whichever order they come."""
    found: dict[tuple[str, int], tuple[Readiness, Placement]] = {}
    for one in slices:
        target = one.ports.get(port_name)
        if target is None:
            continue
        for address, readiness in one.addresses.items():
            pair, place = (address, target), one.places.get(address, NOWHERE)
            before = found.get(pair)
            found[pair] = (max(readiness, before[0]), max(place, before[1])) if before else (readiness, place)
    return found
