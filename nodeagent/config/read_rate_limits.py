"""A validated RateLimitPolicy manifest as the values that the data path uses, with the defaults filled in."""

from __future__ import annotations

from typing import Any

from nodeagent.config.read_common import creation_time, target_refs
from nodeagent.config.resources import Identity, RateLimitObject
from nodeagent.core.durations import milliseconds
from nodeagent.core.traffic import ConnectionRate, Limit, Mode, Per, RateLimitPolicy, RateLimitRule

Value = dict[str, Any]


def read_rate_limits(identity: Identity, value: Value) -> RateLimitObject:
    spec = value["spec"]
    mode = Mode(spec.get("mode") or "Enforce")
    http, connections = spec.get("http"), spec.get("connections")
    return RateLimitObject(
        identity.namespace,
        identity.name,
        creation_time(value["metadata"]),
        target_refs(spec),
        mode,
        _http(identity.key, mode, http) if http else None,
        ConnectionRate(identity.key, _limit(connections["limit"], "connections"), mode) if connections else None,
    )


def _http(name: str, mode: Mode, http: Value) -> RateLimitPolicy:
    answer = http.get("onLimit") or {}
    rules = tuple(_rule(rule) for rule in http["rules"])
    return RateLimitPolicy(name, rules, mode, answer.get("status") or 429, _pairs(answer.get("headers"), lower=False))


def _rule(rule: Value) -> RateLimitRule:
    selectors = rule.get("clientSelectors") or {}
    return RateLimitRule(
        name=rule["name"],
        limit=_limit(rule["limit"], "requests"),
        per=Per(rule.get("per") or "Total"),
        header=(rule.get("header") or "").lower(),
        service_accounts=tuple(f"{one['namespace']}/{one['name']}" for one in selectors.get("serviceAccounts") or ()),
        headers=_pairs(selectors.get("headers"), lower=True),
        cidrs=tuple(selectors.get("sourceCIDRs") or ()),
    )


def _limit(value: Value, what: str) -> Limit:
    """A bucket holds what an interval brings, unless it is told otherwise."""
    return Limit(value[what], milliseconds(value.get("interval") or "1s"), value.get("burst") or value[what])


def _pairs(headers: list[Value] | None, *, lower: bool) -> tuple[tuple[str, str], ...]:
    return tuple((one["name"].lower() if lower else one["name"], one["value"]) for one in headers or ())
