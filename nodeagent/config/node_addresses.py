"""Where node ports are to be found: the addresses of the nodes.  Kept up to date in place.

Those that a Node object lists, and the first one of each of its podCIDRs, which bridges, tunnels and veths of most CNI
plugins have: kube-proxy's iptables mode takes node ports there, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from nodeagent.config.destinations import Target
from nodeagent.config.ownership import Ownership
from nodeagent.config.resources import NodeObject
from nodeagent.core.differences import unequal
from nodeagent.core.model import NODES, Destination, Protocol


class NodeAddresses:
    def __init__(self) -> None:
        self._nodes: Mapping[str, NodeObject] = {}
        self._listed: Counter[str] = Counter()
        self._gateways: Counter[str] = Counter()

    def update(self, nodes: Mapping[str, NodeObject], moved: Iterable[str]) -> set[Target]:
        """Targets that may not be as before: at addresses of nodes that changed, or where pods `moved`."""
        touched = {address for address in moved if address in self._gateways}
        for name in unequal(self._nodes, nodes):
            for table, step in ((self._nodes, -1), (nodes, 1)):
                node = table.get(name)
                if node is not None:
                    touched.update(node.addresses, node.gateways)
                    _add(self._listed, node.addresses, step)
                    _add(self._gateways, node.gateways, step)
        self._nodes = nodes
        return {(address, 0) for address in touched}

    def mark(self, target: Target, made: Destination | None, ownership: Ownership) -> Destination | None:
        """`made` is what applies there otherwise."""
        address, port = target
        if port or not self._has(address, ownership):
            return made
        if made is None:
            return Destination(NODES, address, 0, Protocol.OPAQUE, is_frontend=False, is_node=True)
        return replace(made, is_node=True)

    def _has(self, address: str, ownership: Ownership) -> bool:
        """A pod may have the first address of a range after all."""
        return address in self._listed or (address in self._gateways and not ownership.residents(address))


def _add(counts: Counter[str], addresses: Iterable[str], step: int) -> None:
    for address in addresses:
        counts[address] += step
        if not counts[address]:
            del counts[address]
