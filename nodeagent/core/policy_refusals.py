"""What is answered when a TrafficPolicy or RateLimitPolicy says no: status, word for `x-mesh-reason`, Envoy's flag.

Timeouts have their words in `nodeagent.core.route_timeouts`, malformed messages in `nodeagent.core.refusals`.
"""

from __future__ import annotations

from typing import NamedTuple


class PolicyRefusal(NamedTuple):
    """`status` is the usual one; `reason` is also the label of the counters."""

    status: int
    reason: str
    flag: str


RATE_LIMITED = PolicyRefusal(429, "rate-limited", "RL")
MAX_CONNECTIONS = PolicyRefusal(503, "circuit-breaker-max-connections", "UO")
MAX_PENDING_REQUESTS = PolicyRefusal(503, "circuit-breaker-max-pending-requests", "UO")
MAX_PARALLEL_REQUESTS = PolicyRefusal(503, "circuit-breaker-max-parallel-requests", "UO")
MAX_PARALLEL_RETRIES = PolicyRefusal(503, "circuit-breaker-max-parallel-retries", "UO")
RETRY_BUDGET = PolicyRefusal(503, "retry-budget", "URX")
FAULT_ABORT = PolicyRefusal(503, "fault-abort", "FI")
"""The policy names the status."""
NO_HEALTHY_ENDPOINT = PolicyRefusal(503, "no-healthy-endpoint", "UH")
"""There are endpoints, but outlier detection has ejected each of them."""

IDLE_TIMEOUT = PolicyRefusal(504, "idle-timeout", "SI")
"""Nothing moved for `timeouts.idle`; once part of a response was passed on, a reset instead."""

FAULT_DELAY_FLAG = "DI"
"""Of a request that was only made to wait."""

ALL = (
    RATE_LIMITED,
    MAX_CONNECTIONS,
    MAX_PENDING_REQUESTS,
    MAX_PARALLEL_REQUESTS,
    MAX_PARALLEL_RETRIES,
    RETRY_BUDGET,
    FAULT_ABORT,
    NO_HEALTHY_ENDPOINT,
    IDLE_TIMEOUT,
)


def rate_limited_detail(policy: str, rule: str) -> str:
    return f"over the limit {rule} of RateLimitPolicy {policy}; retry-after says when to come again"


def retry_budget_detail(policy: str, backend: str) -> str:
    return f"a try failed, and retry.budget of TrafficPolicy {policy} has no retry left for {backend}"


def fault_detail(policy: str) -> str:
    return f"faultInjection of TrafficPolicy {policy} answers in place of the backend"


def no_healthy_detail(policy: str, backend: str) -> str:
    return f"outlierDetection of TrafficPolicy {policy} has ejected every endpoint of {backend}"


def idle_detail(policy: str) -> str:
    return f"neither request nor response went on for timeouts.idle of TrafficPolicy {policy}"
