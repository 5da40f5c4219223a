"""Injected faults hit the share of requests that the policy names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.faults import NO_FAULT, Fault, fault_of
from nodeagent.core.traffic import FaultInjection

STEPS = 10_000
BOTH = FaultInjection(delay=250, delay_percent=30, abort_status=503, abort_percent=10)
rands = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("percent", [0.01, 1, 12.5, 50, 99.99])
def test_faults_hit_their_percent_of_requests(percent: float) -> None:
    config = FaultInjection(100, percent, 500, percent)
    delays = sum(fault_of(config, step / STEPS, 0.999999).delay_ms == 100 for step in range(STEPS))
    aborts = sum(fault_of(config, 0.999999, step / STEPS).abort_status == 500 for step in range(STEPS))
    assert delays == aborts == pytest.approx(STEPS * percent / 100, abs=1)


@given(rands, rands)
def test_all_and_none_have_no_exception(rand1: float, rand2: float) -> None:
    assert fault_of(FaultInjection(5, 100.0, 418, 100.0), rand1, rand2) == Fault(5, 418)
    assert fault_of(FaultInjection(5, 0.0, 418, 0.0), rand1, rand2) is NO_FAULT
    assert fault_of(FaultInjection(), rand1, rand2) is NO_FAULT


def test_a_delay_and_an_abort_are_drawn_apart() -> None:
    assert fault_of(BOTH, 0.0, 0.0) == Fault(250, 503)
    assert fault_of(BOTH, 0.0, 0.5) == Fault(250, 0)
    assert fault_of(BOTH, 0.5, 0.0) == Fault(0, 503)
    assert fault_of(BOTH, 0.5, 0.5) is NO_FAULT
