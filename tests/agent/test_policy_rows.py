"""`nodeagent get` of TrafficPolicies and RateLimitPolicies: rows from manifests, the way the agent makes them."""

from __future__ import annotations

from typing import Any

from nodeagent.agent.policy_rows import rate_limit_rows, traffic_rows
from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import programmed
from tests.config import builders as some
from tests.testbed.manifests import Document, rate_limit_policy, traffic_policy

SERVICE: Document = {"group": "", "kind": "Service", "name": "cart"}
GONE: Document = {**SERVICE, "name": "gone"}
BASE = [*some.callers(), *some.service("cart")]

CONNECTIONS = {"limit": {"connections": 5}}


def rows(*documents: Document, acknowledged: int = 1) -> dict[str, dict[str, Any]]:
    """`acknowledged`: the generation that workers and kernel have; the documents are of the first."""
    objects = some.load({"base.yaml": some.text(*BASE), "policies.yaml": some.text(*documents)})[1]
    conditions = programmed(compile_objects(objects, 1)[1], acknowledged)
    found = [*traffic_rows(objects, conditions), *rate_limit_rows(objects, conditions)]
    return {row["name"]: row for row in found}


def test_a_row_says_what_a_policy_asks_for() -> None:
    limits = traffic_policy("shop", "n", {"kind": "Namespace", "name": "shop"}, limits={"maxConnections": 9})
    found = rows(
        traffic_policy("shop", "t", SERVICE, mode="DryRun", timeouts={"request": "2s"}, circuitBreaker={}),
        rate_limit_policy("shop", "l", SERVICE, connections=CONNECTIONS),
        limits,
    )
    traffic = found["t"]
    assert (traffic["targets"], traffic["mode"], traffic["accepted"]) == (["Service shop/cart"], "DryRun", "True")
    assert (traffic["timeouts"], traffic["breaker"], traffic["retry"]) == ("request 2s", "no cap", "")
    assert (found["l"]["connections"], found["l"]["limits"]) == ("5 per 1s burst 5", [])
    assert found["l"]["message"].startswith("limits are per node; connections: 5 per 1s burst 5 on each node")
    assert (found["n"]["targets"], found["n"]["limits"]) == (["Namespace shop"], "connections 9")


def test_a_row_says_for_which_targets_a_policy_is_not_accepted() -> None:
    found = rows(traffic_policy("shop", "t", SERVICE, GONE), traffic_policy("shop", "u", GONE))
    assert [(name, row["accepted"], row["state"]) for name, row in found.items()] == [
        ("t", "Partly", "TargetNotFound"),
        ("u", "False", "TargetNotFound"),
    ]
    assert found["t"]["message"].startswith("spec.targetRefs[1].name: Service shop/gone does not exist")


def test_a_row_has_the_conditions_towards_each_target_with_field_and_whether_it_is_programmed() -> None:
    policy = traffic_policy("shop", "t", SERVICE, GONE)
    said = [
        (one["parent"], one["type"], one["status"], one["reason"], one["field"])
        for one in rows(policy, acknowledged=1)["t"]["conditions"]
    ]
    assert said == [
        ("Service shop/cart", "Accepted", "True", "Accepted", ""),
        ("Service shop/cart", "Programmed", "True", "Programmed", ""),
        ("Service shop/gone", "Accepted", "False", "TargetNotFound", "spec.targetRefs[1].name"),
    ]


def test_a_policy_is_in_force_once_workers_and_kernel_have_it() -> None:
    policies = traffic_policy("shop", "t", SERVICE), rate_limit_policy("shop", "l", SERVICE, connections=CONNECTIONS)
    for acknowledged, state in ((0, "pending"), (1, "in force")):
        found = rows(*policies, acknowledged=acknowledged)
        assert [(row["accepted"], row["state"]) for row in found.values()] == [("True", state)] * 2


def test_a_policy_that_never_was_good_has_a_row_that_says_why() -> None:
    row = rows(traffic_policy("shop", "t", SERVICE, timeouts={"request": "soon"}))["t"]
    assert (row["accepted"], row["state"], row["targets"]) == ("False", "Invalid", [])
    assert row["message"].startswith("spec.timeouts.request: 'soon' is not a duration")
