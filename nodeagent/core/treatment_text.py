"""TrafficPolicies and RateLimitPolicies for people: a few words a part, a line a policy."""

from __future__ import annotations

from collections.abc import Mapping

from nodeagent.core.durations import duration_text
from nodeagent.core.model import Treatment, Workload
from nodeagent.core.traffic import (
    CircuitBreaker,
    ConnectionRate,
    FaultInjection,
    Limit,
    LoadBalancer,
    Mode,
    OutlierDetection,
    Per,
    PodLimits,
    PolicyTimeouts,
    RateLimitPolicy,
    RateLimitRule,
    Retry,
    SessionPersistence,
    TrafficPolicy,
)


def described(treatment: Treatment | None) -> list[str]:
    """What the rule asks for itself, then every policy that a request meets, the enforced TrafficPolicy first."""
    if treatment is None:
        return []
    own = [f"the route's rule: {rule_parts_text(treatment)}"] if treatment.retry or treatment.session else []
    traffic = [traffic_line(policy) for policy in (treatment.traffic, treatment.shadow) if policy is not None]
    return own + traffic + [rate_limit_line(policy) for policy in treatment.rate_limits]


def rule_parts_text(treatment: Treatment) -> str:
    """ "retry 2 on connect 503, backoff 25ms, budget ..., in place of the policy's; session by Cookie id"."""
    found = []
    if treatment.retry:
        instead = ", in place of the policy's" if treatment.traffic and treatment.traffic.retry else ""
        found.append(f"retry {own_retry_text(treatment.retry)}{instead}")
    if treatment.session:
        found.append(f"session by {session_text(treatment.session)}")
    return "; ".join(found)


def own_retry_text(retry: Retry) -> str:
    """Of a rule, which may turn retries off: "none"."""
    return retry_text(retry) if retry.attempts else "none"


def session_text(session: SessionPersistence) -> str:
    """ "Cookie mesh-1a2b for 1h"."""
    ends = f" for {duration_text(session.absolute_timeout)}" if session.absolute_timeout else ""
    return f"{session.carrier.value} {session.name}{ends}"


def traffic_line(policy: TrafficPolicy) -> str:
    said = "; ".join(f"{name} {text}" for name, text in traffic_parts(policy).items() if text)
    who = f"TrafficPolicy {policy.name}" if policy.name else "sessionAffinity of the Service"
    return f"{who}{_mode(policy.mode)}: {said or 'asks for nothing'}"


def rate_limit_line(policy: RateLimitPolicy) -> str:
    said = "; ".join(rule_text(rule) for rule in policy.rules)
    return f"RateLimitPolicy {policy.name}{_mode(policy.mode)}: {said}; over it {policy.status}"


def connection_line(rate: ConnectionRate) -> str:
    return f"RateLimitPolicy {rate.policy}{_mode(rate.mode)}: connections {limit_text(rate.limit)}"


def caps_lines(pod: Workload) -> list[str]:
    """What the namespace of a pod allows it inside the proxy."""
    found = [(pod.limits, Mode.ENFORCE), (pod.shadow_limits, Mode.DRY_RUN)]
    return [f"TrafficPolicy {one.policy}{_mode(mode)}: {pod_limits_text(one)}" for one, mode in found if one]


def traffic_parts(policy: TrafficPolicy) -> Mapping[str, str]:
    """Part of a TrafficPolicy -> what it asks for, "" = nothing."""
    return {
        "timeouts": timeouts_text(policy.timeouts),
        "retry": retry_text(policy.retry) if policy.retry else "",
        "breaker": breaker_text(policy.circuit_breaker) if policy.circuit_breaker else "",
        "outlier": outlier_text(policy.outlier_detection) if policy.outlier_detection else "",
        "balancer": balancer_text(policy.load_balancer) if policy.load_balancer else "",
        "fault": fault_text(policy.fault_injection) if policy.fault_injection else _left_out(policy),
    }


def _left_out(policy: TrafficPolicy) -> str:
    return "left out, as the agent runs without --allow-fault-injection" if policy.faults_left_out else ""


