"""An explanation is the data path's own decision, taken apart."""

from __future__ import annotations

from hypothesis import given, settings

from nodeagent.core.decide import decide
from nodeagent.core.explain import explain
from nodeagent.core.model import Destination, RequestHead, Workload
from nodeagent.regex import compile_regex
from tests.core import strategies as some


@settings(max_examples=300, deadline=None)
@given(some.destinations | some.routed_destinations(), some.workloads, some.heads, some.randoms)
def test_what_is_decided_is_one_of_the_outcomes(
    destination: Destination, caller: Workload, head: RequestHead, rand: float
) -> None:
    address = next(iter(caller.addresses), "")
    found = explain(destination, caller, address, head, compile_regex)
    decision = decide(destination, caller, address, head, rand, compile_regex)
    assert abs(sum(outcome.share for outcome in found.outcomes) - 1) < 1e-9
    assert (decision.backend, decision.status, decision.detail) in {
        (outcome.backend, outcome.status, outcome.detail) for outcome in found.outcomes
    }


@settings(max_examples=300, deadline=None)
@given(some.routed_destinations(), some.workloads, some.heads)
def test_a_denying_policy_is_among_the_steps_with_what_it_protects(
    destination: Destination, caller: Workload, head: RequestHead
) -> None:
    found = explain(destination, caller, next(iter(caller.addresses), ""), head, compile_regex)
    if found.decision.policy:
        named = [step for step in found.policies if step.policy == found.decision.policy]
        assert found.decision.backend in {"", *(step.protects for step in named)}
        assert any(step.matched is (step.action == "DENY") for step in named)
