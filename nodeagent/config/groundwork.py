"""What compile makes of Services, EndpointSlices, Pods and Namespaces alone.

Most changes are of a route or a policy.  Then nothing of this has to be made again.  A change of a Service, an
EndpointSlice or a Pod costs what belongs to the same Services: tables are copied in layers (core/layers).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nodeagent.config.locality import ANYWHERE, Locality
from nodeagent.config.objects import ObjectSet
from nodeagent.config.ownership import Ownership
from nodeagent.config.services import Topology
from nodeagent.config.workloads import Pods, workloads
from nodeagent.core.differences import changed, gone, unequal
from nodeagent.core.model import Endpoint


@dataclass(slots=True)
class Outdated:
    """What is not as it was when `compile` was last done."""

    services: set[str] = field(default_factory=set)
    endpoints: set[Endpoint] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)  # of pods

    def and_of(self, ownership: Ownership) -> Outdated:
        return Outdated(
            self.services | ownership.affected, self.endpoints | ownership.touched, self.addresses | ownership.moved
        )


@dataclass(frozen=True, slots=True)
class Groundwork:
    """Never changed once laid, but for what `compile` keeps here: what it worked with, and `outdated` of that.

    `kept` may have gone on with another groundwork meanwhile, which it can tell.
    """

    objects: ObjectSet
    topology: Topology
    pods: Pods
    ownership: Ownership
    here: Locality = ANYWHERE
    kept: list[object] = field(default_factory=list, compare=False, repr=False)
    outdated: list[Outdated] = field(default_factory=list, compare=False, repr=False)

    def compiled(self, kept: object) -> None:
        """On this groundwork, that is."""
        self.kept[:] = [kept]
        self.outdated[:] = [Outdated()]


def lay(objects: ObjectSet, before: Groundwork | None = None, here: Locality = ANYWHERE) -> Groundwork:
    """Use of `before` what its objects and `objects` have in common; objects that did not change compare fast.

    On another node, or in another zone, than `here` was before, nothing is used again.
    """
    if before is None or before.here != here:
        topology, pods = Topology(objects.services, objects.slices, here=here), workloads(objects, here.node)
        return Groundwork(objects, topology, pods, Ownership(topology, pods), here)
    old = before.objects
    same_places = not (unequal(old.services, objects.services) or unequal(old.slices, objects.slices))
    pods = workloads(objects, here.node, old, before.pods)
    renewed = changed(before.pods, pods).keys() | gone(before.pods, pods)
    if same_places and not renewed:
        return replace(before, objects=objects)
    topology = before.topology if same_places else Topology(objects.services, objects.slices, before.topology, here)
    ownership = Ownership(topology, pods, before.ownership, renewed)
    outdated = [one.and_of(ownership) for one in before.outdated]
    return Groundwork(objects, topology, pods, ownership, here, list(before.kept), outdated)
