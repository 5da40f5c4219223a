"""Fault injection: which requests are made to wait, and which are answered in place of the backend."""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.core.traffic import FaultInjection


class Fault(NamedTuple):
    """Of one request: the delay comes before the answer.  0 = none."""

    delay_ms: int
    abort_status: int


NO_FAULT = Fault(0, 0)


def fault_of(config: FaultInjection, rand1: float, rand2: float) -> Fault:
    """`rand1` decides the delay and `rand2` the abort, each on its own; both in [0, 1)."""
    delay = config.delay if rand1 * 100 < config.delay_percent else 0
    status = config.abort_status if rand2 * 100 < config.abort_percent else 0
    return Fault(delay, status) if delay or status else NO_FAULT
