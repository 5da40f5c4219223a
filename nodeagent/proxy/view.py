"""A Destination as the data path wants it: its judge and everything derivable, computed once per Destination."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from nodeagent.core.judge import Judge
from nodeagent.core.matching import Regex
from nodeagent.core.model import Destination, Endpoint, Protocol
from nodeagent.core.traffic import RateLimitPolicy, TrafficPolicy
from nodeagent.core.treatment import looks_at_headers


class View:
    """What applies to connections that dialled (address, port), after so many `changes` of the configuration.

    A connection that finds its view's number passed by asks the engine anew: for the view, and for who its caller is.
    """

    __slots__ = (
        "_alternatives",
        "changes",
        "default_host",
        "destination",
        "is_http",
        "judge",
        "judges_paths",
        "name",
        "namespace",
        "needs_fields",
    )

    def __init__(self, changes: int, destination: Destination, regex: Regex) -> None:
        self.changes = changes
        self.destination = destination
        self.judge = Judge(destination, regex)
        self.is_http = destination.protocol is Protocol.HTTP1
        self.judges_paths = destination.judges_paths
        self.needs_fields = _looks_at_fields(destination)
        self.name = destination.name
        self.namespace = _namespace(destination)
        self.default_host = _authority(destination.address, destination.port)
        self._alternatives: dict[str, tuple[Endpoint, ...]] | None = None

    def under(self, changes: int) -> View:
        """The same after later changes, which its destination had no part in."""
        view = copy.copy(self)
        view.changes = changes
        return view

    def alternatives(self, backend: str) -> tuple[Endpoint, ...]:
        """Every endpoint of the backend that a Decision named: where else a failed connect may go."""
        if self._alternatives is None:
            self._alternatives = _endpoints_by_backend(self.destination)
        return self._alternatives.get(backend, self.destination.endpoints)


def unknown_destination(address: str, port: int, http: bool) -> Destination:
    """For an address that the snapshot does not (or no longer) hold: no rules, straight to where it was dialled."""
    protocol = Protocol.HTTP1 if http else Protocol.OPAQUE
    return Destination(_authority(address, port).decode(), address, port, protocol, is_frontend=False)


def _authority(address: str, port: int) -> bytes:
    return (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()


def _namespace(destination: Destination) -> str:
    qualified = destination.services[0] if destination.services else destination.name
    return qualified.partition("/")[0] if "/" in qualified else ""


def _looks_at_fields(destination: Destination) -> bool:
    operations = (op for policy in destination.all_policies for rule in policy.rules for op in rule.http)
    if any(rule.headers or rule.session for rule in destination.rules) or any(op.headers for op in operations):
        return True
    if any(rule.cors or any(backend.cors for backend in rule.backends) for rule in destination.rules):
        return True
    return any(looks_at_headers(limits, traffic) for limits, traffic in _policies(destination))


def _policies(destination: Destination) -> Iterator[tuple[tuple[RateLimitPolicy, ...], TrafficPolicy | None]]:
    """Of every way that requests here may go."""
    yield destination.rate_limits, destination.traffic
    for rule in destination.rules:
        yield rule.rate_limits, None
        for backend in rule.backends:
            yield backend.rate_limits, backend.traffic


def _endpoints_by_backend(destination: Destination) -> dict[str, tuple[Endpoint, ...]]:
    """Where rules differ about a backend, the first of them counts."""
    found: dict[str, tuple[Endpoint, ...]] = {}
    for rule in destination.rules:
        for backend in rule.backends:
            found.setdefault(backend.name, backend.endpoints)
    return found
