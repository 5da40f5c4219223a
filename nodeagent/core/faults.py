"""Faults that a TrafficPolicy injects: which of them one request suffers."""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.core.traffic import FaultInjection


class Fault(NamedTuple):
    """`delay` ms before anything else; then `status` is answered in the backend's place, 0 = the request goes on."""

    delay: int
    status: int


def fault_of(config: FaultInjection, rand1: float, rand2: float) -> Fault | None:
    """None = neither.  Delay and abort are drawn apart, each with its own number in [0, 1)."""
    delay = config.delay if rand1 * 100 < config.delay_percent else 0
    status = config.abort_status if rand2 * 100 < config.abort_percent else 0
    return Fault(delay, status) if delay or status else None
