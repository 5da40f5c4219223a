"""Existing and wanted entries -> what is written, if anything."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.status.entries import CONTROLLER, POLICY, ROUTE, Entry, Shape, Stated
from nodeagent.status.plan import already_programmed, news, patch, planned

CART = {"group": "", "kind": "Service", "name": "cart"}
FISH = {"group": "", "kind": "Service", "name": "fish"}
EDGE = {"name": "edge"}
OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
GOOD = (Stated("Accepted", "True", "Accepted"), Stated("Programmed", "Unknown", "Pending"))
DONE = (Stated("Accepted", "True", "Accepted"), Stated("Programmed", "True", "Programmed"))
BAD = (Stated("Accepted", "False", "NoMatchingParent", "spec.parentRefs[0].name: no such Service"),)
OTHERS = {"parentRef": EDGE, "controllerName": "example.com/gateway", "conditions": [{"type": "Accepted"}]}


def write(status: Any, *wanted: Entry, generation: int = 1, now: str = NEW, shape: Shape = ROUTE) -> Any:
    """The status after what was planned is written."""
    fields = planned(shape, status, wanted, generation, now)
    return status if fields is None else {**(status or {}), **fields}


def test_a_new_object_gets_its_entries() -> None:
    fields = planned(ROUTE, None, [Entry(CART, BAD)], 7, NEW)
    assert fields is not None
    assert fields.keys() == {"parents"}
    assert fields["parents"] == [
        {
            "parentRef": CART,
            "controllerName": CONTROLLER,
            "conditions": [
                {
                    "type": "Accepted",
                    "status": "False",
                    "observedGeneration": 7,
                    "lastTransitionTime": NEW,
                    "reason": "NoMatchingParent",
                    "message": "spec.parentRefs[0].name: no such Service",
                }
            ],
        }
    ]


def test_nothing_is_written_twice() -> None:
    status = write(None, Entry(CART, GOOD), Entry(FISH, BAD), now=OLD)
    assert planned(ROUTE, status, [Entry(CART, GOOD), Entry(FISH, BAD)], 1, NEW) is None
    assert planned(ROUTE, status, [Entry(FISH, BAD), Entry(CART, GOOD)], 1, NEW) is None  # their order is no news


def test_an_object_that_is_no_business_of_ours_is_left_alone() -> None:
    assert planned(ROUTE, None, [], 1, NEW) is None
    assert planned(ROUTE, {"parents": [OTHERS]}, [], 1, NEW) is None


def test_entries_of_other_controllers_stay_as_and_where_they_are() -> None:
    status = {"parents": [OTHERS, *write(None, Entry(CART, GOOD), now=OLD)["parents"], {**OTHERS, "x": 1}]}
    after = write(status, Entry(CART, BAD), Entry(FISH, GOOD))["parents"]
    assert [one["controllerName"] == CONTROLLER for one in after] == [False, True, False, True]
    assert (after[0], after[2]) == (OTHERS, {**OTHERS, "x": 1})


def test_the_entry_of_a_reference_that_was_removed_is_taken_away() -> None:
    status = {"parents": [OTHERS, *write(None, Entry(CART, GOOD), Entry(FISH, GOOD))["parents"]]}
    after = write(status, Entry(FISH, GOOD))["parents"]
    assert [one["parentRef"] for one in after] == [EDGE, FISH]
    assert write(status)["parents"] == [OTHERS]


def test_a_second_entry_for_the_same_reference_is_taken_away() -> None:
    (one,) = write(None, Entry(CART, GOOD))["parents"]
    assert write({"parents": [one, one]}, Entry(CART, GOOD))["parents"] == [one]


def test_the_time_of_a_condition_changes_only_with_its_status() -> None:
    status = write(None, Entry(CART, GOOD), now=OLD)
    other = (Stated("Accepted", "True", "Accepted", "another note"), Stated("Programmed", "True", "Programmed"))
    accepted, programmed = write(status, Entry(CART, other), generation=2)["parents"][0]["conditions"]
    assert (accepted["lastTransitionTime"], accepted["message"]) == (OLD, "another note")
    assert programmed["lastTransitionTime"] == NEW
    assert {accepted["observedGeneration"], programmed["observedGeneration"]} == {2}


def test_a_new_generation_is_written_although_all_else_is_the_same() -> None:
    status = write(None, Entry(CART, GOOD))
    assert planned(ROUTE, status, [Entry(CART, GOOD)], 2, NEW) is not None


def test_a_condition_that_is_no_longer_said_goes() -> None:
    partly = (*GOOD, Stated("PartiallyInvalid", "True", "UnsupportedValue"))
    after = write(write(None, Entry(CART, partly)), Entry(CART, GOOD))
    assert [one["type"] for one in after["parents"][0]["conditions"]] == ["Accepted", "Programmed"]


def test_what_the_crd_fills_in_does_not_make_another_reference() -> None:
    stored = write(None, Entry({"name": "edge", "kind": "Gateway"}, GOOD))
    assert len(write(stored, Entry(EDGE, GOOD))["parents"]) == 1


def test_there_are_never_more_entries_than_the_api_takes() -> None:
    others = [{**OTHERS, "parentRef": {"name": f"g{number}"}} for number in range(31)]
    after = write({"parents": others}, Entry(CART, GOOD), Entry(FISH, GOOD))["parents"]
    assert (after[:31], [one["parentRef"] for one in after[31:]]) == (others, [CART])


def test_policies_have_ancestors() -> None:
    status = write(None, Entry(CART, GOOD), shape=POLICY)
    assert status["ancestors"][0]["ancestorRef"] == CART
    assert patch("77", status) == {"metadata": {"resourceVersion": "77"}, "status": status}


def test_the_conditions_of_a_policy_are_the_worst_of_its_targets_and_say_which() -> None:
    lost = (Stated("Accepted", "False", "TargetNotFound", "spec.targetRefs[1].name: no such Service"),)
    status = write(None, Entry(CART, DONE), Entry(FISH, lost), shape=POLICY, now=OLD)
    assert [(one["type"], one["status"], one["message"]) for one in status["conditions"]] == [
        ("Accepted", "False", "Service fish: spec.targetRefs[1].name: no such Service"),
        ("Programmed", "True", ""),
    ]
    assert planned(POLICY, status, [Entry(CART, DONE), Entry(FISH, lost)], 1, NEW) is None
    accepted, programmed = write(status, Entry(CART, GOOD), Entry(FISH, DONE), shape=POLICY)["conditions"]
    assert (accepted["status"], accepted["lastTransitionTime"]) == ("True", NEW)
    assert (programmed["status"], programmed["lastTransitionTime"]) == ("Unknown", NEW)
    assert write(status, shape=POLICY) == {"ancestors": [], "conditions": []}


def test_what_a_writer_before_saw_confirmed_need_not_be_confirmed_again() -> None:
    status = write(None, Entry(CART, DONE), generation=2)
    assert already_programmed(ROUTE, status, [Entry(CART, GOOD)], 2)
    assert not already_programmed(ROUTE, status, [Entry(CART, GOOD)], 3)
    assert not already_programmed(ROUTE, status, [Entry(CART, GOOD), Entry(FISH, GOOD)], 2)
    assert not already_programmed(ROUTE, write(None, Entry(CART, GOOD), generation=2), [Entry(CART, GOOD)], 2)
    assert not already_programmed(ROUTE, {"parents": [OTHERS]}, [Entry(EDGE, GOOD)], 2)


def test_only_what_is_bad_and_was_not_said_yet_is_news() -> None:
    wanted = [Entry(CART, BAD), Entry(FISH, GOOD)]
    assert [(entry.reference, one.type) for entry, one in news(ROUTE, None, wanted)] == [(CART, "Accepted")]
    status = write(None, *wanted)
    assert list(news(ROUTE, status, wanted)) == []
    again = (Stated("Accepted", "False", "NoMatchingParent", "another"),)
    assert [one.message for _, one in news(ROUTE, status, [Entry(CART, again)])] == ["another"]


REFERENCES = st.sampled_from([CART, FISH, EDGE, {**CART, "port": 80}, {**CART, "sectionName": "http"}])
STATED = st.builds(
    Stated,
    st.sampled_from(["Accepted", "ResolvedRefs", "Programmed"]),
    st.sampled_from(["True", "False", "Unknown"]),
    st.sampled_from(["A", "B"]),
)
WANTED = st.lists(
    st.builds(Entry, REFERENCES, st.lists(STATED, max_size=3, unique_by=lambda one: one.type).map(tuple)),
    max_size=5,
    unique_by=lambda one: str(sorted(one.reference.items())),
)
FOREIGN = st.lists(st.builds(lambda ref: {**OTHERS, "parentRef": ref}, REFERENCES), max_size=4)


@given(FOREIGN, WANTED, WANTED, st.randoms(use_true_random=False))
def test_after_a_write_there_is_nothing_to_write_and_others_are_as_they_were(
    others: list[dict[str, Any]], first: list[Entry], second: list[Entry], random: Any
) -> None:
    listed = [*others, *(write(None, *first, now=OLD) or {"parents": []})["parents"]]
    random.shuffle(listed)
    status = {"parents": listed}
    kept = copy.deepcopy(status)
    after = write(status, *second)
    assert status == kept  # what is compared is not changed
    assert planned(ROUTE, after, second, 1, "later") is None
    foreign = [one for one in listed if one["controllerName"] != CONTROLLER]
    assert [one for one in after["parents"] if one["controllerName"] != CONTROLLER] == foreign
    ours = [one["parentRef"] for one in after["parents"] if one["controllerName"] == CONTROLLER]
    assert sorted(map(str, ours)) == sorted(str(entry.reference) for entry in second)
