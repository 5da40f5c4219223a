from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings

from nodeagent.admin.api import BadQueryError, NotFoundError
from nodeagent.agent.explain import Question, explain, parse_question, request_head, source_address, verdict_of
from nodeagent.core.decide import decide
from nodeagent.core.filters import NO_FILTERS, Filters, PathChange, Redirect, Rewrite, header_change
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    EnforcementLevel,
    Fault,
    HttpOperation,
    Mirror,
    Policy,
    PolicyRule,
    RequestHead,
    Snapshot,
    ValueMatch,
    Workload,
)
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import (
    CircuitBreaker,
    ConnectionRate,
    FaultInjection,
    Limit,
    Mode,
    PodLimits,
    PolicyTimeouts,
    TrafficPolicy,
)
from nodeagent.regex import compile_regex
from tests.agent.samples import CART_VIP, DB_VIP, ENROLLED, LIMITED, NO_BATCH, NO_DELETE, PATIENT, V2, WEB, snapshot
from tests.core import strategies as some

DRY = TrafficPolicy("shop/dry", Mode.DRY_RUN)


def ask(caller: str, to: str, **query: Any) -> dict[str, Any]:
    return explain(snapshot(), ENROLLED, parse_question({"from": caller, "to": to, **query}), compile_regex)


def test_a_weighted_route_shows_every_backend_with_its_share() -> None:
    answer = ask("shop/web-1", "cart")
    assert (answer["rung"], answer["verdict"], answer["request"]["rule"]) == ("proxy", "allowed", "canary")
    assert [(b["name"], b["share"], b["status"]) for b in answer["backends"]] == [
        ("shop/cart-v1:80", 0.8, 0),
        ("shop/cart-v2:80", 0.2, 0),
    ]


def test_endpoints_that_were_narrowed_to_the_zone_are_told_for_each_backend() -> None:
    note = "of {} only the endpoints for zone a are used, where this node is (trafficDistribution, or hints)"
    found = snapshot()
    cart, db = found.destinations[CART_VIP], found.destinations[DB_VIP]
    rule = cart.producer_rules[-1]
    first, second = rule.backends
    routed = dataclasses.replace(rule, backends=(dataclasses.replace(first, nearby="zone a"), second))
    for destination, to, name in (
        (dataclasses.replace(cart, producer_rules=(routed,)), "cart", "shop/cart-v1:80"),
        (dataclasses.replace(cart, producer_rules=(), has_producer_route=False, nearby="zone a"), "cart", cart.name),
        (dataclasses.replace(db, nearby="zone a"), "db", "shop/db:5432"),
    ):
        table = {**found.destinations, (destination.address, destination.port): destination}
        question = parse_question({"from": "shop/web-1", "to": to})
        answer = explain(Snapshot(1, table, found.workloads), ENROLLED, question, compile_regex)
        assert answer["notes"] == [note.format(name)]
    assert ask("shop/web-1", "cart")["notes"] == []


def test_a_denied_request_names_the_policy_and_no_backend() -> None:
    answer = ask("shop/web-1", "cart.shop:80", method="DELETE")
    assert (answer["verdict"], answer["request"]["status"], answer["request"]["policy"]) == (
        "denied",
        403,
        "shop/no-delete",
    )
    assert "backends" not in answer


