"""What compile makes of Services, EndpointSlices, Pods and Namespaces alone.

Most changes are of a route or a policy.  Then nothing of this has to be made again, which is the
slower half of compiling a big configuration, and of the destinations only those that the change meets.
A change of a Service, an EndpointSlice or a Pod costs what belongs to the same Services.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeagent.config.locality import ANYWHERE, Locality
from nodeagent.config.objects import ObjectSet
from nodeagent.config.ownership import Ownership
from nodeagent.config.services import Topology
from nodeagent.config.workloads import Capped, PodCaps, Workloads, capped, workloads
from nodeagent.core.model import Destination, Workload

Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Groundwork:
    """Never changed once laid, but for what is of the last compile, to be used again where it is equal.

    `made`: its destinations, `last`: what it worked with.  They may be of another groundwork, and then of what is not
    as it was there: destinations of `stale` targets, and whatever depends on Services that are `affected`.
    """

    objects: ObjectSet
    topology: Topology
    pods: Mapping[str, Workload]
    ownership: Ownership
    here: Locality = ANYWHERE
    made: dict[Target, Destination] = field(default_factory=dict, compare=False, repr=False)
    last: list[object] = field(default_factory=list, compare=False, repr=False)
    affected: set[str] = field(default_factory=set, compare=False, repr=False)
    stale: set[Target] = field(default_factory=set, compare=False, repr=False)
    capped: list[Capped] = field(default_factory=list, compare=False, repr=False)

    def compiled(self, made: Mapping[Target, Destination], work: object) -> None:
        """Of this groundwork, that is."""
        self.made.clear()
        self.made.update(made)
        self.last[:] = [work]
        self.affected.clear()
        self.stale.clear()

    def pods_with(self, caps: Mapping[str, PodCaps]) -> Mapping[str, Workload]:
        """The pods and what is allowed to those of each namespace."""
        self.capped[:] = [capped(self.pods, caps, self.capped[0] if self.capped else None)]
        return self.capped[0].made


def lay(objects: ObjectSet, before: Groundwork | None = None, here: Locality = ANYWHERE) -> Groundwork:
    """Use of `before` what its objects and `objects` have in common; objects that did not change compare fast.

    On another node, or in another zone, than `here` was before, nothing is used again.
    """
    if before is None or before.here != here:
        topology, pods = Topology(objects.services, objects.slices, here=here), workloads(objects, here.node)
        return Groundwork(objects, topology, pods.pods, Ownership(topology, pods.pods.values()), here)
    old = before.objects
    same_places = (objects.services, objects.slices) == (old.services, old.slices)
    same_pods = (objects.pods, objects.namespaces) == (old.pods, old.namespaces)
    if same_places and same_pods:
        return before
    topology = before.topology if same_places else Topology(objects.services, objects.slices, before.topology, here)
    pods = Workloads(before.pods) if same_pods else workloads(objects, here.node, old, before.pods)
    ownership = Ownership(topology, pods.pods.values(), before.ownership, pods.moved)
    stale = before.stale | _stale(before.topology, topology, ownership)
    made, last, affected = dict(before.made), list(before.last), before.affected | ownership.affected
    caps = list(before.capped)
    return Groundwork(objects, topology, pods.pods, ownership, here, made, last, affected, stale, caps)


def _stale(before: Topology, topology: Topology, ownership: Ownership) -> set[Target]:
    """Targets of endpoints and frontends that may not be as before."""
    found = {(endpoint.address, endpoint.port) for endpoint in ownership.touched}
    for services in (before.services, topology.services):
        for service in (services[key] for key in ownership.affected & services.keys()):
            found |= {(address, port.port) for address in service.addresses for port in service.ports}
    return found
