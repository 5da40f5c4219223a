"""A circuit breaker as claims: one slot of each cap that is set, held as long as what it counts.

Caps are kept per policy and backend on a node.  Where two policies lead to one backend (of the Service, of a rule)
each counts its own requests.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from nodeagent.core.ledger import Slot, ledger_key
from nodeagent.core.policy_refusals import (
    MAX_CONNECTIONS,
    MAX_PARALLEL_REQUESTS,
    MAX_PARALLEL_RETRIES,
    MAX_PENDING_REQUESTS,
    PolicyRefusal,
)
from nodeagent.core.traffic import CircuitBreaker


class Cap(enum.Enum):
    """The field's name in the policy."""

    CONNECTIONS = "maxConnections"
    PENDING_REQUESTS = "maxPendingRequests"
    PARALLEL_REQUESTS = "maxParallelRequests"
    PARALLEL_RETRIES = "maxParallelRetries"


class Caps(NamedTuple):
    """None = no cap.  `refused_by` finds the cap of a slot that was refused."""

    connections: Slot | None
    pending_requests: Slot | None  # from the decision to forward until a connection is there
    parallel_requests: Slot | None  # to the end of the response, retries' waits included
    parallel_retries: Slot | None  # from the start of the first retry's wait

    def refused_by(self, slot: Slot) -> Cap:
        """Raises ValueError for a slot of others."""
        return tuple(Cap)[self.index(slot)]


_REFUSALS = {
    Cap.CONNECTIONS: MAX_CONNECTIONS,
    Cap.PENDING_REQUESTS: MAX_PENDING_REQUESTS,
    Cap.PARALLEL_REQUESTS: MAX_PARALLEL_REQUESTS,
    Cap.PARALLEL_RETRIES: MAX_PARALLEL_RETRIES,
}


def caps_of(breaker: CircuitBreaker, policy: str, backend: str) -> Caps:
    def slot(cap: Cap, limit: int | None) -> Slot | None:
        return None if limit is None else Slot(ledger_key("breaker", policy, backend, cap.value), limit)

    return Caps(
        slot(Cap.CONNECTIONS, breaker.max_connections),
        slot(Cap.PENDING_REQUESTS, breaker.max_pending_requests),
        slot(Cap.PARALLEL_REQUESTS, breaker.max_parallel_requests),
        slot(Cap.PARALLEL_RETRIES, breaker.max_parallel_retries),
    )


def overflow(cap: Cap) -> PolicyRefusal:
    """What is answered when all slots of the cap are held."""
    return _REFUSALS[cap]


def overflow_detail(cap: Cap, limit: int, policy: str, backend: str) -> str:
    """The one line of a 503's body."""
    held = f"circuitBreaker.{cap.value} of TrafficPolicy {policy} is {limit}"
    return f"{held}, and this node has no more to spare for {backend}"