def test_a_policy_behind_the_route_denies_its_backends_share() -> None:
    """cart's second version has a policy of its own, which the samples' route leads to."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    beta, canary = cart.producer_rules
    first, second = canary.backends
    closed = dataclasses.replace(canary, backends=(first, dataclasses.replace(second, policies=(NO_BATCH,))))
    table = {**base.destinations, CART_VIP: dataclasses.replace(cart, producer_rules=(beta, closed))}
    question = parse_question({"from": "batch/job-1", "to": "cart.shop"})
    answer = explain(dataclasses.replace(base, destinations=table), ENROLLED, question, compile_regex)
    assert [(b["name"], b["status"], b["policy"]) for b in answer["backends"]] == [
        ("shop/cart-v1:80", 0, ""),
        ("shop/cart-v2:80", 403, "shop/no-batch"),
    ]
    assert answer["verdict"] == "mixed"
    assert [b["verdict"] for b in answer["backends"]] == ["allowed", "denied"]
    assert (answer["request"]["status"], answer["request"]["route"]) == (None, "shop/cart")
    assert answer["notes"] == ["20% of such requests are denied, by what protects the backend that they are routed to"]


def test_shares_that_fail_for_different_reasons_are_all_errors() -> None:
    """No status stands for both: each backend says its own."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    gone, empty = Backend("shop/gone:80", 1, (), "BackendNotFound"), Backend("shop/empty:80", 1)
    failing = dataclasses.replace(cart.producer_rules[1], backends=(gone, empty))
    table = {**base.destinations, CART_VIP: dataclasses.replace(cart, producer_rules=(failing,))}
    question = parse_question({"from": "shop/web-1", "to": "cart"})
    answer = explain(dataclasses.replace(base, destinations=table), ENROLLED, question, compile_regex)
    assert (answer["verdict"], answer["request"]["status"]) == ("error", None)
    assert [b["status"] for b in answer["backends"]] == [500, 503]


