"""How much one worker may hold, derived from the memory limit and RLIMIT_NOFILE; and of that, one pod.

descriptors = nofile - RESERVED_FDS - those of pods - idle upstreams - sockets at hand - mirrors
connections = (descriptors / 2)                   a client side and an upstream side each
memory      = (limit / workers) * PROXY_SHARE     split in thirds: connections' own state, buffers of the worker,
                                                  buffers of the kernel's sockets, which requests in flight fill

A cap of a pod counts for the whole node; each worker keeps its part of it, since connections are spread over workers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nodeagent.core.overload import Watermark
from nodeagent.core.socket_buffers import LARGEST_RECEIVE_BUFFER, LARGEST_UNSENT
from nodeagent.core.traffic import PodLimits

KIB = 1024
MIB = 1024 * KIB

RESERVED_FDS = 128
FDS_PER_POD = 3
"""Two listeners and an epoll."""
MAX_PODS = 250
"""The kubelet's own bound is 110 by default and 250 where it is raised."""
MAX_IDLE_UPSTREAMS = 2048
ENDPOINT_IDLE_SHARE = 0.25
"""Of those, that one pod may keep to one endpoint.  With less than it uses at a time, a burst of answers closes what
the next burst of requests opens; each closed one holds its port for a minute (TIME_WAIT), and when most of the 28,232
are held, connect() searches for a free one for milliseconds: seen at 500 requests at a time with 64 kept."""
MAX_SOCKET_STOCK = 512
MAX_MIRRORS = 128
"""Copies of requests under way at once."""
IDLE_CONNECTION_BYTES = 10 * KIB
"""Measured: 1 KB in the worker, and two sockets of 2.5 KB in the kernel; the rest is for heads and first buffers."""
REQUEST_BYTES = 24 * KIB
"""Of the kernel's buffers per request in flight, on average: most are small, and what is full of one that is stuck is
some 150 KiB."""
POD_SHARE = 0.625
"""Of a worker's connections that one pod may hold: however many it opens, others find room."""
CLIENT_SHARE = 0.5
"""Of a worker's requests in flight, buffered bytes and copies for mirrors that one pod may have as client."""
SERVER_SHARE = 0.3
"""The same as server: one that does not answer leaves its callers most of what they may have."""
SMALLEST_BUFFER = 16 * KIB
BUFFERS_AT_ONCE = 400
"""Receive buffers that the kernel's third has room for, all of them full."""
PROXY_SHARE = 0.6
"""Of the memory limit; the rest is the agent, the broker, and the interpreters themselves."""
DEFAULT_MEMORY = 512 * MIB
HIGH_SHARE, LOW_SHARE = 0.8, 0.7
"""Of a worker's part of the memory limit: resident above the one, connections are ended until below the other."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one worker.  Sizes are bytes, times seconds."""

    connections: int = 8192
    connections_per_pod: int = 4096
    requests: int = 4096
    requests_per_client: int = 2048
    requests_per_server: int = 1228
    buffered: int = 64 * MIB
    buffered_per_pod: int = 32 * MIB
    buffered_per_connection: int = 64 * KIB
    receive_buffer: int = LARGEST_RECEIVE_BUFFER
    unsent: int = LARGEST_UNSENT
    memory: int = DEFAULT_MEMORY
    workers: int = 1
    head_bytes: int = 64 * KIB
    header_count: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 3600.0
    stall_seconds: float = 300.0
    connect_seconds: float = 5.0
    upstream_idle_seconds: float = 4.0
    upstream_idle_per_endpoint: int = 512
    upstream_idle_total: int = 4096
    socket_stock: int = 512
    replay_bytes: int = 64 * KIB
    linger_seconds: float = 2.0
    interim_responses: int = 16
    mirrors: int = 128
    mirrors_per_pod: int = 64
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
    of_pods = min(FDS_PER_POD * MAX_PODS, nofile // 8)
    idle, stock = min(MAX_IDLE_UPSTREAMS, nofile // 8), min(MAX_SOCKET_STOCK, nofile // 16)
    mirrors = min(MAX_MIRRORS, nofile // 32)
    descriptors = nofile - RESERVED_FDS - of_pods - idle - stock - mirrors
    memory = (memory or DEFAULT_MEMORY) // max(workers, 1)
    third = int(memory * PROXY_SHARE) // 3
    connections = max(16, min(descriptors // 2, third // IDLE_CONNECTION_BYTES))
    requests = max(16, min(connections, third // REQUEST_BYTES))
    receive_buffer = max(SMALLEST_BUFFER, min(LARGEST_RECEIVE_BUFFER, third // BUFFERS_AT_ONCE))
    buffered = max(MIB, third)
    kept = min(idle, max(8, connections // 2))
    return Bounds(
        connections=connections,
        connections_per_pod=max(8, int(connections * POD_SHARE)),
        requests=requests,
        requests_per_client=max(8, int(requests * CLIENT_SHARE)),
        requests_per_server=max(4, int(requests * SERVER_SHARE)),
        buffered=buffered,
        buffered_per_pod=int(buffered * CLIENT_SHARE),
        receive_buffer=receive_buffer,
        unsent=max(SMALLEST_BUFFER, min(LARGEST_UNSENT, receive_buffer // 2)),
        upstream_idle_per_endpoint=max(4, int(kept * ENDPOINT_IDLE_SHARE)),
        upstream_idle_total=kept,
        socket_stock=stock,
        mirrors=mirrors,
        mirrors_per_pod=int(mirrors * CLIENT_SHARE),
        memory=memory,
        workers=max(workers, 1),
    )


def watermark(bounds: Bounds, idle: int) -> Watermark:
    """When a worker sheds load, in bytes.  `idle` is what it takes without any: that much it may always have."""
    extra = int(bounds.memory * PROXY_SHARE)
    high = max(int(bounds.memory * HIGH_SHARE), idle + extra // 2)
    return Watermark(high, max(int(bounds.memory * LOW_SHARE), idle + extra // 3))


@dataclass(frozen=True, slots=True)
class PodCaps:
    """What one pod may have on one worker.  `requests` are in flight."""

    connections: int
    requests: int
    buffered: int


def client_caps(bounds: Bounds, limits: PodLimits | None) -> PodCaps:
    """Of a pod as client; `limits` are its namespace's, for the whole node."""
    usual = PodCaps(bounds.connections_per_pod, bounds.requests_per_client, bounds.buffered_per_pod)
    return usual if limits is None else _limited(bounds, limits, usual)


def server_caps(bounds: Bounds, limits: PodLimits | None) -> PodCaps:
    """Of a pod as server."""
    usual = PodCaps(bounds.connections_per_pod, bounds.requests_per_server, bounds.buffered_per_pod)
    return usual if limits is None else _limited(bounds, limits, usual)


def _limited(bounds: Bounds, limits: PodLimits, usual: PodCaps) -> PodCaps:
    """A cap that is set counts instead of the usual one, within what the worker has at all."""

    def part(limit: int | None, usual: int, most: int) -> int:
        return usual if limit is None else min(most, -(-limit // bounds.workers))

    return PodCaps(
        part(limits.max_connections, usual.connections, bounds.connections),
        part(limits.max_parallel_requests, usual.requests, bounds.requests),
        part(limits.max_buffered_bytes, usual.buffered, bounds.buffered),
    )
