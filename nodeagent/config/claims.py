"""Which Service has which address and port.  Of two that want the same the first by name has it, unless a pod does.

A cluster IP comes before what is only a door (core.model.Destination), so that no Service takes another one's calls by
writing its cluster IP down as an external IP of its own.

Kept up to date in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nodeagent.config.resources import ServiceObject, ServicePort
from nodeagent.core.addresses import UNSPECIFIED

Target = tuple[str, int]


class Claim(NamedTuple):
    """`port`: its position among the Service's own."""

    is_door: bool
    service: str
    port: int


class Owner(NamedTuple):
    service: ServiceObject
    port: ServicePort
    is_door: bool


class Claims:
    def __init__(self) -> None:
        self._services: dict[str, ServiceObject] = {}
        self._of: dict[Target, tuple[Claim, ...]] = {}  # the one that has it first

    def update(self, changed: Iterable[str], services: Mapping[str, ServiceObject]) -> set[Target]:
        """Targets that these Services claimed or claim."""
        touched = set[Target]()
        for key in changed:
            before, now = self._services.pop(key, None), services.get(key)
            for target, claim in wanted(before) if before else ():
                self._drop(target, claim)
                touched.add(target)
            for target, claim in wanted(now) if now else ():
                self._of[target] = tuple(sorted((*self._of.get(target, ()), claim)))
                touched.add(target)
            if now:
                self._services[key] = now
        return touched

    def _drop(self, target: Target, claim: Claim) -> None:
        left = tuple(one for one in self._of[target] if one != claim)
        if left:
            self._of[target] = left
        else:
            del self._of[target]

    def first(self, target: Target) -> Owner | None:
        """Whose it is, if it is no pod's."""
        found = self._of.get(target)
        if not found:
            return None
        is_door, key, port = found[0]
        service = self._services[key]
        return Owner(service, service.ports[port], is_door)

    def claimants(self, target: Target) -> set[str]:
        return {claim.service for claim in self._of.get(target, ())}

    def of(self, key: str) -> Iterator[tuple[Target, bool]]:
        """What a Service claims, and whether it comes first."""
        service = self._services.get(key)
        for target, claim in wanted(service) if service else ():
            yield target, self._of[target][0] == claim


def wanted(service: ServiceObject) -> Iterator[tuple[Target, Claim]]:
    """A Service that kube-proxy does not look at has no node ports (a headless one, an ExternalName)."""
    for addresses, is_door in ((service.addresses, False), (service.doors, True)):
        for address in addresses:
            for number, port in enumerate(service.ports):
                yield (address, port.port), Claim(is_door, service.key, number)
    for number, port in enumerate(service.ports):
        if port.node_port and (service.addresses or service.doors):
            for address in UNSPECIFIED:
                yield (address, port.node_port), Claim(is_door=True, service=service.key, port=number)