def filtered(rule: Filters, backend: Filters = NO_FILTERS, **more: Any) -> dict[str, Any]:
    """The answer for cart where its canary rule and first backend have filters."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    beta, canary = cart.producer_rules
    first, second = canary.backends
    behind = () if rule.redirect else (dataclasses.replace(first, filters=backend), second)
    changed = dataclasses.replace(canary, **{"backends": behind, "filters": rule, **more})
    table = {**base.destinations, CART_VIP: dataclasses.replace(cart, producer_rules=(beta, changed))}
    question = parse_question({"from": "shop/web-1", "to": "cart", "path": "/old/x?q=1"})
    return explain(dataclasses.replace(base, destinations=table), ENROLLED, question, compile_regex)


def test_filters_are_shown_where_they_are_declared() -> None:
    rule = Filters(rewrite=Rewrite("inner", PathChange("/new", "/")))
    answer = filtered(rule, Filters(response=header_change(removing=["Server"])))
    assert answer["request"]["filters"] == ["rewrite host to inner", "rewrite path prefix / with /new"]
    assert [backend["filters"] for backend in answer["backends"]] == [["remove response header server"], []]


def test_mirrors_are_shown_among_the_filters() -> None:
    copies = Backend("shop/copies:80", 1)
    answer = filtered(NO_FILTERS, mirrors=(Mirror(copies, 5), Mirror(copies, 1, 1000)))
    assert answer["request"]["filters"] == ["mirror 5% to shop/copies:80", "mirror 1 of 1000 to shop/copies:80"]


def test_a_rule_that_cannot_be_applied_is_an_error_without_backends() -> None:
    answer = filtered(NO_FILTERS, fault=Fault("filter-not-found", "filters[0].extensionRef: none"))
    assert (answer["verdict"], answer["request"]["status"]) == ("error", 500)
    assert answer["request"]["detail"].endswith("filters[0].extensionRef: none")
    assert "backends" not in answer


def test_the_timeouts_of_the_rule_are_shown() -> None:
    assert filtered(NO_FILTERS)["request"]["timeouts"] == []
    assert filtered(NO_FILTERS, timeouts=RouteTimeouts(90_000, 500))["request"]["timeouts"] == [
        "request 1m30s",
        "backendRequest 500ms",
    ]


def test_the_timeouts_in_force_are_shown_with_the_policy_that_sets_them() -> None:
    policy = TrafficPolicy("shop/p", timeouts=PolicyTimeouts(request=2000, per_try=700))
    for own, expected in (
        (None, ["request 2s by TrafficPolicy shop/p", "backendRequest 700ms by TrafficPolicy shop/p"]),
        (RouteTimeouts(5000), ["request 5s", "backendRequest 700ms by TrafficPolicy shop/p"]),
        (RouteTimeouts(0), ["backendRequest 700ms by TrafficPolicy shop/p"]),
    ):
        cart = snapshot().destinations[CART_VIP]
        both = tuple(dataclasses.replace(one, traffic=policy) for one in cart.producer_rules[-1].backends)
        answer = filtered(NO_FILTERS, timeouts=own, backends=both)
        assert answer["request"]["timeouts"] == expected
        assert [backend["timeouts"] for backend in answer["backends"]] == [[], []]


def test_a_timeout_that_only_one_backend_has_is_shown_with_it() -> None:
    answer = treated(rule_limits=True)
    assert answer["request"]["timeouts"] == []
    assert [backend["timeouts"] for backend in answer["backends"]] == [["request 2s by TrafficPolicy shop/patient"], []]


def test_a_rule_that_answers_itself_shows_no_timeouts() -> None:
    timeouts = RouteTimeouts(1000)
    assert filtered(Filters(redirect=Redirect()), timeouts=timeouts)["request"]["timeouts"] == []
    assert filtered(NO_FILTERS, fault=Fault("r", "d"), timeouts=timeouts)["request"]["timeouts"] == []


def test_a_redirect_is_allowed_and_says_where_to() -> None:
    answer = filtered(Filters(redirect=Redirect(308, "https", path=PathChange("/new", "/old"))))
    assert (answer["verdict"], answer["request"]["status"]) == ("allowed", 308)
    assert answer["request"]["location"] == "https://cart/new/x?q=1"
    assert "backends" not in answer


@settings(max_examples=300, deadline=None)
@given(some.destinations | some.routed_destinations(), some.workloads, some.heads, some.randoms)
def test_what_is_decided_is_one_of_the_shares(
    destination: Destination, caller: Workload, head: RequestHead, rand: float
) -> None:
    caller = dataclasses.replace(caller, addresses=("198.18.0.2", "fd00::2"))
    table = {(destination.address, destination.port): destination}
    to = f"[{destination.address}]:{destination.port}"
    target = head.path + ("?" + head.query if head.query else "")
    question = Question(caller.key, to, head.method, target, "shop", tuple(head.headers))
    answer = explain(Snapshot(1, table, {caller.key: caller}), {caller.key}, question, compile_regex)
    if "request" not in answer:  # connect() decides
        return
    judged = request_head(destination, question, "shop")
    decision = decide(destination, caller, source_address(destination, caller), judged, rand, compile_regex)
    found = answer.get("backends") or [{**answer["request"], "name": "", "share": 1, "verdict": answer["verdict"]}]
    assert abs(sum(share["share"] for share in found) - 1) < 1e-3
    served = (decision.backend, decision.status, decision.detail, decision.policy, list(decision.audits))
    assert served in [
        tuple(share[name] for name in ("name", "status", "detail", "policy", "audits")) for share in found
    ]
    assert answer["verdict"] in ("mixed", verdict_of(decision))


def under(limits: PodLimits | None = None, pod: Workload = WEB, policy: TrafficPolicy | None = None) -> dict[str, Any]:
    """The answer for cart, with limits for a pod and a policy for both backends."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    *others, canary = cart.producer_rules
    backends = tuple(dataclasses.replace(one, traffic=policy) for one in canary.backends)
    routed = dataclasses.replace(cart, producer_rules=(*others, dataclasses.replace(canary, backends=backends)))
    workloads = {**base.workloads, pod.key: dataclasses.replace(pod, limits=limits)}
    changed = Snapshot(1, {**base.destinations, CART_VIP: routed}, workloads)
    question = parse_question({"from": "shop/web-1", "to": "cart"})
    return explain(changed, {*ENROLLED, pod.key}, question, compile_regex)


def test_a_cap_of_0_of_the_caller_refuses_every_request() -> None:
    answer = under(PodLimits("shop/none", max_parallel_requests=0))
    assert (answer["verdict"], answer["request"]["status"], answer["request"]["reason"]) == (
        "error",
        503,
        "client-overloaded",
    )
    assert answer["request"]["policy"] == "shop/none"
    assert "limits.maxParallelRequests of TrafficPolicy shop/none is 0" in answer["request"]["detail"]
    assert under(PodLimits("shop/one", max_parallel_requests=1))["verdict"] == "allowed"


