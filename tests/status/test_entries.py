"""What an object's status should say, from the conditions that compiling the configuration gave."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import Condition
from nodeagent.status.entries import (
    MAX_MESSAGE,
    Entry,
    Stated,
    entries,
    subject_of,
    to_be_programmed,
    with_programmed,
)
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

SERVICE: Document = {"group": "", "kind": "Service", "name": "cart"}
GATEWAY: Document = {"name": "edge"}
BASE = [*some.callers(), *some.service("cart")]
TO_CART: Document = {"backendRefs": [{"name": "cart", "port": 80}]}


def route(*parents: Document, rules: list[Document] | None = None, **metadata: Any) -> Document:
    made = manifests.http_route("shop", "r", "cart", copy.deepcopy(rules or [TO_CART]))
    made["spec"]["parentRefs"] = list(parents)
    made["metadata"] |= {"uid": "u1", "generation": 3, **metadata}
    return made


def told(document: Document, *others: Document) -> tuple[Entry, ...]:
    """Of `document`, in the company of BASE and the others."""
    subject = subject_of(document)
    objects = some.load({"all.yaml": some.text(*BASE, *others, document)})[1]
    said = compile_objects(objects, 1)[1]
    return entries(subject, [one for one in said if (one.kind, one.object) == subject.key])


def words(entry: Entry) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in entry.conditions}


def test_a_route_that_is_good_is_accepted_resolved_and_about_to_be_programmed() -> None:
    (entry,) = told(route(SERVICE))
    assert entry.reference == SERVICE
    assert words(entry) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Programmed": ("Unknown", "Pending"),
    }


def test_parents_that_are_not_services_get_no_entry() -> None:
    assert [entry.reference for entry in told(route(GATEWAY, SERVICE, {**SERVICE, "kind": "Other"}))] == [SERVICE]


def test_two_references_to_one_service_are_told_apart_as_the_spec_has_them() -> None:
    by_port, by_name = {**SERVICE, "port": 80}, {**SERVICE, "sectionName": "nothing"}
    good, bad = told(route(by_port, by_name))
    assert (good.reference, words(good)["Accepted"]) == (by_port, ("True", "Accepted"))
    assert (bad.reference, words(bad)) == (by_name, {"Accepted": ("False", "NoMatchingParent")})


def test_a_parent_that_does_not_exist_is_named_with_the_field() -> None:
    (entry,) = told(route({**SERVICE, "name": "gone"}))
    assert entry.conditions == (
        Stated("Accepted", "False", "NoMatchingParent", "spec.parentRefs[0].name: Service shop/gone does not exist"),
    )


def test_a_backend_that_does_not_exist_leaves_the_route_accepted() -> None:
    (entry,) = told(route(SERVICE, rules=[{"backendRefs": [{"name": "gone", "port": 80}]}]))
    assert words(entry)["Accepted"] == ("True", "Accepted")
    assert words(entry)["ResolvedRefs"] == ("False", "BackendNotFound")
    said = next(one.message for one in entry.conditions if one.type == "ResolvedRefs")
    assert said.startswith("spec.rules[0].backendRefs[0]: Service shop/gone does not exist")


def test_an_unknown_value_of_one_rule_makes_the_route_partially_invalid() -> None:
    strange = {"matches": [{"path": {"type": "Glob", "value": "/x"}}], **TO_CART}
    (entry,) = told(route(SERVICE, rules=[TO_CART, strange]))
    assert words(entry)["PartiallyInvalid"] == ("True", "UnsupportedValue")
    assert next(one for one in entry.conditions if one.type == "PartiallyInvalid").is_bad
    assert [one.type for one in entry.conditions] == ["Accepted", "PartiallyInvalid", "ResolvedRefs", "Programmed"]


def test_a_consumer_route_names_its_parent_in_the_other_namespace() -> None:
    parent = {**SERVICE, "namespace": "shop"}
    consumer = route(parent, rules=[{"backendRefs": [{"name": "cart", "namespace": "shop", "port": 80}]}])
    consumer["metadata"]["namespace"] = "batch"
    (entry,) = told(consumer)
    assert (entry.reference, words(entry)["Accepted"]) == (parent, ("True", "Accepted"))


def test_an_object_that_cannot_be_used_says_only_that_whatever_was_good_before() -> None:
    good, bad = route(SERVICE, GATEWAY), route(SERVICE, GATEWAY, generation=4)
    bad["spec"]["rules"][0]["matches"] = [{"path": {"type": "RegularExpression", "value": "("}}]
    before = some.load({"all.yaml": some.text(*BASE, good)})[0]
    objects = some.load({"all.yaml": some.text(*BASE, bad)}, before)[1]
    said = [one for one in compile_objects(objects, 2)[1] if one.object == "shop/r"]
    assert {one.status for one in said if one.type == "Accepted"} == {"True", "False"}
    (entry,) = entries(subject_of(bad), said)
    assert words(entry) == {"Accepted": ("False", "UnsupportedValue")}
    assert "spec.rules[0].matches[0].path.value: " in entry.conditions[0].message
    assert "the last good state stays in force" in entry.conditions[0].message


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (manifests.traffic_policy, {"timeouts": {"request": "1s"}}),
        (manifests.rate_limit_policy, {"http": {"rules": [{"name": "a", "limit": {"requests": 1}}]}}),
    ],
)
def test_a_policy_has_an_entry_for_each_target_in_its_own_namespace(make: Any, spec: Document) -> None:
    policy = make("shop", "p", SERVICE, **spec)
    policy["spec"]["targetRefs"] = [SERVICE, {**SERVICE, "name": "gone"}]
    policy["metadata"] |= {"uid": "u2", "generation": 1}
    good, missing = told(policy)
    assert good.reference == {**SERVICE, "namespace": "shop"}
    assert words(good) == {"Accepted": ("True", "Accepted"), "Programmed": ("Unknown", "Pending")}
    assert words(missing) == {"Accepted": ("False", "TargetNotFound")}


def test_of_two_policies_for_a_target_the_younger_is_conflicted() -> None:
    older = manifests.traffic_policy("shop", "a", SERVICE, timeouts={"request": "1s"})
    younger = manifests.traffic_policy("shop", "b", SERVICE, timeouts={"request": "2s"})
    for document, second in ((older, 1), (younger, 2)):
        document["metadata"] |= {"creationTimestamp": f"2026-01-01T00:00:0{second}Z"}
    (entry,) = told(younger, older)
    assert words(entry) == {"Accepted": ("False", "Conflicted")}
    assert "TrafficPolicy shop/a has the same target and is older" in entry.conditions[0].message


def test_what_the_nodes_said_takes_the_place_of_pending_and_nothing_else() -> None:
    made = told(route({**SERVICE, "name": "gone"}, SERVICE))
    assert to_be_programmed(made) == (1,)
    done = with_programmed(made, Stated("Programmed", "True", "Programmed"))
    assert done[0] == made[0]
    assert words(done[1])["Programmed"] == ("True", "Programmed")
    assert words(done[1])["Accepted"] == ("True", "Accepted")


def test_a_message_has_a_bound() -> None:
    said = [Condition("HTTPRoute", "shop/r", "", "Accepted", "False", "Invalid", "x" * 5000, "spec")]
    (entry,) = entries(subject_of(route(SERVICE)), said)
    assert len(entry.conditions[0].message) == MAX_MESSAGE


def test_references_that_are_no_list_of_objects_have_no_entries() -> None:
    broken = route(SERVICE)
    broken["spec"]["parentRefs"] = "cart"
    assert subject_of(broken).references == ()
    broken["spec"]["parentRefs"] = ["cart", SERVICE]
    assert subject_of(broken).references == (SERVICE,)
