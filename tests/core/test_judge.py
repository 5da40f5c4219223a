"""The prepared decision equals the plain one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core.decide import decide
from nodeagent.core.judge import MAX_CALLERS, Judge
from nodeagent.core.model import (
    Action,
    Destination,
    Endpoint,
    EnforcementLevel,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Source,
    Workload,
)
from nodeagent.regex import compile_regex
from tests.core import strategies as some

WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))
GET = RequestHead("GET", "/", "", "a", ())


@settings(max_examples=500, deadline=None)
@given(
    some.destinations | some.routed_destinations() | some.crowded_destinations(),
    st.lists(some.workloads, min_size=1, max_size=2),
    some.heads,
    some.randoms,
)
def test_judge_agrees_with_the_plain_decision(
    destination: Destination, callers: list[Workload], head: RequestHead, rand: float
) -> None:
    judge = Judge(destination, compile_regex)
    for caller in callers:
        for address in ("", *caller.addresses):
            wanted = decide(destination, caller, address, head, rand, compile_regex)
            assert judge.decide(caller, address, head, rand) == wanted
            assert judge.decide(caller, address, head, rand) == wanted, "a second call answers differently"


def plain_frontend(endpoints: tuple[Endpoint, ...]) -> Destination:
    return Destination("shop/a:80", "198.18.0.1", 80, Protocol.HTTP1, True, endpoints=endpoints)


def policed(frontend: Destination) -> Destination:
    """Callers are told apart by a policy."""
    source = Source(service_accounts=("shop/sa1", "shop/sa3"))
    rule = PolicyRule((source,), (), ())
    return dataclasses.replace(
        frontend, policies=(Policy("shop/p", Action.DENY, EnforcementLevel.APPLICATION, (rule,)),)
    )


def test_callers_remembered_are_bounded_and_the_latest_are_kept() -> None:
    judge = Judge(policed(plain_frontend((Endpoint("10.0.0.9", 8080),))), compile_regex)
    for number in range(3 * MAX_CALLERS):
        judge.decide(dataclasses.replace(WEB, service_account=f"sa{number}"), "10.0.0.1", GET, 0.0)
    assert MAX_CALLERS <= judge._views.held <= 2 * MAX_CALLERS


def test_callers_to_whom_the_same_policies_apply_share_what_is_prepared() -> None:
    judge = Judge(policed(plain_frontend((Endpoint("10.0.0.9", 8080),))), compile_regex)
    callers = [dataclasses.replace(WEB, service_account=f"sa{number}") for number in range(6)]
    statuses = [judge.decide(caller, "10.0.0.1", GET, 0.0).status for caller in callers]
    assert statuses == [0, 403, 0, 403, 0, 0]
    assert len({id(view) for view in judge._views.values()}) == 2


def test_callers_are_not_looked_at_where_nothing_tells_them_apart() -> None:
    judge = Judge(plain_frontend((Endpoint("10.0.0.9", 8080),)), compile_regex)
    for number in range(10):
        judge.decide(dataclasses.replace(WEB, service_account=f"sa{number}"), "10.0.0.1", GET, 0.0)
    assert judge._views.held == 1


def test_where_there_is_no_room_to_keep_decisions_they_are_made_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeagent.core.judge.MAX_DECISIONS", 3)
    endpoints = tuple(Endpoint(f"10.0.0.{n}", 8080) for n in range(4))
    judge = Judge(plain_frontend(endpoints), compile_regex)
    made = [judge.decide(WEB, "10.0.0.1", GET, rand) for rand in (0.0, 0.0, 0.99)]
    assert [one.endpoint for one in made] == [endpoints[0], endpoints[0], endpoints[3]]
    assert made[0] is not made[1]
    kept = Judge(plain_frontend(endpoints[:3]), compile_regex)
    assert kept.decide(WEB, "10.0.0.1", GET, 0.0) is kept.decide(WEB, "10.0.0.1", GET, 0.0)


def test_one_random_number_reaches_every_endpoint_of_a_frontend_equally() -> None:
    endpoints = tuple(Endpoint(f"10.0.0.{n}", 8080) for n in range(7))
    judge = Judge(plain_frontend(endpoints), compile_regex)
    chosen = [judge.decide(WEB, "10.0.0.1", GET, step / 700).endpoint for step in range(700)]
    assert {endpoint: chosen.count(endpoint) for endpoint in endpoints} == dict.fromkeys(endpoints, 100)


def test_an_endpoint_dialled_directly_is_where_the_request_goes() -> None:
    direct = Destination("10.0.0.9:8080", "10.0.0.9", 8080, Protocol.HTTP1, False)
    decision = Judge(direct, compile_regex).decide(WEB, "10.0.0.1", GET, 0.5)
    assert decision.endpoint == Endpoint("10.0.0.9", 8080)


def test_a_frontend_without_a_ready_endpoint_answers_503() -> None:
    decision = Judge(plain_frontend(()), compile_regex).decide(WEB, "10.0.0.1", GET, 0.5)
    assert (decision.status, decision.reason, decision.flag) == (503, "no-endpoint", "UH")