def test_a_cap_of_0_connections_of_the_caller_resets_each_of_them() -> None:
    answer = under(PodLimits("shop/none", max_connections=0))
    assert (answer["verdict"], answer["connect"]["errno"], answer["connect"]["policy"]) == (
        "refused",
        "ECONNRESET",
        "shop/none",
    )
    assert "request" not in answer


@pytest.mark.parametrize(
    ("policy", "status", "reason"),
    [
        (TrafficPolicy("p", circuit_breaker=CircuitBreaker(0)), 503, "circuit-breaker-max-connections"),
        (TrafficPolicy("p", circuit_breaker=CircuitBreaker(9, 0)), 503, "circuit-breaker-max-pending-requests"),
        (TrafficPolicy("p", circuit_breaker=CircuitBreaker(0, 0, 0)), 503, "circuit-breaker-max-parallel-requests"),
        (TrafficPolicy("p", circuit_breaker=CircuitBreaker(9, 9, 9, 0)), 0, ""),
        (TrafficPolicy("p", fault_injection=FaultInjection(abort_status=418, abort_percent=100.0)), 418, "fault-abort"),
        (TrafficPolicy("p", fault_injection=FaultInjection(abort_status=418, abort_percent=99.9)), 0, ""),
    ],
)
def test_a_policy_that_lets_nothing_through_is_an_error_with_its_own_word(
    policy: TrafficPolicy, status: int, reason: str
) -> None:
    answer = under(policy=policy)
    assert (answer["request"]["status"], answer["request"]["reason"]) == (status, reason)
    assert answer["verdict"] == ("error" if status else "allowed")
    assert {backend["status"] for backend in answer["backends"]} == {status}


def test_a_server_that_may_have_no_request_is_an_error_for_its_own_share_only() -> None:
    server = Workload("shop", "cart-v2-1", "cart", "cart", (V2.address,), "/run/netns/v2", enrolled=True)
    answer = under(PodLimits("shop/none", max_parallel_requests=0), server)
    assert answer["verdict"] == "mixed"
    assert [(one["status"], one["reason"]) for one in answer["backends"]] == [(0, ""), (503, "server-overloaded")]


def test_a_share_without_a_backend_says_500() -> None:
    answer = ask("shop/web-1", "cart", path="/beta", headers=[["X-Beta", "yes"]])
    assert (answer["request"]["rule"], answer["backends"][0]["status"]) == ("beta", 500)


def test_a_network_rule_denies_at_connect() -> None:
    answer = ask("batch/job-1", "db.shop")
    assert (answer["verdict"], answer["connect"]["errno"], answer["connect"]["policy"]) == (
        "denied",
        "EPERM",
        "shop/no-batch",
    )


def test_without_a_rule_on_the_request_the_connection_goes_direct() -> None:
    answer = ask("shop/web-1", "shop/db:5432")
    assert (answer["rung"], answer["verdict"], answer["endpoints"]) == ("direct", "allowed", ["198.18.0.13:5432"])


def test_a_pod_that_is_not_enrolled_is_not_judged() -> None:
    answer = ask("guest/g-1", "cart.shop", method="DELETE")
    assert (answer["rung"], answer["verdict"]) == ("pass", "allowed")
    assert "mesh.nodeagent.dev/dataplane=enabled" in answer["why"]


def test_what_a_pod_of_another_node_meets_is_not_guessed_at() -> None:
    far = Workload("shop", "far", "web", "web", ("198.18.0.9",), enrolled=True, node_id="node2")
    snap = snapshot()
    snap = dataclasses.replace(snap, workloads={**snap.workloads, far.key: far})
    with pytest.raises(NotFoundError, match="shop/far lives on node node2"):
        explain(snap, ENROLLED, parse_question({"from": far.key, "to": "cart"}), compile_regex)


def test_a_pods_own_address_is_never_touched() -> None:
    assert ask("shop/web-1", "198.18.0.2:9999")["rung"] == "pass"


def test_an_ambiguous_path_is_refused_as_the_worker_refuses_it() -> None:
    answer = ask("shop/web-1", "cart", path="/a%2fb")
    assert (answer["verdict"], answer["request"]["status"]) == ("refused", 400)


