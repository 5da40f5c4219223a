"""`network_verdict` for many destinations and pods: what cannot differ is judged once.

A big configuration repeats itself: endpoints share the policies of their Service, whole namespaces share
one, and pods of one service account are told apart by CIDRs only.
"""

from __future__ import annotations

from nodeagent.core.addresses import family
from nodeagent.core.authorization import Authorization, network_verdict
from nodeagent.core.model import Destination, Policy, Protocol, Workload

# What of a destination and of a pod a verdict depends on; policies are named by identity, and kept alive by
# the Verdict.
Likeness = tuple[tuple[int, ...], tuple[int, ...], bool, int, str]
Caller = tuple[str, str, tuple[str, ...]]


class Verdict:
    """`network_verdict` of a destination, and of all that are like it."""

    __slots__ = ("_by_address", "_destination", "_known")

    def __init__(self, destination: Destination, *, by_address: bool) -> None:
        self._destination = destination
        self._by_address = by_address
        self._known: dict[Caller, Authorization] = {}

    def of(self, pod: Workload) -> Authorization:
        caller = (pod.namespace, pod.service_account, pod.addresses if self._by_address else ())
        found = self._known.get(caller)
        if found is None:
            found = self._known[caller] = network_verdict(self._destination, pod)
        return found


class Verdicts:
    """Lives as long as one use of one snapshot."""

    def __init__(self) -> None:
        self._alike: dict[Likeness, Verdict] = {}

    def at(self, destination: Destination) -> Verdict:
        """The same object for destinations that no pod can tell apart."""
        by_address = any(_looks_at_addresses(policy) for policy in destination.policies)
        likeness = _likeness(destination, by_address=by_address)
        if likeness not in self._alike:
            self._alike[likeness] = Verdict(destination, by_address=by_address)
        return self._alike[likeness]


def _likeness(destination: Destination, *, by_address: bool) -> Likeness:
    policies = destination.policies
    by_port = any(rule.ports for policy in policies for rule in policy.rules)
    return (
        tuple(map(id, policies)),
        destination.port_numbers if by_port else (),
        destination.protocol is Protocol.HTTP1,
        family(destination.address) if by_address else 0,
        destination.refuse,
    )


def _looks_at_addresses(policy: Policy) -> bool:
    return any(source.cidrs for rule in policy.rules for source in rule.sources)
