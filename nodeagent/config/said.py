"""What is said about objects, brought up to date in place: who has to be looked at again when something changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from nodeagent.config import policies
from nodeagent.config.conditions import ACCEPTED, FALSE, Condition, Conditions, ObjectKey
from nodeagent.config.objects import Broken, ObjectSet
from nodeagent.config.policies import judged_by, policy_conditions, refused_targets
from nodeagent.config.resources import PodObject, PolicyObject, RateLimitObject, TrafficObject
from nodeagent.config.traffic import Target, TrafficIndex, target_of
from nodeagent.config.traffic_conditions import RATE_LIMIT, TRAFFIC, Known, limit_conditions, traffic_conditions
from nodeagent.core.differences import changed, gone, unequal

Subject = tuple[str, str]  # that policies are about: kind and name
Policy = PolicyObject | TrafficObject | RateLimitObject


@dataclass(frozen=True, slots=True)
class Others:
    """What is said of routes and Services, and which routes are others than before."""

    said: Mapping[ObjectKey, tuple[Condition, ...]]
    routes: AbstractSet[str]


class Speaker:
    def __init__(self, *, refuse_broken: bool) -> None:
        self._refuse_broken = refuse_broken
        self._objects = ObjectSet()
        self._about: dict[Subject, set[ObjectKey]] = {}  # the policies that are judged by a subject
        self._nodes: dict[str, int] = {}  # of pods: how many are there
        self._good: dict[ObjectKey, tuple[Condition, ...]] = {}
        self._broken: dict[ObjectKey, tuple[Condition, ...]] = {}
        self.conditions = Conditions()

    def update(
        self, objects: ObjectSet, treated: Iterable[Target], index: TrafficIndex, others: Others, generation: int
    ) -> Conditions:
        """`treated`: targets to which other Traffic- or RateLimitPolicies apply than before."""
        services = unequal(self._objects.services, objects.services)
        renewed = self._rename(objects)
        again = renewed | self._judged(services, treated, others.routes)
        if self._count_nodes(self._objects.pods, objects.pods):
            again |= {(RATE_LIMIT, key) for key in objects.rate_limits}
        known = Known(objects, index, max(1, len(self._nodes)))
        said = {**others.said, **{key: _of_policy(key, known, generation) for key in again}}
        renewed |= {("HTTPRoute", key) for key in others.routes} | {("Service", key) for key in services}
        broken = self._look_at_broken(objects, generation)
        self._objects = objects
        self._good |= said
        for key in [key for key, now in said.items() if not now]:
            del self._good[key]
        both = {key: self._good.get(key, ()) + self._broken.get(key, ()) for key in said.keys() | broken}
        self.conditions = self.conditions.next(both, renewed | broken)
        return self.conditions

    def _rename(self, objects: ObjectSet) -> set[ObjectKey]:
        """Note what policies are about.  Returns those that are others than before."""
        found = set[ObjectKey]()
        for kind in _KINDS:
            before, now = _table(kind, self._objects), _table(kind, objects)
            for name in unequal(before, now):
                key, old, new = (kind, name), before.get(name), now.get(name)
                for subject in _subjects(old) if old else ():
                    self._about[subject].discard(key)
                    if not self._about[subject]:
                        del self._about[subject]
                for subject in _subjects(new) if new else ():
                    self._about.setdefault(subject, set()).add(key)
                found.add(key)
        return found

    def _judged(self, services: Iterable[str], treated: Iterable[Target], routes: Iterable[str]) -> set[ObjectKey]:
        subjects: set[Subject] = {("HTTPRoute", key) for key in routes} | {(kind, name) for kind, name, _ in treated}
        for key in services:
            subjects |= {("Service", key), ("Namespace", key.partition("/")[0])}
        return {key for subject in subjects for key in self._about.get(subject, ())}

    def _count_nodes(self, before: Mapping[str, PodObject], now: Mapping[str, PodObject]) -> bool:
        """Whether pods are on more or fewer nodes than before."""
        many, new = len(self._nodes), changed(before, now)
        for key in (*new, *gone(before, now)):
            for table, step in ((before, -1), (now, 1)):
                node = table[key].node if key in table else ""
                if node:
                    self._nodes[node] = self._nodes.get(node, 0) + step
                    if not self._nodes[node]:
                        del self._nodes[node]
        return len(self._nodes) != many

    def _look_at_broken(self, objects: ObjectSet, generation: int) -> set[ObjectKey]:
        """Returns the objects that are broken in another way than before."""
        if objects.broken is self._objects.broken:
            return set()
        before = {_key(one): one for one in self._objects.broken}
        now = {_key(one): one for one in objects.broken}
        different = unequal(before, now)
        for key in different:
            self._broken.pop(key, None)
            if key in now:
                said = broken_condition(now[key], generation, refuse_broken=self._refuse_broken)
                self._broken[key] = (said,)
        return different


_KINDS = (policies.KIND, TRAFFIC, RATE_LIMIT)


def _table(kind: str, objects: ObjectSet) -> Mapping[str, Policy]:
    if kind == policies.KIND:
        return objects.policies
    return objects.traffic if kind == TRAFFIC else objects.rate_limits


def _subjects(policy: Policy) -> set[Subject]:
    if isinstance(policy, PolicyObject):
        return judged_by(policy)
    return {target_of(policy.namespace, ref)[:2] for ref in policy.targets}


def _of_policy(key: ObjectKey, known: Known, generation: int) -> tuple[Condition, ...]:
    policy = _table(key[0], known.objects).get(key[1])
    if isinstance(policy, PolicyObject):
        return policy_conditions(policy, known.objects, generation)
    if isinstance(policy, TrafficObject):
        return traffic_conditions(policy, known, generation)
    return limit_conditions(policy, known, generation) if policy else ()


def _key(broken: Broken) -> ObjectKey:
    return broken.identity.kind, broken.identity.key


def broken_condition(broken: Broken, generation: int, *, refuse_broken: bool) -> Condition:
    """A broken object is not accepted; say what is in force instead."""
    first, identity = broken.problems[0], broken.identity
    message = f"{first.message}; {_in_force(broken, refuse_broken=refuse_broken)}"
    return Condition(
        identity.kind, identity.key, "", ACCEPTED, FALSE, broken.reason, message, first.field, generation
    )


def _in_force(broken: Broken, *, refuse_broken: bool) -> str:
    if broken.last_good:
        return "the last good state stays in force"
    targets = ", ".join(f"{target.kind} {target.name}" for target in refused_targets(broken)) if refuse_broken else ""
    return f"it was never good, so {targets} is refused" if targets else "it was never good, so it has no effect"
