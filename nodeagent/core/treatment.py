"""Which policies a request meets on its way, joined: of the Service dialled, of the route and rule, of the backend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodeagent.core.model import Backend, Destination, Rule, Treatment
from nodeagent.core.traffic import Mode, RateLimitPolicy, Retry, TrafficPolicy


def treatment_of_rule(destination: Destination, rule: Rule, backend: Backend) -> Treatment | None:
    """None = nothing but forwarding."""
    limits = _each_once(destination.rate_limits, rule.rate_limits, backend.rate_limits)
    if not (backend.traffic or limits or rule.retry or rule.session):
        return None
    retry = _with_budget(rule.retry, backend.traffic)
    return Treatment(backend.name, backend.endpoints, backend.traffic, limits, retry, rule.session)


def treatment_without_route(destination: Destination) -> Treatment | None:
    if not destination.is_managed:
        return None
    return Treatment(destination.name, destination.endpoints, destination.traffic, destination.rate_limits)


def treatment_of_redirect(destination: Destination, rule: Rule) -> Treatment | None:
    """An answer of our own counts against limits too."""
    limits = _each_once(destination.rate_limits, rule.rate_limits)
    return Treatment("", rate_limits=limits) if limits else None


def _with_budget(retry: Retry | None, policy: TrafficPolicy | None) -> Retry | None:
    """A route says nothing of a budget: that of the policy in force counts, else the default."""
    if retry is None or policy is None or policy.retry is None or policy.mode is not Mode.ENFORCE:
        return retry
    return replace(retry, budget=policy.retry.budget)


def _each_once(*groups: Iterable[RateLimitPolicy]) -> tuple[RateLimitPolicy, ...]:
    return tuple(dict.fromkeys(policy for group in groups for policy in group))
