from __future__ import annotations

import dataclasses

import pytest

from nodeagent.admin.api import BadQueryError, NotFoundError
from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.views import World, rows
from nodeagent.config.conditions import ACCEPTED, FALSE, PROGRAMMED, TRUE, UNKNOWN, Condition
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import PolicyObject
from nodeagent.core.cors import Cors
from nodeagent.core.filters import Filters, Rewrite, header_change
from nodeagent.core.model import Fault, Mirror
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import Retry, SessionPersistence
from tests.agent.samples import CANARY, CART_VIP, NO_BATCH, WEB, snapshot

POD = EnrolledPod(WEB.key, "/run/netns/web", (1, 2), -1, 4711, WEB.addresses)
REJECTED = (
    {"kind": "HTTPRoute", "namespace": "shop", "name": "broken", "reason": "Invalid", "message": "no such filter"},
    {"kind": "HTTPRoute", "namespace": "shop", "name": "cart", "reason": "BackendNotFound", "message": "shop/gone"},
)
WORLD = World(snapshot(), {WEB.key: POD}, {"batch/job-1": "network namespace /run/netns/job: gone"}, REJECTED)


def test_services_show_rung_and_endpoints() -> None:
    cart, db = rows(WORLD, "services", "", "")
    assert (cart["name"], cart["rung"], cart["routes"], cart["policies"]) == (
        "cart",
        "proxy",
        ["shop/cart"],
        ["shop/no-delete"],
    )
    assert (db["name"], db["rung"], db["endpoints"]) == ("db", "direct", ["198.18.0.13:5432"])


def test_a_route_that_is_not_in_force_is_shown_with_its_reason() -> None:
    broken, cart = rows(WORLD, "routes", "shop", "")
    assert (broken["name"], broken["state"], broken["message"]) == ("broken", "Invalid", "no such filter")
    assert (cart["state"], len(cart["rules"])) == ("BackendNotFound", 2)


def test_workloads_say_whether_they_are_enrolled_and_why_not() -> None:
    state = {row["name"]: (row["state"], row["message"]) for row in rows(WORLD, "workloads", "", "")}
    assert state == {
        "web-1": ("enrolled", ""),
        "job-1": ("failed", "network namespace /run/netns/job: gone"),
        "g-1": ("not enrolled", ""),
    }


def test_policies_list_their_targets() -> None:
    policy = rows(WORLD, "policies", "shop", "no-delete")[0]
    assert policy["targets"] == ["shop/cart:80", "198.18.0.11:8080"]


def test_an_accepted_policy_that_protects_no_destination_yet_is_shown_all_the_same() -> None:
    early = dataclasses.replace(NO_BATCH, name="shop/early")
    objects = ObjectSet(policies={"shop/early": PolicyObject("shop", "early", (), early)})
    said = (Condition("AuthorizationPolicy", "shop/early", "Namespace shop", PROGRAMMED, UNKNOWN, "Pending"),)
    world = dataclasses.replace(WORLD, objects=objects, conditions=said)
    (policy,) = rows(world, "policies", "shop", "early")
    assert (policy["state"], policy["action"], policy["targets"]) == ("pending", "DENY", [])
    assert len(policy["conditions"]) == 1
    assert [row["name"] for row in rows(world, "policies", "shop", "")] == ["early", "no-batch", "no-delete"]


def test_routes_show_mirrors_cors_retry_session_and_what_keeps_a_rule_from_being_applied() -> None:
    base = snapshot()
    cart, backend = base.destinations[CART_VIP], CANARY.backends[0]
    full = dataclasses.replace(
        CANARY,
        backends=(dataclasses.replace(backend, mirrors=(Mirror(backend, 1, 3),)),),
        mirrors=(Mirror(backend),),
        cors=Cors(any_origin=True),
        retry=Retry(0),
        session=SessionPersistence("sid"),
        fault=Fault("filter-not-found", "filters[0]: none"),
    )
    changed = dataclasses.replace(cart, producer_rules=(full,))
    world = World(dataclasses.replace(base, destinations={CART_VIP: changed}))
    (shown,) = rows(world, "routes", "shop", "cart")[0]["rules"]
    assert shown["filters"] == [f"mirror 100% to {backend.name}", "allow cross-origin requests of *"]
    assert shown["backends"][0]["filters"] == [f"mirror 1 of 3 to {backend.name}"]
    assert (shown["retry"], shown["session"]) == ("none", "Cookie sid")
    assert shown["error"] == "filter-not-found: filters[0]: none"


def test_routes_and_policies_have_their_conditions_and_are_pending_until_they_are_programmed() -> None:
    said = (
        Condition("HTTPRoute", "shop/cart", "Service shop/cart", ACCEPTED, TRUE, "Accepted"),
        Condition("HTTPRoute", "shop/cart", "Service shop/cart", PROGRAMMED, UNKNOWN, "Pending", generation=2),
        Condition("HTTPRoute", "shop/lost", "Service shop/no", ACCEPTED, FALSE, "NoMatchingParent", "no", "spec.x", 2),
        Condition("AuthorizationPolicy", "shop/no-delete", "Service shop/cart", PROGRAMMED, TRUE, "Programmed"),
    )
    lost = {"kind": "HTTPRoute", "namespace": "shop", "name": "lost", "reason": "NoMatchingParent", "message": "no"}
    world = dataclasses.replace(WORLD, rejected=(lost,), conditions=said)
    cart, without = rows(world, "routes", "shop", "")
    assert (cart["state"], without["state"]) == ("pending", "NoMatchingParent")
    assert [(one["type"], one["status"]) for one in cart["conditions"]] == [
        ("Accepted", "True"),
        ("Programmed", "Unknown"),
    ]
    assert [(one["parent"], one["field"]) for one in without["conditions"]] == [("Service shop/no", "spec.x")]
    policy = rows(world, "policies", "shop", "no-delete")[0]
    assert (policy["state"], [one["reason"] for one in policy["conditions"]]) == ("in force", ["Programmed"])


def test_a_name_that_does_not_exist_is_not_an_empty_answer() -> None:
    with pytest.raises(NotFoundError, match="no service 'nope' in namespace shop"):
        rows(WORLD, "services", "shop", "nope")
    with pytest.raises(BadQueryError, match="endpoints, policies"):
        rows(WORLD, "things", "", "")
    with pytest.raises(NotFoundError, match="no policy 'nope'"):
        rows(WORLD, "policies", "", "nope")


def test_routes_list_their_filters_and_timeouts() -> None:
    base = snapshot()
    cart = base.destinations[CART_VIP]
    behind = dataclasses.replace(CANARY.backends[0], filters=Filters(response=header_change(removing=["Server"])))
    filters = Filters(rewrite=Rewrite("inner", None))
    rule = dataclasses.replace(CANARY, filters=filters, backends=(behind,), timeouts=RouteTimeouts(1000))
    changed = dataclasses.replace(cart, producer_rules=(rule,))
    world = World(dataclasses.replace(base, destinations={CART_VIP: changed}))
    (shown,) = rows(world, "routes", "shop", "cart")[0]["rules"]
    assert (shown["filters"], shown["timeouts"]) == (["rewrite host to inner"], ["request 1s"])
    assert [one["filters"] for one in shown["backends"]] == [["remove response header server"]]
