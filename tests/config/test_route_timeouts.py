"""`timeouts` of HTTPRoute rules in manifests: what is accepted, what it becomes, and what is refused."""

from __future__ import annotations

import pytest

from nodeagent.core.route_timeouts import RouteTimeouts
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart")]


def route(**rule: object) -> Document:
    return manifests.http_route("shop", "r", "cart", [{"backendRefs": [{"name": "cart", "port": 80}], **rule}])


def problems(document: Document) -> list[tuple[str, str]]:
    """(field below the rule, message) of everything wrong with a route, which then is not in force at all."""
    found = some.load({"base.yaml": some.text(*BASE), "r.yaml": some.text(document)})[1]
    assert found.routes == {}
    return [(problem.field.removeprefix("spec.rules[0]").lstrip("."), problem.message) for problem in found.problems]


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({"request": "1s"}, RouteTimeouts(1000)),
        ({"backendRequest": "1h5ms"}, RouteTimeouts(None, 3_600_005)),
        ({"request": "1m30s", "backendRequest": "90s"}, RouteTimeouts(90_000, 90_000)),
        ({"request": "1s", "backendRequest": "999ms"}, RouteTimeouts(1000, 999)),
        ({"request": "0s", "backendRequest": "5s"}, RouteTimeouts(0, 5000)),
        ({"request": "1s", "backendRequest": "0s"}, RouteTimeouts(1000, 0)),
        ({"request": "99999h99999h99999h99999h"}, RouteTimeouts(4 * 99_999 * 3_600_000)),
        ({"request": "0s", "backendRequest": "0ms"}, RouteTimeouts(0, 0)),
        ({"request": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_timeouts_reach_the_rule_and_the_decision(timeouts: Document | None, expected: RouteTimeouts | None) -> None:
    snap = some.snapshot(*BASE, route(timeouts=timeouts))
    (rule,) = snap.destinations[some.VIP, 80].producer_rules
    assert rule.timeouts == expected
    decision = some.ask(snap, "shop/web")
    in_force = expected if expected and (expected.request or expected.backend_request) else None
    assert (decision.backend, decision.status, decision.timeouts) == ("shop/cart:80", 0, in_force)


@pytest.mark.parametrize("name", ["request", "backendRequest"])
@pytest.mark.parametrize(
    "value", ["", "1", "1.5s", "-1s", "1us", "100000s", "1s1s1s1s1s", "1s ", "1s\n", "\u0661s", 1, True, ["1s"]]
)
def test_what_is_no_duration_is_refused_with_its_field(name: str, value: object) -> None:
    ((field, message),) = problems(route(timeouts={name: value}))
    assert field == f"timeouts.{name}"
    assert "a duration such as 500ms or 1m30s" in message or "expected a string" in message


@pytest.mark.parametrize(("request_", "backend"), [("1s", "1001ms"), ("59s", "1m"), ("1ms", "1h")])
def test_a_try_may_not_take_longer_than_its_request(request_: str, backend: str) -> None:
    found = problems(route(timeouts={"request": request_, "backendRequest": backend}))
    assert found == [("timeouts.backendRequest", f"{backend} must not be longer than request ({request_})")]


@pytest.mark.parametrize("name", ["idle", "backendrequest"])
def test_an_unknown_timeout_is_refused(name: str) -> None:
    ((field, message),) = problems(route(timeouts={name: "1s"}))
    assert (field, "unknown field" in message) == (f"timeouts.{name}", True)
