"""The `timeouts` of an HTTPRoute rule, and what is said when one is over.

Pure: who holds the clock is nodeagent.proxy.timed_exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.core.durations import duration_text

REQUEST_TIMEOUT = "request-timeout"
BACKEND_REQUEST_TIMEOUT = "backend-request-timeout"
ABORTED = "-aborted"
"""Added to a reason when part of the response was sent: the client saw a reset, and no 504."""
_FIELDS = {REQUEST_TIMEOUT: "request", BACKEND_REQUEST_TIMEOUT: "backendRequest"}


@dataclass(frozen=True, slots=True)
class RouteTimeouts:
    """Milliseconds, 0 = none.  A rule without any has no RouteTimeouts at all: its requests take the usual way.

    `request`: from the request's head to the end of its response.  `backend_request`: the same of each try.
    """

    request: int = 0
    backend_request: int = 0

    def of(self, reason: str) -> int:
        return self.request if reason == REQUEST_TIMEOUT else self.backend_request


def described(timeouts: RouteTimeouts | None) -> list[str]:
    """One line for each, for people."""
    if timeouts is None:
        return []
    return [f"{name} {duration_text(timeouts.of(reason))}" for reason, name in _FIELDS.items() if timeouts.of(reason)]


def timeout_detail(timeouts: RouteTimeouts, reason: str, route: str, rule: str) -> str:
    """The one line of a 504's body."""
    within = duration_text(timeouts.of(reason))
    return f"no response came within {within}, timeouts.{_FIELDS[reason]} of rule {rule} of HTTPRoute {route}"
