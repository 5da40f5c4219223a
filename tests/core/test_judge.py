"""The prepared decision equals the plain one."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core.decide import decide
from nodeagent.core.judge import MAX_CALLERS, Judge
from nodeagent.core.model import Destination, Endpoint, Protocol, RequestHead, Workload
from nodeagent.regex import compile_regex
from tests.core import strategies as some

WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))
GET = RequestHead("GET", "/", "", "a", ())


@settings(max_examples=500, deadline=None)
@given(
    some.destinations | some.routed_destinations(),
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


def test_views_of_callers_are_bounded() -> None:
    judge = Judge(plain_frontend((Endpoint("10.0.0.9", 8080),)), compile_regex)
    for number in range(MAX_CALLERS + 10):
        caller = dataclasses.replace(WEB, service_account=f"sa{number}")
        judge.decide(caller, "10.0.0.1", GET, 0.0)
    assert len(judge._views) <= MAX_CALLERS


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
