"""Who gets a copy: the share that is asked for, one endpoint each, and nobody whom the mirror's policies deny."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from nodeagent.core.decide import decide
from nodeagent.core.mirrors import Unsent, endpoint_of_copy
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    Endpoint,
    EnforcementLevel,
    Mirror,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Rule,
    Source,
    Workload,
)
from nodeagent.regex import compile_regex

WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))
GET = RequestHead("GET", "/", "", "a", ())
FRONTEND = Destination("shop/a:80", "198.18.0.1", 80, Protocol.HTTP1, is_frontend=True)
COPIES = Backend("shop/copies:80", 1, tuple(Endpoint(f"10.0.0.{n}", 80) for n in (1, 2, 3)))


def outcome(mirror: Mirror, rand: float = 0.0) -> Endpoint | Unsent:
    return endpoint_of_copy(FRONTEND, mirror, WEB, "10.0.0.1", GET, rand, compile_regex)


@pytest.mark.parametrize(
    ("mirror", "share"),
    [(Mirror(COPIES), 1), (Mirror(COPIES, 30, 100), 0.3), (Mirror(COPIES, 1, 3), 1 / 3), (Mirror(COPIES, 0, 100), 0)],
)
def test_the_share_is_drawn_and_goes_to_every_endpoint_alike(mirror: Mirror, share: float) -> None:
    count = 9000
    found = Counter(outcome(mirror, number / count) for number in range(count))
    assert found[Unsent.NOT_DRAWN] == pytest.approx(count * (1 - share), abs=1)
    for endpoint in COPIES.endpoints:
        assert found[endpoint] == pytest.approx(count * share / 3, abs=1)


@pytest.mark.parametrize("level", EnforcementLevel)
def test_the_mirrors_own_policies_hold_for_copies(level: EnforcementLevel) -> None:
    rule = PolicyRule((Source(service_accounts=("shop/web",)),), (), ())
    for action, denied in ((Action.DENY, True), (Action.ALLOW, False), (Action.AUDIT, False)):
        guarded = replace(COPIES, policies=(Policy("shop/p", action, level, (rule,)),))
        assert (outcome(Mirror(guarded)) is Unsent.DENIED) is denied
    assert outcome(Mirror(replace(COPIES, refuse="policy shop/p is broken"))) is Unsent.DENIED


def test_without_a_ready_endpoint_there_is_no_copy() -> None:
    assert outcome(Mirror(replace(COPIES, endpoints=()))) is Unsent.NO_ENDPOINT


def test_a_decision_carries_the_mirrors_of_the_rule_and_of_the_backend_that_was_drawn() -> None:
    one, two, three = (Mirror(replace(COPIES, name=f"shop/{name}:80")) for name in ("one", "two", "three"))
    endpoints = (Endpoint("10.0.0.9", 80),)
    first = Backend("shop/b:80", 1, endpoints, mirrors=(two,))
    second = Backend("shop/c:80", 1, endpoints, mirrors=(three,))
    rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (first, second), mirrors=(one,))
    frontend = replace(FRONTEND, producer_rules=(rule,), has_producer_route=True)
    assert decide(frontend, WEB, "10.0.0.1", GET, 0.0, compile_regex).mirrors == (one, two)
    assert decide(frontend, WEB, "10.0.0.1", GET, 0.9, compile_regex).mirrors == (one, three)
    assert {backend.name for backend in rule.reached} == {
        "shop/b:80",
        "shop/c:80",
        "shop/one:80",
        "shop/two:80",
        "shop/three:80",
    }


def test_what_a_mirrors_policies_look_at_is_read_of_requests() -> None:
    policy = Policy("shop/p", Action.DENY, EnforcementLevel.APPLICATION, ())
    mirror = Mirror(replace(COPIES, policies=(policy,)))
    rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (), mirrors=(mirror,))
    assert policy in replace(FRONTEND, producer_rules=(rule,)).all_policies
