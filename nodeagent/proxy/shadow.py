"""A dry run of one request: what policies in DryRun would have done to it, and nothing that it can feel.

It is a full simulation: a request that would have been refused takes nothing further of what the dry run counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.core.model import Endpoint

if TYPE_CHECKING:
    from nodeagent.proxy.cluster import Cluster
    from nodeagent.proxy.gate import Gate

WOULD_LIMIT = "would-limit"
WOULD_OVERFLOW = "would-overflow"
WOULD_TIME_OUT = "would-time-out"
WOULD_RETRY = "would-retry"
WOULD_EJECT = "would-eject"

Outcome = tuple[str, str]  # (word, policy)


class Shadow:
    """`outcome` is how the dry run ended the request, None = it went on; `ejections` are outcomes beside it."""

    __slots__ = ("_cluster", "_gate", "ejections", "outcome")

    def __init__(self, cluster: Cluster | None, gate: Gate | None) -> None:
        self._cluster = cluster
        self._gate = gate
        self.outcome: Outcome | None = None
        self.ejections: list[Outcome] = []

    def refused(self, word: str, policy: str) -> None:
        self._gate = None
        self.outcome = (word, policy)

    def answered(self, endpoint: Endpoint, status: int, seconds: float) -> None:
        cluster = self._cluster
        if cluster is None or self.outcome is not None:
            return
        if cluster.answered(endpoint, status, seconds):
            self.ejections.append((WOULD_EJECT, cluster.policy))
        if cluster.would_retry(status):
            self.ejections.append((WOULD_RETRY, cluster.policy))

    def failed(self, endpoint: Endpoint) -> None:
        cluster = self._cluster
        if cluster is not None and self.outcome is None and cluster.failed(endpoint):
            self.ejections.append((WOULD_EJECT, cluster.policy))

    def finish(self, seconds: float) -> list[Outcome]:
        """The request took so long.  Everything there is to count."""
        if self._gate is not None:
            self._gate.leave()
            self._gate = None
        cluster = self._cluster
        if cluster is not None and self.outcome is None and cluster.would_time_out(seconds):
            self.outcome = (WOULD_TIME_OUT, cluster.policy)
        return [self.outcome, *self.ejections] if self.outcome is not None else self.ejections
