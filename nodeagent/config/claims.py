"""Which Service has which cluster IP and port.  Of two that want the same the first by name has it, unless a pod does.

Kept up to date in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nodeagent.config.resources import ServiceObject, ServicePort

Target = tuple[str, int]


class Claim(NamedTuple):
    """`number`: its position among the Service's own, by address and then by port."""

    service: str
    number: int


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

    def first(self, target: Target) -> tuple[ServiceObject, ServicePort] | None:
        """Whose it is, if it is no pod's."""
        found = self._of.get(target)
        if not found:
            return None
        service = self._services[found[0].service]
        return service, service.ports[found[0].number % len(service.ports)]

    def claimants(self, target: Target) -> set[str]:
        return {claim.service for claim in self._of.get(target, ())}

    def of(self, key: str) -> Iterator[tuple[Target, bool]]:
        """What a Service claims, and whether it comes first."""
        service = self._services.get(key)
        for target, claim in wanted(service) if service else ():
            yield target, self._of[target][0] == claim


def wanted(service: ServiceObject) -> Iterator[tuple[Target, Claim]]:
    targets = ((address, port.port) for address in service.addresses for port in service.ports)
    return ((target, Claim(service.key, number)) for number, target in enumerate(targets))
