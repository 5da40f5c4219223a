"""TrafficPolicy (mesh.nodeagent.dev/v1alpha1): fields, limits and cross-field rules.

Words: Gateway API's for timeouts and retries (GEP-1742, 1731, 3388), Envoy's for breaking and outlier detection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError
from nodeagent.config.quantities import BYTES, MAX_BYTES
from nodeagent.config.schema import Fields, Items, Number, Text, Truth, Whole, WholeOrText
from nodeagent.config.schemas.common import HEADER_NAME, top_level
from nodeagent.config.schemas.durations import DURATION, HOUR, duration
from nodeagent.config.schemas.gateway import request_timeout_covers_backend_timeout
from nodeagent.config.schemas.status import POLICY_STATUS
from nodeagent.config.schemas.targets import MODE, namespace_target_is_the_own_one, targets
from nodeagent.core.durations import milliseconds
from nodeagent.core.traffic import MAX_RETRIES

MAX_COUNT = 2**31 - 1  # the data path keeps counts in 32 bits
_DAY = 24 * HOUR
_COUNT = Whole(0, MAX_COUNT)
_PERCENT = Whole(0, 100)


_NAMESPACE = "self.targetRefs.exists(target, target.kind == 'Namespace')"
_OF_REQUESTS = ("timeouts", "retry", "circuitBreaker", "outlierDetection", "loadBalancer", "faultInjection")


@in_cel(
    Cel(
        f"!has(self.limits) || {_NAMESPACE}",
        "limits is only allowed with a Namespace target: its pods are what it limits",
        ".limits",
    ),
    Cel(f"has(self.limits) || !{_NAMESPACE}", "limits is required when the target is a Namespace", ".limits"),
    Cel(
        f"!{_NAMESPACE} || self.targetRefs.all(target, target.kind == 'Namespace')",
        "targetRefs: a policy for a Namespace targets nothing of another kind",
        ".targetRefs",
    ),
    *(
        Cel(f"!has(self.{name}) || !{_NAMESPACE}", f"{name} is not allowed with a Namespace target", f".{name}")
        for name in _OF_REQUESTS
    ),
)
def a_namespace_has_limits_and_nothing_else(spec: dict[str, Any]) -> Iterator[FieldError]:
    kinds = [target["kind"] for target in spec["targetRefs"]]
    if "Namespace" not in kinds:
        if spec.get("limits") is not None:
            yield FieldError(("limits",), "is only allowed with a Namespace target: its pods are what it limits")
        return
    for index, kind in enumerate(kinds):
        if kind != "Namespace":
            at = ("targetRefs", index, "kind")
            yield FieldError(at, f"unsupported value {kind!r}: a policy for a Namespace targets nothing else")
    for name, value in spec.items():
        if name not in ("targetRefs", "mode", "limits") and value is not None:
            yield FieldError((name,), "is not allowed with a Namespace target, which has limits only")
    if spec.get("limits") is None:
        yield FieldError(("limits",), "required value is missing: the target is a Namespace")


@in_cel(
    Cel("self.type != 'RingHash' || has(self.hash)", "hash is required when the type is RingHash", ".hash"),
    Cel("self.type == 'RingHash' || !has(self.hash)", "hash is only allowed when the type is RingHash", ".hash"),
)
def hash_is_what_a_ring_needs(balancer: dict[str, Any]) -> Iterator[FieldError]:
    ring, given = balancer["type"] == "RingHash", balancer.get("hash") is not None
    if ring and not given:
        yield FieldError(("hash",), "required value is missing: the type is RingHash")
    if given and not ring:
        yield FieldError(("hash",), f"must not be given when the type is {balancer['type']}")


_HASHED = (("Header", "header"), ("Cookie", "cookie"))


@in_cel(
    *(
        Cel(
            f"(self.type == '{kind}') == has(self.{name})",
            f"{name} is required when the type is {kind}, and must not be given otherwise",
            f".{name}",
        )
        for kind, name in _HASHED
    )
)
def hash_is_what_its_type_says(hashed: dict[str, Any]) -> Iterator[FieldError]:
    for kind, name in _HASHED:
        given = hashed.get(name) is not None
        if hashed["type"] == kind and not given:
            yield FieldError((name,), f"required value is missing: the type is {kind}")
        if hashed["type"] != kind and given:
            yield FieldError((name,), f"must not be given when the type is {hashed['type']}")


_FLOOR = (
    "(has(self.minRetryRate) && has(self.minRetryRate.interval) "
    "? duration(self.minRetryRate.interval) : duration('1s'))"
)


@in_cel(
    Cel(
        f"{_FLOOR} <= (has(self.interval) ? duration(self.interval) : duration('10s'))",
        "minRetryRate.interval (1s) must not be longer than interval (10s)",
        ".minRetryRate",
    )
)
def budget_looks_back_as_far_as_its_floor(budget: dict[str, Any]) -> Iterator[FieldError]:
    interval = budget.get("interval") or "10s"
    floor = (budget.get("minRetryRate") or {}).get("interval") or "1s"
    if milliseconds(floor) > milliseconds(interval):
        yield FieldError(
            ("minRetryRate", "interval"), f"{floor} must not be longer than the budget's interval ({interval})"
        )


@in_cel(
    Cel(
        "!has(self.maxEjectionTime) || duration(self.maxEjectionTime) >= "
        "(has(self.baseEjectionTime) ? duration(self.baseEjectionTime) : duration('30s'))",
        "maxEjectionTime must not be shorter than baseEjectionTime (30s)",
        ".maxEjectionTime",
    )
)
def longest_ejection_covers_the_first(outliers: dict[str, Any]) -> Iterator[FieldError]:
    base, most = outliers.get("baseEjectionTime") or "30s", outliers.get("maxEjectionTime")
    if most and milliseconds(most) < milliseconds(base):
        yield FieldError(("maxEjectionTime",), f"{most} must not be shorter than baseEjectionTime ({base})")


@in_cel(Cel("has(self.delay) || has(self.abort)", "must set at least one of delay, abort"))
def fault_does_something(fault: dict[str, Any]) -> Iterator[FieldError]:
    if fault.get("delay") is None and fault.get("abort") is None:
        yield FieldError((), "must set at least one of delay, abort")


_BYTES = WholeOrText(
    Whole(0, MAX_BYTES), Text(pattern=BYTES, shape="a number of bytes such as 67108864 or 64Mi", most=18)
)
_RETRY = Fields(
    {
        "attempts": Whole(1, MAX_RETRIES),
        "codes": Items(Whole(400, 599), most=32),
        "onConnectFailure": Truth(),
        "backoff": duration(0, 60_000),
        "perTryTimeout": DURATION,
        "budget": Fields(
            {
                "percent": _PERCENT,
                "interval": duration(1000, HOUR),
                "minRetryRate": Fields({"count": Whole(0, 1_000_000), "interval": duration(1, HOUR)}),
            },
            rules=(budget_looks_back_as_far_as_its_floor,),
        ),
    }
)
_OUTLIERS = Fields(
    {
        "consecutive5xxErrors": _COUNT,
        "consecutiveGatewayErrors": _COUNT,
        "consecutiveLocalOriginFailures": _COUNT,
        "successRate": Fields(
            {"minimumHosts": Whole(1, MAX_COUNT), "requestVolume": Whole(1, MAX_COUNT), "stdevFactor": _COUNT}
        ),
        "interval": duration(100, HOUR),
        "baseEjectionTime": duration(1, _DAY),
        "maxEjectionTime": duration(1, _DAY),
        "maxEjectionPercent": _PERCENT,
    },
    rules=(longest_ejection_covers_the_first,),
)
_COOKIE = Fields(
    {
        "name": HEADER_NAME,
        "ttl": DURATION,
        "path": Text(pattern=r"/[\x21-\x3a\x3c-\x7e]*", shape="a path without spaces and semicolons", most=1024),
    },
    ("name",),
)
_BALANCER = Fields(
    {
        "type": Text(enum=("Random", "RoundRobin", "LeastRequest", "PeakEWMA", "RingHash")),
        "hash": Fields(
            {
                "type": Text(enum=("Header", "Cookie", "SourceIP")),
                "header": Fields({"name": HEADER_NAME}, ("name",)),
                "cookie": _COOKIE,
            },
            ("type",),
            rules=(hash_is_what_its_type_says,),
        ),
    },
    ("type",),
    rules=(hash_is_what_a_ring_needs,),
)
_FAULT = Fields(
    {
        "delay": Fields({"duration": duration(1, HOUR), "percent": Number(0, 100)}, ("duration", "percent")),
        "abort": Fields({"status": Whole(200, 599), "percent": Number(0, 100)}, ("status", "percent")),
    },
    rules=(fault_does_something,),
)
_SPEC = Fields(
    {
        "targetRefs": targets("Service", "HTTPRoute", "Namespace"),
        "mode": MODE,
        "timeouts": Fields(
            dict.fromkeys(("connect", "idle", "request", "backendRequest"), DURATION),
            rules=(request_timeout_covers_backend_timeout,),
        ),
        "retry": _RETRY,
        "circuitBreaker": Fields(
            {
                "maxConnections": _COUNT,
                "maxPendingRequests": _COUNT,
                "maxParallelRequests": _COUNT,
                "maxParallelRetries": _COUNT,
            }
        ),
        "outlierDetection": _OUTLIERS,
        "loadBalancer": _BALANCER,
        "faultInjection": _FAULT,
        "limits": Fields({"maxConnections": _COUNT, "maxParallelRequests": _COUNT, "maxBufferedBytes": _BYTES}),
    },
    ("targetRefs",),
    rules=(a_namespace_has_limits_and_nothing_else,),
)
_POLICY = top_level({"spec": _SPEC, "status": POLICY_STATUS}, ("spec",))
TRAFFIC_POLICY = Fields(_POLICY.fields, _POLICY.required, rules=(namespace_target_is_the_own_one,))
