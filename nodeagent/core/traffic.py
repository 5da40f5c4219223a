"""What a TrafficPolicy says, compiled: how requests to one backend are treated.

Times are whole milliseconds, 0 = none; shares are percent.  Which policy applies where is decided by
`nodeagent.config.traffic`: the most specific target wins whole (GEP-713, Atomic Defaults).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Mode(enum.Enum):
    """DRY_RUN: decided and counted as if it were in force, and nothing else changes."""

    ENFORCE = "Enforce"
    DRY_RUN = "DryRun"


@dataclass(frozen=True, slots=True)
class PolicyTimeouts:
    """`request`: head to end, all tries.  `per_try`: each try.  `idle`: nothing moves either way.  0 = not set."""

    connect: int = 0
    idle: int = 0
    request: int = 0
    per_try: int = 0


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """GEP-3388: retries may be `percent` of the requests of the last `interval`, or `floor` per `floor_interval`."""

    percent: int = 20
    interval: int = 10_000
    floor: int = 10
    floor_interval: int = 1000


MAX_RETRIES = 10
"""Of one request: each holds the request, and its pod's place, for another try."""


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts retries, not tries, up to MAX_RETRIES.  `backoff` is the least wait before one (GEP-1731)."""

    attempts: int = 1
    codes: frozenset[int] = frozenset({502, 503, 504})
    on_connect_failure: bool = True
    backoff: int = 25
    budget: RetryBudget = RetryBudget()


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Caps per backend and node, all pods and workers together; None = no cap.  Overflow is answered 503."""

    max_connections: int | None = None
    max_pending_requests: int | None = None  # waiting for a connection
    max_parallel_requests: int | None = None
    max_parallel_retries: int | None = None


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Eject endpoints whose success rate is below mean - `stdev_factor` / 1000 x deviation (Envoy's outlier.proto)."""

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: int = 1900


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Consecutive counts, 0 = off.  The n-th ejection lasts n x `base_ejection_time`, at most `max_ejection_time`."""

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    consecutive_local_origin_failures: int = 5
    success_rate: SuccessRate | None = None
    interval: int = 10_000
    base_ejection_time: int = 30_000
    max_ejection_time: int = 300_000
    max_ejection_percent: int = 10  # of the endpoints, and at least one


class Balancing(enum.Enum):
    RANDOM = "Random"
    ROUND_ROBIN = "RoundRobin"
    LEAST_REQUEST = "LeastRequest"
    PEAK_EWMA = "PeakEWMA"
    RING_HASH = "RingHash"


class HashOn(enum.Enum):
    HEADER = "Header"
    COOKIE = "Cookie"
    SOURCE_IP = "SourceIP"


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """`hash_on`, `name` and `ttl` belong to RING_HASH: `name` of the header (lower case) or cookie, `ttl` of a cookie
    that is set when the request has none (0 = until the browser ends), `path` of that cookie."""

    type: Balancing = Balancing.RANDOM
    hash_on: HashOn | None = None
    name: str = ""
    ttl: int = 0
    path: str = "/"


@dataclass(frozen=True, slots=True)
class FaultInjection:
    """In effect only on an agent that was started with --allow-fault-injection."""

    delay: int = 0
    delay_percent: float = 0.0
    abort_status: int = 0
    abort_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """One TrafficPolicy as it applies to a backend; None = the policy does not speak of it."""

    name: str  # "namespace/name"
    mode: Mode = Mode.ENFORCE
    timeouts: PolicyTimeouts = PolicyTimeouts()
    retry: Retry | None = None
    circuit_breaker: CircuitBreaker | None = None
    outlier_detection: OutlierDetection | None = None
    load_balancer: LoadBalancer | None = None
    fault_injection: FaultInjection | None = None
    faults_left_out: bool = False  # it asks for some, and the agent was not told to allow them


class Carrier(enum.Enum):
    """What brings a session's token back."""

    COOKIE = "Cookie"
    HEADER = "Header"


@dataclass(frozen=True, slots=True)
class SessionPersistence:
    """GEP-1619, of a rule.  `name`: of the cookie, or of the header in lower case.  `absolute_timeout`: ms, 0 = none.

    `permanent`: the cookie outlives the browser, for `absolute_timeout`; else that is what the token itself says.
    """

    name: str
    carrier: Carrier = Carrier.COOKIE
    path: str = "/"
    absolute_timeout: int = 0
    permanent: bool = False


class Per(enum.Enum):
    """What a limit is kept per."""

    TOTAL = "Total"
    SERVICE_ACCOUNT = "ServiceAccount"  # of the caller
    HEADER = "Header"  # each value of a header
    SOURCE_IP = "SourceIP"  # each address of a block


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket: `requests` per `interval` ms on average, `burst` (>= 1) at once."""

    requests: int
    interval: int
    burst: int


@dataclass(frozen=True, slots=True)
class RateLimitRule:
    """One limit.  `per` says what has a bucket of its own; the selectors say whose requests count at all.

    `service_accounts`: "namespace/name" or "namespace/*"; `headers`: (name in lower case, exact value);
    `cidrs`: blocks of caller addresses.  Every non-empty selector must match (AND), by any of its items (OR; headers:
    all).  `header` is the name of `Per.HEADER`, lower case; a request without it is not limited by the rule.
    """

    name: str
    limit: Limit
    per: Per = Per.TOTAL
    header: str = ""
    service_accounts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """One RateLimitPolicy's HTTP part.  `status` and `headers` are the answer over the limit."""

    name: str
    rules: tuple[RateLimitRule, ...]
    mode: Mode = Mode.ENFORCE
    status: int = 429
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionRate:
    """Connections per interval to a Service, judged by the kernel at connect(); over it: ECONNREFUSED."""

    policy: str
    limit: Limit
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class PodLimits:
    """Caps of each pod of a namespace inside the node's proxy, of its TrafficPolicy; None = the agent's default."""

    policy: str
    max_connections: int | None = None
    max_parallel_requests: int | None = None
    max_buffered_bytes: int | None = None
