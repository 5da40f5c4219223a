"""Caps that let nothing through, whatever else is under way: for `explain`, which knows no counts.

A worker finds out by counting; here it is told ahead, with the words that it would use, in its order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from nodeagent.core.breaker import Cap, overflow, overflow_detail
from nodeagent.core.model import Decision, Endpoint, Workload
from nodeagent.core.overload import CLIENT_OVERLOADED, SERVER_OVERLOADED, detail_of
from nodeagent.core.policy_refusals import FAULT_ABORT, PolicyRefusal, fault_detail
from nodeagent.core.traffic import CircuitBreaker, TrafficPolicy

EVERYONE = 100
"""Percent."""


def takes_no_connection(pod: Workload) -> str:
    """The policy by which each proxied connection of the pod is reset at accept, or ""."""
    return pod.limits.policy if pod.limits is not None and pod.limits.max_connections == 0 else ""


def closed_servers(pods: Iterable[Workload]) -> dict[str, str]:
    """Address -> policy, of those that may have no request under way as servers; `pods` are this node's."""
    limited = ((pod, pod.limits) for pod in pods if pod.limits is not None)
    shut = ((pod, limits.policy) for pod, limits in limited if limits.max_parallel_requests == 0)
    return {address: policy for pod, policy in shut for address in pod.addresses}


def as_closed(
    decision: Decision, caller: Workload, endpoints: Collection[Endpoint], servers: Mapping[str, str]
) -> Decision:
    """`decision`, or the answer where no request like it ever gets through.

    `endpoints` are all that it may go to, `servers` those that are closed (`closed_servers`).
    """
    if decision.status:
        return decision
    found = next(_closed(decision, caller, endpoints, servers), None)
    if found is None:
        return decision
    (status, reason, flag), detail, policy = found
    return replace(decision, status=status, reason=reason, flag=flag, detail=detail, policy=policy, endpoint=None)


Found = tuple[PolicyRefusal, str, str]  # ..., the line of text, the policy


def _closed(
    decision: Decision, caller: Workload, endpoints: Collection[Endpoint], servers: Mapping[str, str]
) -> Iterator[Found]:
    limits, traffic = caller.limits, decision.treatment.traffic if decision.treatment is not None else None
    if limits is not None and limits.max_parallel_requests == 0:
        yield CLIENT_OVERLOADED, f"{detail_of(CLIENT_OVERLOADED)}: {_none(limits.policy)}", limits.policy
    if traffic is not None:
        yield from _by_policy(traffic, decision.backend)
    policies = [servers.get(endpoint.address, "") for endpoint in endpoints]
    if policies and all(policies):
        yield SERVER_OVERLOADED, f"{detail_of(SERVER_OVERLOADED)}: {_none(policies[0])}", policies[0]


def _none(policy: str) -> str:
    return f"limits.maxParallelRequests of TrafficPolicy {policy} is 0"


def _by_policy(traffic: TrafficPolicy, backend: str) -> Iterator[Found]:
    breaker, fault = traffic.circuit_breaker or CircuitBreaker(), traffic.fault_injection
    if breaker.max_parallel_requests == 0:
        yield _by_cap(Cap.PARALLEL_REQUESTS, traffic, backend)
    if fault is not None and fault.abort_status and fault.abort_percent >= EVERYONE:
        yield FAULT_ABORT._replace(status=fault.abort_status), fault_detail(traffic.name), traffic.name
    if breaker.max_connections == 0:
        yield _by_cap(Cap.CONNECTIONS, traffic, backend)
    if breaker.max_pending_requests == 0:
        yield _by_cap(Cap.PENDING_REQUESTS, traffic, backend)


def _by_cap(cap: Cap, traffic: TrafficPolicy, backend: str) -> Found:
    return overflow(cap), overflow_detail(cap, 0, traffic.name, backend), traffic.name
