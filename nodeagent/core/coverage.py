"""Which direct connections a configuration no longer leaves alone: what must be ended when rules change.

A connection that went direct is judged once, at connect().  When a new or changed rule first covers
its destination, it has to come back through the rule; so for every enrolled pod we compare what was
covered before with what is covered now.  Nothing is ended because of enrolment itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nodeagent.core.addresses import unspecified
from nodeagent.core.authorization import has_network_part
from nodeagent.core.backends import guarded_groups
from nodeagent.core.model import Destination, Rung, Snapshot, Workload
from nodeagent.core.verdicts import Verdict, Verdicts

Target = tuple[str, int]  # (canonical address, port); port 0 = any port of the address without an entry of its own


@dataclass(frozen=True, slots=True)
class Coverage:
    """`everyone`: every pod's requests must be judged there.

    `denied`: pod key -> where its connect() is denied, or a route that is for it leads to what a policy protects.
    """

    everyone: frozenset[Target] = frozenset()
    denied: Mapping[str, frozenset[Target]] = field(default_factory=dict)

    def of(self, pod: str) -> frozenset[Target]:
        return self.everyone | self.denied.get(pod, frozenset())


def coverage(snapshot: Snapshot, pods: Iterable[Workload]) -> Coverage:
    """`pods` are the enrolled workloads of this node."""
    return _covered(snapshot.destinations, pods)


def with_changes(
    before: Coverage, changed: Mapping[Target, Destination], gone: Iterable[Target], pods: Collection[Workload]
) -> Coverage:
    """`coverage` of what `before` was made of, after these changes and for the same pods."""
    touched, new = frozenset((*changed, *gone)), _covered(changed, pods)
    denied = {pod.key: _replaced(before.denied[pod.key], touched, new.denied[pod.key]) for pod in pods}
    return Coverage(_replaced(before.everyone, touched, new.everyone), denied)


def _replaced(before: frozenset[Target], touched: frozenset[Target], new: frozenset[Target]) -> frozenset[Target]:
    """The same object when nothing is different: most changes cover nothing, for most pods."""
    return before if before & touched == new else (before - touched) | new


def _covered(destinations: Mapping[Target, Destination], pods: Iterable[Workload]) -> Coverage:
    ruled = {target: here for target, here in destinations.items() if not here.is_plain}
    everyone = {target for target, destination in ruled.items() if judges_requests(destination)}
    verdicts = Verdicts()
    judged: dict[Verdict, list[Target]] = {}
    for target, here in ruled.items():
        if has_network_part(here):
            judged.setdefault(verdicts.at(here), []).append(target)
    routed = {target: here for target, here in ruled.items() if here.rung is Rung.PROXY}
    guarded = [(target, here, groups) for target, here in routed.items() if (groups := guarded_groups(here))]

    def judges(pod: Workload) -> Iterator[Target]:
        for verdict, targets in judged.items():
            if verdict.of(pod).denied:
                yield from targets
        yield from (target for target, here, groups in guarded if here.rule_group(pod.namespace) in groups)

    return Coverage(frozenset(everyone), {pod.key: frozenset(judges(pod)) for pod in pods})


def judges_requests(destination: Destination) -> bool:
    """True when no connection to it may stay direct: its requests are judged, or it is refused altogether."""
    return bool(destination.refuse) or (destination.rung is Rung.PROXY and destination.enforces_http_policy)


def newly_covered(before: Coverage, now: Coverage, pods: Iterable[str]) -> dict[str, frozenset[Target]]:
    """Pod key -> targets whose direct connections must end; pods without any are left out."""
    nowhere: frozenset[Target] = frozenset()
    everyone = nowhere if now.everyone is before.everyone else now.everyone - before.everyone
    found = {}
    for pod in pods:
        old, new = before.denied.get(pod, nowhere), now.denied.get(pod, nowhere)
        denied = nowhere if new is old else new - old - before.everyone
        found[pod] = (everyone - old) | denied
    return {pod: targets for pod, targets in found.items() if targets}


def is_covered(targets: frozenset[Target], address: str, port: int, known: Iterable[Target] = ()) -> bool:
    """True when a connection to (address, port) is meant; `known` are all destinations with an entry of their own."""
    if (address, port) in targets:
        return True
    if (address, port) in known:
        return False
    door = (unspecified(address), port)
    if door in known and (address, 0) in known:  # a node's; at worst a pod's, whose caller dials once more
        return door in targets
    return (address, 0) in targets
