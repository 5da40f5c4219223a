"""What of the last compile holds no longer, of all that is made once per Service or endpoint."""

from __future__ import annotations

from nodeagent.config.groundwork import Groundwork
from nodeagent.config.ownership import Owners
from nodeagent.config.policies import PolicyIndex
from nodeagent.core.model import Endpoint


def outdated(ground: Groundwork, before: PolicyIndex | None, now: PolicyIndex) -> tuple[set[str], set[Endpoint]]:
    """(Services, endpoints) for which the groundwork or the policies are others; without `before`, all endpoints.

    Both indexes are over the same broken objects.
    """
    ownership = ground.ownership
    if before is None:
        return set(), {endpoint for endpoint, _ in ownership.of_endpoints()}
    services, endpoints = set(ground.affected), set(map(Endpoint._make, ground.stale))
    if before is not now:
        differ = _Differing(before, now)
        services |= {service for service, owners in ownership.of_service_ports() if differ.at(owners)}
        endpoints |= {endpoint for endpoint, owners in ownership.of_endpoints() if differ.at(owners)}
    return services, endpoints


class _Differing:
    def __init__(self, before: PolicyIndex, now: PolicyIndex) -> None:
        self._before, self._now = before, now
        self._known: dict[int, bool] = {}  # by owners, which endpoints of one Service share

    def at(self, owners: Owners) -> bool:
        found = self._known.get(id(owners))
        if found is None:
            about = owners.services, owners.namespaces
            found = self._known[id(owners)] = self._before.applied(*about) != self._now.applied(*about)
        return found
