"""The `timeouts` of an HTTPRoute rule, and what is said when one is over.

Pure: who holds the clock is nodeagent.proxy.timed_exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.core.durations import duration_text
from nodeagent.core.traffic import TrafficPolicy

REQUEST_TIMEOUT = "request-timeout"
BACKEND_REQUEST_TIMEOUT = "backend-request-timeout"
ABORTED = "-aborted"
"""Added to a reason when part of the response was sent: the client saw a reset, and no 504."""
_FIELDS = {REQUEST_TIMEOUT: "request", BACKEND_REQUEST_TIMEOUT: "backendRequest"}


@dataclass(frozen=True, slots=True)
class RouteTimeouts:
    """Milliseconds, 0 = none, None = not set.  Where none is in force, requests take the usual way: see `joined`.

    `request`: from the request's head to the end of its response.  `backend_request`: the same of each try.
    `request_by` and `backend_request_by` name the TrafficPolicy that sets it, "" = the rule itself.
    """

    request: int | None = None
    backend_request: int | None = None
    request_by: str = ""
    backend_request_by: str = ""

    def of(self, reason: str) -> int:
        return (self.request if reason == REQUEST_TIMEOUT else self.backend_request) or 0

    def by(self, reason: str) -> str:
        return self.request_by if reason == REQUEST_TIMEOUT else self.backend_request_by


NO_TIMEOUTS = RouteTimeouts()


def joined(timeouts: RouteTimeouts | None, policy: TrafficPolicy | None) -> RouteTimeouts | None:
    """What is in force: what the rule does not set, the policy does.  None = no timeout at all."""
    if policy is None:
        return timeouts if timeouts is not None and (timeouts.request or timeouts.backend_request) else None
    own, more = timeouts or NO_TIMEOUTS, policy.timeouts
    request, request_by = (more.request, policy.name) if own.request is None else (own.request, "")
    per_try, per_try_by = (more.per_try, policy.name) if own.backend_request is None else (own.backend_request, "")
    if not request and not per_try:
        return None
    return RouteTimeouts(request, per_try, request_by if request else "", per_try_by if per_try else "")


def described(timeouts: RouteTimeouts | None) -> list[str]:
    """One line for each, for people, with the TrafficPolicy that sets it."""
    if timeouts is None:
        return []
    return [_described(timeouts, reason, name) for reason, name in _FIELDS.items() if timeouts.of(reason)]


def _described(timeouts: RouteTimeouts, reason: str, name: str) -> str:
    by = timeouts.by(reason)
    return f"{name} {duration_text(timeouts.of(reason))}" + (f" by TrafficPolicy {by}" if by else "")


def timeout_detail(timeouts: RouteTimeouts, reason: str, route: str, rule: str) -> str:
    """The one line of a 504's body."""
    within, policy = duration_text(timeouts.of(reason)), timeouts.by(reason)
    owner = f"TrafficPolicy {policy}" if policy else f"rule {rule} of HTTPRoute {route}"
    return f"no response came within {within}, timeouts.{_FIELDS[reason]} of {owner}"
