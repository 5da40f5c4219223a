"""TrafficPolicies and RateLimitPolicies as rows of `nodeagent get`: what they ask for, and whether it is accepted.

Not from the snapshot: a policy that no request meets is shown, too, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nodeagent.agent.condition_rows import by_object, condition_rows, state_of
from nodeagent.config.conditions import ACCEPTED, FALSE, TRUE, Condition
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import RateLimitObject, TrafficObject
from nodeagent.config.traffic_conditions import RATE_LIMIT, TRAFFIC, parent_name
from nodeagent.core.treatment_text import limit_text, pod_limits_text, rule_text, traffic_parts

Row = dict[str, Any]


def traffic_rows(objects: ObjectSet, conditions: Iterable[Condition]) -> Iterator[Row]:
    said = by_object(TRAFFIC, conditions)
    for one in objects.traffic.values():
        limits = pod_limits_text(one.limits) if one.limits else ""
        parts = {"mode": one.policy.mode.value, **traffic_parts(one.policy), "limits": limits}
        yield {**_base(one, said.pop(one.key, [])), **parts}
    yield from _never_good(said)


def rate_limit_rows(objects: ObjectSet, conditions: Iterable[Condition]) -> Iterator[Row]:
    said = by_object(RATE_LIMIT, conditions)
    for one in objects.rate_limits.values():
        rules = [rule_text(rule) for rule in one.http.rules] if one.http else []
        connections = limit_text(one.connections.limit) if one.connections else ""
        parts = {"mode": one.mode.value, "limits": rules, "connections": connections}
        yield {**_base(one, said.pop(one.key, [])), **parts}
    yield from _never_good(said)


def _base(policy: TrafficObject | RateLimitObject, said: list[Condition]) -> Row:
    targets = [parent_name(policy.namespace, ref) for ref in policy.targets]
    return {"namespace": policy.namespace, "name": policy.name, "targets": targets, **_judged(said)}


def _judged(said: list[Condition]) -> Row:
    """`accepted` "Partly": by some targets, or by all, but as it last was good."""
    accepted = [one for one in said if one.type == ACCEPTED]
    bad = [one for one in accepted if one.status == FALSE]
    partly = bad and any(one.status == TRUE for one in accepted)
    lines = dict.fromkeys(_line(one) for one in (*bad, *accepted) if one.message)
    return {
        "accepted": "Partly" if partly else FALSE if bad else TRUE,
        "state": bad[0].reason if bad else state_of(said),
        "message": "; ".join(lines),
        "conditions": condition_rows(said),
    }


def _line(condition: Condition) -> str:
    """With the field that is to blame, which tells the target, too."""
    return f"{condition.field}: {condition.message}" if condition.status == FALSE else condition.message


def _never_good(said: dict[str, list[Condition]]) -> Iterator[Row]:
    for key, conditions in said.items():
        namespace, _, name = key.partition("/")
        yield {"namespace": namespace, "name": name, "targets": [], "mode": "", **_judged(conditions)}