def timeouts_text(timeouts: PolicyTimeouts) -> str:
    given = {"connect": timeouts.connect, "idle": timeouts.idle, "request": timeouts.request, "try": timeouts.per_try}
    return ", ".join(f"{name} {duration_text(time)}" for name, time in given.items() if time)


def retry_text(retry: Retry) -> str:
    """ "2 on connect 502 503, backoff 25ms, budget 20% of 10s or 10 per 1s"."""
    causes = [*(["connect"] if retry.on_connect_failure else []), *map(str, sorted(retry.codes))]
    budget = retry.budget
    share = f"{budget.percent}% of {duration_text(budget.interval)}"
    floor = f"{budget.floor} per {duration_text(budget.floor_interval)}"
    on = " ".join(causes) or "nothing"
    return f"{retry.attempts} on {on}, backoff {duration_text(retry.backoff)}, budget {share} or {floor}"


def breaker_text(breaker: CircuitBreaker) -> str:
    caps = {
        "connections": breaker.max_connections,
        "pending": breaker.max_pending_requests,
        "requests": breaker.max_parallel_requests,
        "retries": breaker.max_parallel_retries,
    }
    return _caps(caps)


def outlier_text(outliers: OutlierDetection) -> str:
    """ "5xx 5, local 5, ejects for 30s to 5m, at most 10%, every 10s"."""
    counts = {
        "5xx": outliers.consecutive_5xx,
        "gateway": outliers.consecutive_gateway_errors,
        "local": outliers.consecutive_local_origin_failures,
    }
    found = [f"{name} {count}" for name, count in counts.items() if count]
    if outliers.success_rate is not None:
        found.append(f"success rate {outliers.success_rate.stdev_factor / 1000:g} deviations below")
    first, longest = duration_text(outliers.base_ejection_time), duration_text(outliers.max_ejection_time)
    most = f"at most {outliers.max_ejection_percent}%"
    return ", ".join([*found, f"ejects for {first} to {longest}", most, f"every {duration_text(outliers.interval)}"])


def balancer_text(balancer: LoadBalancer) -> str:
    if balancer.hash_on is None:
        return balancer.type.value
    return f"{balancer.type.value} by {balancer.hash_on.value}" + (f" {balancer.name}" if balancer.name else "")


def fault_text(fault: FaultInjection) -> str:
    delay = [f"delay {duration_text(fault.delay)} for {fault.delay_percent:g}%"] if fault.delay else []
    abort = [f"abort with {fault.abort_status} for {fault.abort_percent:g}%"] if fault.abort_status else []
    return ", ".join(delay + abort)


def pod_limits_text(limits: PodLimits) -> str:
    caps = {
        "connections": limits.max_connections,
        "requests": limits.max_parallel_requests,
        "bytes": limits.max_buffered_bytes,
    }
    return _caps(caps)


def rule_text(rule: RateLimitRule) -> str:
    """ "each 10 per 1s burst 20 for each value of x-key of service accounts batch/*"."""
    selected = [
        ("of service accounts", rule.service_accounts),
        ("with", tuple(f"{name}: {value}" for name, value in rule.headers)),
        ("from", rule.cidrs),
    ]
    whose = "".join(f" {how} {' '.join(items)}" for how, items in selected if items)
    return f"{rule.name} {limit_text(rule.limit)}{each_text(rule)}{whose}"


def each_text(rule: RateLimitRule) -> str:
    """Whose a bucket is: "", or " for each value of x-key"."""
    return {
        Per.TOTAL: "",
        Per.SERVICE_ACCOUNT: " for each account",
        Per.HEADER: f" for each value of {rule.header}",
        Per.SOURCE_IP: " for each caller address",
    }[rule.per]


def limit_text(limit: Limit) -> str:
    return f"{limit.requests} per {duration_text(limit.interval)} burst {limit.burst}"


def _caps(caps: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name} {cap}" for name, cap in caps.items() if cap is not None) or "no cap"


def _mode(mode: Mode) -> str:
    return " (DryRun)" if mode is Mode.DRY_RUN else ""
