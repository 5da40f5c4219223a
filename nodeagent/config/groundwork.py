"""What compile makes of Services, EndpointSlices, Pods and Namespaces alone.

Most changes are of a route or a policy.  Then nothing of this has to be made again, which is the
slower half of compiling a big configuration, and of the destinations only those that the change meets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeagent.config.objects import ObjectSet
from nodeagent.config.ownership import Ownership
from nodeagent.config.services import Topology
from nodeagent.config.workloads import PodCaps, capped, workloads
from nodeagent.core.model import Destination, Workload


@dataclass(frozen=True, slots=True)
class Groundwork:
    """Never changed once laid, but for `made` and `capped`: of the last compile, to be used again where it is equal."""

    objects: ObjectSet
    topology: Topology
    pods: Mapping[str, Workload]
    ownership: Ownership
    made: dict[tuple[str, int], Destination] = field(default_factory=dict, compare=False, repr=False)
    capped: list[tuple[Mapping[str, PodCaps], Mapping[str, Workload]]] = field(
        default_factory=list, compare=False, repr=False
    )

    def pods_with(self, caps: Mapping[str, PodCaps]) -> Mapping[str, Workload]:
        """The pods and what is allowed to those of each namespace; the same objects as last time, if `caps` is."""
        if not caps:
            return self.pods
        if not self.capped or self.capped[0][0] != caps:
            self.capped[:] = [(caps, capped(self.pods, caps))]
        return self.capped[0][1]


def lay(objects: ObjectSet, before: Groundwork | None = None) -> Groundwork:
    """Use of `before` what its objects and `objects` have in common; objects that did not change compare fast."""
    same_places = before and (objects.services, objects.slices) == (before.objects.services, before.objects.slices)
    same_pods = before and (objects.pods, objects.namespaces) == (before.objects.pods, before.objects.namespaces)
    if before and same_places and same_pods:
        return before
    topology = before.topology if before and same_places else Topology(objects.services, objects.slices.values())
    pods = before.pods if before and same_pods else workloads(objects.pods, objects.namespaces)
    return Groundwork(objects, topology, pods, Ownership(topology, pods.values()))