@pytest.mark.parametrize(
    ("to", "port", "host", "judged"),
    [
        ("cart", 80, "cart", "cart"),
        ("cart.shop.svc.cluster.local:80", 80, "cart.shop.svc.cluster.local", "cart.shop.svc.cluster.local"),
        ("shop/cart:80", 80, "cart.shop", "cart.shop"),
        ("cart:8080", 8080, "cart:8080", "cart"),
        (f"{CART_VIP[0]}:80", 80, f"{CART_VIP[0]}:80", CART_VIP[0]),
    ],
)
def test_without_a_host_it_is_what_a_client_sends_that_dialled_this(to: str, port: int, host: str, judged: str) -> None:
    """A rule for exactly this host, and one for this Host header, are met; the answer says what was assumed."""
    base = snapshot()
    by_host = HttpOperation(hosts=(judged,), headers=(ValueMatch("host", host),))
    deny = Policy("shop/by-host", Action.DENY, EnforcementLevel.APPLICATION, (PolicyRule((), (), (by_host,)),))
    cart = dataclasses.replace(base.destinations[CART_VIP], name=f"shop/cart:{port}", port=port, policies=(deny,))
    snap = dataclasses.replace(base, destinations={(CART_VIP[0], port): cart})

    def answer(*headers: list[str]) -> dict[str, Any]:
        question = parse_question({"from": "shop/web-1", "to": to, "headers": list(headers)})
        return explain(snap, ENROLLED, question, compile_regex)

    assumed = answer()
    assert (assumed["request"]["policy"], assumed["request"]["host"]) == ("shop/by-host", host)
    assert assumed["request"]["host_assumed"]
    assert any(repr(host) in note for note in assumed["notes"])
    given = answer(["Host", "other"])
    assert (given["verdict"], given["request"]["host"], given["notes"]) == ("allowed", "other", [])
    assert not given["request"]["host_assumed"]
    assert answer(["Host", ""])["request"]["status"] == 400


def test_a_header_that_is_not_ascii_is_explained_as_it_is_sent() -> None:
    base = snapshot()
    operation = HttpOperation(headers=(ValueMatch("x-team", "caf\u00e9"),))
    deny = Policy("shop/no-cafe", Action.DENY, EnforcementLevel.APPLICATION, (PolicyRule((), (), (operation,)),))
    cart = dataclasses.replace(base.destinations[CART_VIP], policies=(deny,))
    snap = dataclasses.replace(base, destinations={CART_VIP: cart})
    for value, verdict in (("caf\u00e9", "denied"), ("cafe", "allowed")):
        question = parse_question({"from": "shop/web-1", "to": "cart", "headers": [["X-Team", value]]})
        assert explain(snap, ENROLLED, question, compile_regex)["verdict"] == verdict
    with pytest.raises(BadQueryError, match="cannot be sent"):
        parse_question({"from": "shop/web-1", "to": "cart", "headers": [["x", "\ud800"]]})


