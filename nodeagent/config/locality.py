"""Which endpoints of a Service port are near this node, by topology hints (KEP-2433, KEP-4444, KEP-3015).

As kube-proxy does it: what counts are the hints that the EndpointSlice controller wrote, not the Service's
`trafficDistribution`.  Where nobody wrote any, as in a directory of manifests, we make of `trafficDistribution` and
of the endpoints' `zone` and `nodeName` the hints that the controller would have made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from nodeagent.config.resources import NodeObject, Placement, TrafficDistribution
from nodeagent.core.model import Endpoint

Placed = tuple[Endpoint, Placement]


class Locality(NamedTuple):
    """Where this node is; "" = nobody said."""

    node: str = ""
    zone: str = ""


ANYWHERE = Locality()


class Nearby(NamedTuple):
    """Endpoints to use; `where` is "" for all of them, else what those have in common: "zone eu-1a", "node n1"."""

    endpoints: tuple[Endpoint, ...]
    where: str = ""


def locality(nodes: Mapping[str, NodeObject], node: str, zone: str) -> Locality:
    """Where we are: `zone` when it is given, else by the label of our Node object, if there is one."""
    own = nodes.get(node)
    return Locality(node, zone or (own.zone if own else ""))


def nearby(ready: Sequence[Placed], wanted: TrafficDistribution, here: Locality) -> Nearby:
    """Those for this node, else those for its zone, else all: each only where every endpoint has such a hint.

    `ready` must be ready endpoints: of those that are terminating kube-proxy uses all.
    """
    everything = tuple(endpoint for endpoint, _ in ready)
    hinted = [(endpoint, _hints(place)) for endpoint, place in ready]
    if not any(zones or nodes for _, (zones, nodes) in hinted):
        hinted = [(endpoint, _made(place, wanted)) for endpoint, place in ready]
    for_node = _matching([(endpoint, nodes) for endpoint, (_, nodes) in hinted], here.node)
    for_zone = _matching([(endpoint, zones) for endpoint, (zones, _) in hinted], here.zone)
    found, where = (for_node, f"node {here.node}") if for_node else (for_zone, f"zone {here.zone}")
    return Nearby(found, where) if found and found != everything else Nearby(everything)


def _hints(place: Placement) -> tuple[Collection[str], Collection[str]]:
    return place.for_zones, place.for_nodes


def _made(place: Placement, wanted: TrafficDistribution) -> tuple[Collection[str], Collection[str]]:
    """(zones, nodes) as the EndpointSlice controller hints: the endpoint's own ones."""
    zones = (place.zone,) if place.zone and wanted is not TrafficDistribution.NONE else ()
    nodes = (place.node,) if place.node and wanted is TrafficDistribution.SAME_NODE else ()
    return zones, nodes


def _matching(hinted: Sequence[tuple[Endpoint, Collection[str]]], name: str) -> tuple[Endpoint, ...]:
    """Endpoints hinted for `name`; () when one endpoint has no hint: then the hints are about to change."""
    if not name or not all(names for _, names in hinted):
        return ()
    return tuple(endpoint for endpoint, names in hinted if name in names)
