"""Namespace-wide policies reach the pods' ports that no Service leads to.  Kept up to date in place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from nodeagent.config.destinations import Target, unrouted
from nodeagent.config.ownership import Owners, Ownership
from nodeagent.config.policies import PolicyIndex, named_ports
from nodeagent.core.model import Destination, Protocol


class OtherPorts:
    def __init__(self) -> None:
        self._at: dict[str, tuple[int, ...]] = {}  # address -> ports, 0 = any; only of pods with such policies

    def update(
        self, moved: Iterable[str], policed: Collection[str], ownership: Ownership, policies: PolicyIndex
    ) -> set[Target]:
        """Targets that may not be as before: at addresses where pods `moved`, or are in `policed` namespaces."""
        touched = set[Target]()
        known: dict[tuple[str, ...], tuple[int, ...]] = {}  # by namespaces: many pods are in the same
        for address in (*moved, *_of_namespaces(policed, ownership)):
            namespaces = ownership.residents(address)
            if namespaces not in known:
                known[namespaces] = _ports(namespaces, policies)
            before, now = self._at.pop(address, ()), known[namespaces]
            if now:
                self._at[address] = now
            touched |= {(address, port) for port in (*before, *now)}
        return touched

    def at(self, target: Target, ownership: Ownership, policies: PolicyIndex) -> Destination | None:
        """Of what is no endpoint and no frontend."""
        address, port = target
        if port not in self._at.get(address, ()):
            return None
        return unrouted(target, Protocol.OPAQUE, Owners((), ownership.residents(address), (port,)), policies)


def _of_namespaces(names: Collection[str], ownership: Ownership) -> Iterator[str]:
    for address in ownership.addresses if names else ():
        if not set(names).isdisjoint(ownership.residents(address)):
            yield address


def _ports(namespaces: tuple[str, ...], policies: PolicyIndex) -> tuple[int, ...]:
    applied = policies.applied((), namespaces)
    return (0, *named_ports(applied)) if applied or policies.refusal((), namespaces) else ()