def with_policies(*policies: Policy, behind: tuple[Policy, ...] = ()) -> Snapshot:
    """cart of the samples with these policies; `behind` protect its second version, which gets a fifth."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    beta, canary = cart.producer_rules
    first, second = canary.backends
    rules = (beta, dataclasses.replace(canary, backends=(first, dataclasses.replace(second, policies=behind))))
    table = {**base.destinations, CART_VIP: dataclasses.replace(cart, producer_rules=rules, policies=policies)}
    return dataclasses.replace(base, destinations=table)


@pytest.mark.parametrize(
    ("snap", "caller", "said"),
    [
        (
            with_policies(dataclasses.replace(NO_DELETE, dry_run=True)),
            "shop/web-1",
            {
                "verdict": "denied",
                "layer": "request",
                "policies": ["shop/no-delete"],
                "policy": "shop/no-delete",
                "detail": "denied by AuthorizationPolicy shop/no-delete",
                "notes": [],
            },
        ),
        (
            with_policies(dataclasses.replace(NO_BATCH, dry_run=True)),
            "batch/job-1",
            {
                "verdict": "denied",
                "layer": "connect",
                "policies": ["shop/no-batch"],
                "policy": "shop/no-batch",
                "detail": "denied by AuthorizationPolicy shop/no-batch",
                "notes": [],
            },
        ),
        (
            with_policies(behind=(dataclasses.replace(NO_BATCH, dry_run=True),)),
            "batch/job-1",
            {
                "verdict": "mixed",
                "layer": "request",
                "policies": ["shop/no-batch"],
                "policy": "",
                "detail": "",
                "notes": [
                    "20% of such requests are denied, by what protects the backend that they are routed to",
                ],
            },
        ),
    ],
)
def test_with_a_policy_in_dry_run_both_verdicts_are_told(snap: Snapshot, caller: str, said: dict[str, Any]) -> None:
    question = parse_question({"from": caller, "to": "cart.shop", "method": "DELETE"})
    answer = explain(snap, ENROLLED, question, compile_regex)
    assert (answer["verdict"], answer["dry_run"]) == ("allowed", said)


def test_an_address_stands_for_the_destination_it_belongs_to() -> None:
    answer = ask("shop/web-1", f"{CART_VIP[0]}:{CART_VIP[1]}")
    assert answer["to"]["name"] == "shop/cart:80"
    assert ask("shop/web-1", "192.0.2.1:443")["rung"] == "direct"


def test_what_does_not_exist_is_named_with_what_does() -> None:
    with pytest.raises(NotFoundError, match="shop has shop/web-1"):
        ask("shop/nobody", "cart")
    with pytest.raises(NotFoundError, match="no Service shop/nothing"):
        ask("shop/web-1", "nothing")
    with pytest.raises(NotFoundError, match=r"no port 81; it has 80$"):
        ask("shop/web-1", "cart:81")
    with pytest.raises(BadQueryError, match="NAMESPACE/POD"):
        ask("web-1", "cart")
    with pytest.raises(BadQueryError, match="'to' is missing"):
        parse_question({"from": "shop/web-1"})


def treated(*, rule_limits: bool = False) -> dict[str, Any]:
    """cart, with a policy in DryRun on the Service, one that is enforced behind its first backend, and limits."""
    base = snapshot()
    cart = base.destinations[CART_VIP]
    beta, canary = cart.producer_rules
    first, second = (dataclasses.replace(one, shadow=DRY) for one in canary.backends)
    limits = (LIMITED,) if rule_limits else ()
    ruled = dataclasses.replace(
        canary, backends=(dataclasses.replace(first, traffic=PATIENT), second), rate_limits=limits
    )
    front = dataclasses.replace(
        cart, producer_rules=(beta, ruled), shadow=DRY, connection_rate=ConnectionRate("shop/l", Limit(1, 1000, 1))
    )
    pods = {**base.workloads, WEB.key: dataclasses.replace(WEB, limits=PodLimits("shop/n", 9))}
    question = parse_question({"from": "shop/web-1", "to": "cart"})
    changed = dataclasses.replace(base, destinations={**base.destinations, CART_VIP: front}, workloads=pods)
    return explain(changed, ENROLLED, question, compile_regex)


def test_the_policies_of_a_request_are_shown_once_and_those_of_a_backend_with_it() -> None:
    answer = treated(rule_limits=True)
    assert answer["request"]["treatment"] == [
        "TrafficPolicy shop/dry (DryRun): asks for nothing",
        "RateLimitPolicy shop/limited: all 100 per 1s burst 200; over it 429",
    ]
    patient = "TrafficPolicy shop/patient: timeouts request 2s; retry 1 on connect 502 503 504, backoff 25ms"
    (line,), none = (backend["treatment"] for backend in answer["backends"])
    assert (line.startswith(patient), none) == (True, [])
    assert answer["connect"]["limited"] == "RateLimitPolicy shop/l: connections 1 per 1s burst 1"
    assert answer["caps"] == ["TrafficPolicy shop/n: connections 9"]


def test_without_policies_nothing_is_said_of_them() -> None:
    answer = ask("shop/web-1", "cart")
    assert (answer["request"]["treatment"], answer["caps"], answer["connect"]["limited"]) == ([], [], "")
    assert [backend["treatment"] for backend in answer["backends"]] == [[], []]
