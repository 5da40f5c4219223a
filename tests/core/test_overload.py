"""Who is shed first, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.model import Decision, Endpoint
from nodeagent.core.overload import (
    CLIENT_OVERLOADED,
    MEMORY_PRESSURE,
    OVERLOADED,
    POD_BUFFERS_FULL,
    SERVER_OVERLOADED,
    SHED_BYTES,
    SHED_REQUESTS,
    Load,
    Watermark,
    heaviest,
    refused,
)

LOADS = st.lists(st.builds(Load, st.integers(0, 1 << 30), st.integers(0, 1000)), max_size=20)


@given(LOADS)
def test_the_pod_with_the_most_bytes_is_shed_first_then_the_one_with_the_most_requests(loads: list[Load]) -> None:
    found = heaviest(loads)
    holding = [load for load in loads if load.buffered >= SHED_BYTES or load.requests >= SHED_REQUESTS]
    if found is None:
        assert not holding
    else:
        assert (loads[found].buffered, loads[found].requests) == max((one.buffered, one.requests) for one in holding)


@given(st.integers(0, 200), st.booleans())
def test_shedding_starts_above_the_high_mark_and_ends_at_the_low_one(resident: int, shedding: bool) -> None:
    mark = Watermark(high=100, low=80)
    sheds = mark.sheds(resident, shedding)
    if resident > 100:
        assert sheds
    elif resident <= 80:
        assert not sheds
    else:
        assert sheds is shedding


def test_a_refusal_keeps_what_the_decision_found_and_forwards_nothing() -> None:
    decision = Decision(route="shop/web", rule="r", backend="shop/web:80", endpoint=Endpoint("198.18.0.1", 80))
    for refusal in (OVERLOADED, CLIENT_OVERLOADED, SERVER_OVERLOADED, POD_BUFFERS_FULL, MEMORY_PRESSURE):
        answer = refused(decision, refusal)
        assert (answer.status, answer.reason, answer.flag) == (503, refusal.reason, "UO")
        assert answer.detail
        assert answer.endpoint is None
        assert (answer.route, answer.backend) == ("shop/web", "shop/web:80")
