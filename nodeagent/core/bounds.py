"""How much one worker may hold, derived from the memory limit and RLIMIT_NOFILE.

descriptors = nofile - RESERVED_FDS - listeners - idle upstreams - sockets at hand - mirrors
connections = (descriptors / 2)                   a client side and an upstream side each
memory      = (limit / workers) * PROXY_SHARE     split: half for connections' own state, half for buffers
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

KIB = 1024
MIB = 1024 * KIB

RESERVED_FDS = 128
LISTENERS_PER_POD = 2
MAX_PODS = 250
"""The kubelet's own bound is 110 by default and 250 where it is raised."""
MAX_IDLE_UPSTREAMS = 2048
MAX_SOCKET_STOCK = 512
MAX_MIRRORS = 128
"""Copies of requests under way at once."""
IDLE_CONNECTION_BYTES = 10 * KIB
"""Measured: 1 KB in the worker, and two sockets of 2.5 KB in the kernel; the rest is for heads and first buffers."""
POD_SHARE = 0.6
"""Of a worker's connections that one pod may hold: however many it opens, others find room."""
PROXY_SHARE = 0.6
"""Of the memory limit; the rest is the agent, the broker, and the interpreters themselves."""
DEFAULT_MEMORY = 512 * MIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one worker.  Sizes are bytes, times seconds."""

    connections: int = 8192
    connections_per_pod: int = 4096
    buffered: int = 64 * MIB
    buffered_per_connection: int = 64 * KIB
    head_bytes: int = 64 * KIB
    header_count: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 3600.0
    stall_seconds: float = 300.0
    connect_seconds: float = 5.0
    upstream_idle_seconds: float = 4.0
    upstream_idle_per_endpoint: int = 64
    upstream_idle_total: int = 4096
    socket_stock: int = 512
    replay_bytes: int = 64 * KIB
    linger_seconds: float = 2.0
    interim_responses: int = 16
    mirrors: int = 128
    mirror_request_bytes: int = 64 * KIB
    mirror_response_bytes: int = 1024 * KIB
    mirror_seconds: float = 10.0

    def as_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, float]) -> Bounds:
        """Raises TypeError for a name that is not a bound."""
        return cls(**values)  # type: ignore[arg-type]  # the JSON is the agent's own `as_json`


def derive(memory: int | None, nofile: int, workers: int) -> Bounds:
    """Bounds of each of `workers` workers.  `memory` is the limit of all of us in bytes, None = unlimited.

    `nofile` is one worker's soft RLIMIT_NOFILE.
    """
    listeners = min(LISTENERS_PER_POD * MAX_PODS, nofile // 8)
    idle, stock = min(MAX_IDLE_UPSTREAMS, nofile // 8), min(MAX_SOCKET_STOCK, nofile // 16)
    mirrors = min(MAX_MIRRORS, nofile // 32)
    descriptors = nofile - RESERVED_FDS - listeners - idle - stock - mirrors
    share = int((memory or DEFAULT_MEMORY) * PROXY_SHARE) // max(workers, 1)
    connections = max(16, min(descriptors // 2, share // 2 // IDLE_CONNECTION_BYTES))
    return Bounds(
        connections=connections,
        connections_per_pod=max(8, int(connections * POD_SHARE)),
        buffered=max(MIB, share // 2),
        upstream_idle_total=min(idle, max(8, connections // 2)),
        socket_stock=stock,
        mirrors=mirrors,
    )
