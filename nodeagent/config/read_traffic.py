"""A validated TrafficPolicy manifest as the values that the data path uses, with the defaults filled in."""

from __future__ import annotations

from typing import Any

from nodeagent.config.quantities import byte_count
from nodeagent.config.read_common import creation_time, target_refs
from nodeagent.config.resources import Identity, TrafficObject
from nodeagent.core.durations import milliseconds
from nodeagent.core.traffic import (
    Balancing,
    CircuitBreaker,
    FaultInjection,
    HashOn,
    LoadBalancer,
    Mode,
    OutlierDetection,
    PodLimits,
    PolicyTimeouts,
    Retry,
    RetryBudget,
    SuccessRate,
    TrafficPolicy,
)

Value = dict[str, Any]


def read_traffic(identity: Identity, value: Value) -> TrafficObject:
    spec = value["spec"]
    policy = TrafficPolicy(
        name=identity.key,
        mode=Mode(spec.get("mode") or "Enforce"),
        timeouts=_timeouts(spec.get("timeouts") or {}, spec.get("retry") or {}),
        retry=_retry(spec.get("retry")),
        circuit_breaker=_breaker(spec.get("circuitBreaker")),
        outlier_detection=_outliers(spec.get("outlierDetection")),
        load_balancer=_balancer(spec.get("loadBalancer")),
        fault_injection=_fault(spec.get("faultInjection")),
    )
    created, targets = creation_time(value["metadata"]), target_refs(spec)
    limits = _limits(identity.key, spec.get("limits"))
    return TrafficObject(identity.namespace, identity.name, created, targets, policy, limits)


def _given(value: Value, names: dict[str, str]) -> dict[str, Any]:
    """Field of ours -> what its field of the manifest says; fields that say nothing keep their default."""
    return {ours: value[theirs] for ours, theirs in names.items() if value.get(theirs) is not None}


def _times(value: Value, names: dict[str, str]) -> dict[str, int]:
    return {name: milliseconds(text) for name, text in _given(value, names).items()}


def _timeouts(value: Value, retry: Value) -> PolicyTimeouts:
    times = _times(value, {"connect": "connect", "idle": "idle", "request": "request", "per_try": "backendRequest"})
    tries = [time for time in (times.pop("per_try", 0), milliseconds(retry.get("perTryTimeout") or "")) if time]
    return PolicyTimeouts(**times, per_try=min(tries, default=0))


def _retry(value: Value | None) -> Retry | None:
    if value is None:
        return None
    given = _given(value, {"attempts": "attempts", "codes": "codes", "on_connect_failure": "onConnectFailure"})
    if "codes" in given:
        given["codes"] = frozenset(given["codes"])
    given |= _times(value, {"backoff": "backoff"})
    return Retry(**given, budget=_budget(value.get("budget") or {}))


def _budget(value: Value) -> RetryBudget:
    floor = value.get("minRetryRate") or {}
    return RetryBudget(
        **_given(value, {"percent": "percent"}),
        **_times(value, {"interval": "interval"}),
        **_given(floor, {"floor": "count"}),
        **_times(floor, {"floor_interval": "interval"}),
    )


def _breaker(value: Value | None) -> CircuitBreaker | None:
    if value is None:
        return None
    names = {
        "max_connections": "maxConnections",
        "max_pending_requests": "maxPendingRequests",
        "max_parallel_requests": "maxParallelRequests",
        "max_parallel_retries": "maxParallelRetries",
    }
    return CircuitBreaker(**_given(value, names))


def _outliers(value: Value | None) -> OutlierDetection | None:
    if value is None:
        return None
    counts = {
        "consecutive_5xx": "consecutive5xxErrors",
        "consecutive_gateway_errors": "consecutiveGatewayErrors",
        "consecutive_local_origin_failures": "consecutiveLocalOriginFailures",
        "max_ejection_percent": "maxEjectionPercent",
    }
    times = _times(value, {"interval": "interval", "base_ejection_time": "baseEjectionTime"})
    longest = max(OutlierDetection().max_ejection_time, times.get("base_ejection_time", 0))
    longest = _times(value, {"longest": "maxEjectionTime"}).get("longest", longest)
    rate = _success_rate(value.get("successRate"))
    return OutlierDetection(**_given(value, counts), **times, max_ejection_time=longest, success_rate=rate)


def _success_rate(value: Value | None) -> SuccessRate | None:
    if value is None:
        return None
    names = {"minimum_hosts": "minimumHosts", "request_volume": "requestVolume", "stdev_factor": "stdevFactor"}
    return SuccessRate(**_given(value, names))


def _balancer(value: Value | None) -> LoadBalancer | None:
    if value is None:
        return None
    if value["type"] != "RingHash":
        return LoadBalancer(Balancing(value["type"]))
    hashed = value["hash"]
    on, cookie = HashOn(hashed["type"]), hashed.get("cookie") or {}
    name = cookie.get("name") or (hashed.get("header") or {}).get("name", "").lower()
    ttl = milliseconds(cookie.get("ttl") or "")
    return LoadBalancer(Balancing.RING_HASH, on, name, ttl, cookie.get("path") or "/")


def _fault(value: Value | None) -> FaultInjection | None:
    if value is None:
        return None
    delay, abort = value.get("delay") or {}, value.get("abort") or {}
    return FaultInjection(
        **_times(delay, {"delay": "duration"}),
        delay_percent=float(delay.get("percent", 0)),
        abort_status=abort.get("status", 0),
        abort_percent=float(abort.get("percent", 0)),
    )


def _limits(policy: str, value: Value | None) -> PodLimits | None:
    if value is None:
        return None
    names = {"max_connections": "maxConnections", "max_parallel_requests": "maxParallelRequests"}
    most = value.get("maxBufferedBytes")
    return PodLimits(policy, **_given(value, names), max_buffered_bytes=None if most is None else byte_count(most))
