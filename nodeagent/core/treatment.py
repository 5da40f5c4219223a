"""Which policies a request meets on its way, joined: of the Service dialled, of the route and rule, of the backend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodeagent.core.model import Backend, Destination, Rule, Treatment
from nodeagent.core.traffic import MAX_RETRIES, Balancing, HashOn, LoadBalancer, RateLimitPolicy, Retry, TrafficPolicy

_BY_CALLER = LoadBalancer(Balancing.RING_HASH, HashOn.SOURCE_IP)
NO_POLICY = ""
"""The name of a TrafficPolicy that nobody wrote."""


def treatment_of_rule(destination: Destination, rule: Rule, backend: Backend) -> Treatment | None:
    """None = nothing but forwarding."""
    limits = _each_once(destination.rate_limits, rule.rate_limits, backend.rate_limits)
    traffic = with_affinity(backend.traffic) if backend.affinity else backend.traffic
    if not (traffic or backend.shadow or limits or rule.retry or rule.session):
        return None
    retry = _retry_of_rule(rule.retry, traffic)
    return Treatment(
        backend.name, backend.endpoints, traffic, limits, backend.shadow, retry, rule.session
    )


def treatment_without_route(destination: Destination) -> Treatment | None:
    own = destination
    if not (own.is_managed or own.affinity):
        return None
    traffic = with_affinity(own.traffic) if own.affinity else own.traffic
    return Treatment(own.name, own.endpoints, traffic, own.rate_limits, own.shadow)


def with_affinity(traffic: TrafficPolicy | None) -> TrafficPolicy:
    """What a Service with sessionAffinity asks for: one endpoint per caller's address, unless a policy balances."""
    if traffic is None:
        return TrafficPolicy(NO_POLICY, load_balancer=_BY_CALLER)
    return traffic if traffic.load_balancer else replace(traffic, load_balancer=_BY_CALLER)


def treatment_of_redirect(destination: Destination, rule: Rule) -> Treatment | None:
    """An answer of our own counts against limits too."""
    limits = _each_once(destination.rate_limits, rule.rate_limits)
    return Treatment("", rate_limits=limits) if limits else None


def _retry_of_rule(retry: Retry | None, policy: TrafficPolicy | None) -> Retry | None:
    """A route says nothing of a budget: that of the policy in force counts, else the default.

    Gateway API has no upper bound of `attempts`; a TrafficPolicy has, and a route gets no more.
    """
    if retry is None:
        return None
    budget = policy.retry.budget if policy is not None and policy.retry is not None else retry.budget
    return replace(retry, attempts=min(retry.attempts, MAX_RETRIES), budget=budget)


def _each_once(*groups: Iterable[RateLimitPolicy]) -> tuple[RateLimitPolicy, ...]:
    return tuple(dict.fromkeys(policy for group in groups for policy in group))


def retry_of(treatment: Treatment) -> Retry | None:
    """How tries that fail are followed by others; None = only as ever, where nothing was sent."""
    if treatment.retry is not None:
        return treatment.retry
    return treatment.traffic.retry if treatment.traffic is not None else None


def looks_at_headers(limits: tuple[RateLimitPolicy, ...], traffic: TrafficPolicy | None) -> bool:
    """Whether requests under these need their fields decoded."""
    if any(rule.header or rule.headers for policy in limits for rule in policy.rules):
        return True
    return traffic is not None and traffic.load_balancer is not None and bool(traffic.load_balancer.name)
