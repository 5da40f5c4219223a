"""A small configuration that the tests of the agent and of the CLI share."""

from __future__ import annotations

from nodeagent.config.conditions import ACCEPTED, FALSE, TRUE, Condition
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import RateLimitObject, TargetRef, TrafficObject
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    Endpoint,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    Rule,
    Snapshot,
    Source,
    ValueMatch,
    Workload,
)
from nodeagent.core.traffic import (
    Limit,
    Mode,
    PolicyTimeouts,
    RateLimitPolicy,
    RateLimitRule,
    Retry,
    TrafficPolicy,
)

WEB = Workload("shop", "web-1", "web", "web", ("198.18.0.2",), "/run/netns/web", enrolled=True)
JOB = Workload("batch", "job-1", "job", "job", ("198.18.0.3",), "/run/netns/job", enrolled=True)
GUEST = Workload("guest", "g-1", "default", "g", ("198.18.0.4",), "/run/netns/g")
V1, V2 = Endpoint("198.18.0.11", 8080), Endpoint("198.18.0.12", 8080)
CART_VIP, DB_VIP = ("198.19.0.1", 80), ("198.19.0.2", 5432)

CANARY = Rule(
    route="shop/cart",
    rule="canary",
    path_kind=PathKind.PREFIX,
    path="/",
    method="",
    headers=(),
    query=(),
    backends=(Backend("shop/cart-v1:80", 80, (V1,)), Backend("shop/cart-v2:80", 20, (V2,))),
)
BETA = Rule(
    route="shop/cart",
    rule="beta",
    path_kind=PathKind.PREFIX,
    path="/beta",
    method="GET",
    headers=(ValueMatch("x-beta", "yes"),),
    query=(),
    backends=(Backend("shop/gone:80", 1, (), "BackendNotFound"),),
)
NO_DELETE = Policy(
    "shop/no-delete",
    Action.DENY,
    EnforcementLevel.APPLICATION,
    (PolicyRule((Source(namespaces=("shop",)),), (), (HttpOperation(methods=("DELETE",)),)),),
)
NO_BATCH = Policy(
    "shop/no-batch", Action.DENY, EnforcementLevel.NETWORK, (PolicyRule((Source(namespaces=("batch",)),), (), ()),)
)
PATIENT = TrafficPolicy("shop/patient", timeouts=PolicyTimeouts(request=2000), retry=Retry())
LIMITED = RateLimitPolicy("shop/limited", (RateLimitRule("all", Limit(100, 1000, 200)),))
CART = (TargetRef("Service", "cart"),)
OBJECTS = ObjectSet(
    traffic={"shop/patient": TrafficObject("shop", "patient", "", CART, PATIENT)},
    rate_limits={"shop/limited": RateLimitObject("shop", "limited", "", CART, Mode.ENFORCE, LIMITED)},
)
"""Policies for cart that the snapshot has not got: `get` shows what there is, not what applies."""
CONDITIONS = (
    Condition("TrafficPolicy", "shop/patient", "Service shop/cart", ACCEPTED, TRUE, "Accepted"),
    Condition(
        "RateLimitPolicy", "shop/limited", "Service shop/cart", ACCEPTED, TRUE, "Accepted", "limits are per node"
    ),
    Condition("RateLimitPolicy", "shop/worse", "", ACCEPTED, FALSE, "Invalid", "unknown field", "spec.htp"),
)


def snapshot(generation: int = 1) -> Snapshot:
    """cart: a canary and an L7 DENY, so on the proxy rung; db: opaque TCP with an L4 DENY."""
    cart = Destination(
        name="shop/cart:80",
        address=CART_VIP[0],
        port=CART_VIP[1],
        protocol=Protocol.HTTP1,
        is_frontend=True,
        services=("shop/cart",),
        endpoints=(V1,),
        producer_rules=(BETA, CANARY),
        has_producer_route=True,
        policies=(NO_DELETE,),
    )
    db = Destination(
        name="shop/db:5432",
        address=DB_VIP[0],
        port=DB_VIP[1],
        protocol=Protocol.OPAQUE,
        is_frontend=True,
        services=("shop/db",),
        endpoints=(Endpoint("198.18.0.13", 5432),),
        policies=(NO_BATCH,),
    )
    behind = Destination(
        name="198.18.0.11:8080",
        address="198.18.0.11",
        port=8080,
        protocol=Protocol.HTTP1,
        is_frontend=False,
        services=("shop/cart",),
        policies=(NO_DELETE,),
    )
    destinations = {CART_VIP: cart, DB_VIP: db, ("198.18.0.11", 8080): behind}
    return Snapshot(generation, destinations, {pod.key: pod for pod in (WEB, JOB, GUEST)})


ENROLLED = frozenset({WEB.key, JOB.key})
