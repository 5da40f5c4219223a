"""What is refused so that no pod's load is felt by another: the words, and whose connections end first.

Caps are per pod and worker (`nodeagent.core.bounds`).  Over one of them a request is answered at once; nothing waits
for room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nodeagent.core.model import Decision
from nodeagent.core.policy_refusals import PolicyRefusal

OVERLOADED = PolicyRefusal(503, "overloaded", "UO")
CLIENT_OVERLOADED = PolicyRefusal(503, "client-overloaded", "UO")
SERVER_OVERLOADED = PolicyRefusal(503, "server-overloaded", "UO")
POD_BUFFERS_FULL = PolicyRefusal(503, "pod-buffers-full", "UO")
MEMORY_PRESSURE = PolicyRefusal(503, "memory-pressure", "UO")
CLIENT_CONNECTIONS = PolicyRefusal(0, "client-connections", "UO")
"""A reset at accept: nothing is answered."""
ALL = (OVERLOADED, CLIENT_OVERLOADED, SERVER_OVERLOADED, POD_BUFFERS_FULL, MEMORY_PRESSURE, CLIENT_CONNECTIONS)

_DETAILS = {
    OVERLOADED: "the proxy has as many requests in flight, or holds as many bytes, as its memory allows",
    CLIENT_OVERLOADED: "this pod has as many requests in flight as one pod may",
    SERVER_OVERLOADED: "the endpoint has as many requests in flight as one pod may, and no other one has room",
    POD_BUFFERS_FULL: "the proxy holds as many bytes for this pod as for one pod it may",
    CLIENT_CONNECTIONS: "this pod has as many connections as one pod may",
    MEMORY_PRESSURE: "the proxy is short of memory, and this pod holds the most of it",
}


def refused(decision: Decision, refusal: PolicyRefusal) -> Decision:
    """`decision` was to forward: its answer instead."""
    status, reason, flag = refusal
    return replace(decision, status=status, reason=reason, flag=flag, detail=_DETAILS[refusal], endpoint=None)


def detail_of(refusal: PolicyRefusal) -> str:
    return _DETAILS[refusal]


@dataclass(frozen=True, slots=True)
class Load:
    """What one pod holds on a worker: bytes in buffers, requests in flight."""

    buffered: int
    requests: int


SHED_BYTES = 64 * 1024
SHED_REQUESTS = 8
"""A pod below both is left alone: ending what it has would free nothing worth it."""


def heaviest(loads: Iterable[Load]) -> int | None:
    """Position of the pod whose connections end first: most bytes, then most requests.  None: nobody holds much."""
    found, most = None, (0, 0)
    for position, load in enumerate(loads):
        if load.buffered < SHED_BYTES and load.requests < SHED_REQUESTS:
            continue
        if (load.buffered, load.requests) > most:
            found, most = position, (load.buffered, load.requests)
    return found


@dataclass(frozen=True, slots=True)
class Watermark:
    """Bytes of resident memory: shedding starts above `high` and goes on until below `low`."""

    high: int
    low: int

    def sheds(self, resident: int, shedding: bool) -> bool:
        return resident > (self.low if shedding else self.high)
