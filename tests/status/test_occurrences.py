"""Events: each once, counted when it happens again, and never too many."""

from __future__ import annotations

from nodeagent.status.occurrences import (
    BURST,
    KEPT,
    MAX_NOTE,
    OBJECT_BURST,
    REPEAT,
    Emission,
    Occurrence,
    Occurrences,
    Regarding,
    event_of,
    repeat_of,
)

ROUTE = Regarding("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "r", "u1")
LOST = Occurrence(ROUTE, "BackendNotFound", "spec.rules[0].backendRefs[0]: Service shop/gone does not exist")


def other(number: int, regarding: Regarding = ROUTE) -> Occurrence:
    return Occurrence(regarding, "Invalid", f"fault {number}")


def route(number: int) -> Regarding:
    return Regarding("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", f"r{number}", f"u{number}")


def test_an_occurrence_becomes_an_event_with_the_field_that_is_to_blame() -> None:
    emission = Occurrences().emission(LOST, 0.0, "t0")
    assert emission is not None
    event = event_of(emission, "node-1")
    assert event["involvedObject"] == {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "namespace": "shop",
        "name": "r",
        "uid": "u1",
    }
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "BackendNotFound", 1)
    assert event["message"].startswith("spec.rules[0].backendRefs[0]: ")
    assert event["source"] == {"component": "nodeagent", "host": "node-1"}
    assert event["metadata"]["namespace"] == "shop"


def test_the_same_again_is_counted_and_written_once_in_a_while() -> None:
    all_of_them = Occurrences()
    assert all_of_them.emission(LOST, 0.0, "t0") == Emission(LOST, 1, "t0", "t0")
    assert [all_of_them.emission(LOST, now, "t1") for now in (1.0, 2.0, REPEAT - 1)] == [None] * 3
    assert all_of_them.emission(LOST, REPEAT, "t2") == Emission(LOST, 5, "t0", "t2")
    assert all_of_them.left_out == 0


def test_two_writers_give_an_event_the_same_name_and_add_their_counts() -> None:
    first, second = Occurrences().emission(LOST, 0.0, "t0"), Occurrences().emission(LOST, 500.0, "t1")
    assert first is not None
    assert second is not None
    assert event_of(first, "a")["metadata"] == event_of(second, "b")["metadata"]
    assert repeat_of(second, 4) == {"count": 5, "lastTimestamp": "t1"}


def test_another_object_or_another_note_is_another_event() -> None:
    names = {one.event_name for one in (LOST, other(1), other(2), other(1, route(1)))}
    assert len(names) == 4
    recreated = Regarding(ROUTE.api_version, ROUTE.kind, ROUTE.namespace, ROUTE.name, "u2")
    assert Occurrence(recreated, LOST.reason, LOST.note).event_name != LOST.event_name


def test_one_object_cannot_use_up_the_events_of_all() -> None:
    all_of_them = Occurrences()
    written = [all_of_them.emission(other(number), 0.0, "t") for number in range(50)]
    assert sum(one is not None for one in written) == OBJECT_BURST
    assert all_of_them.left_out == 50 - OBJECT_BURST
    assert all_of_them.emission(other(1, route(2)), 0.0, "t") is not None
    assert all_of_them.emission(other(99), 61.0, "t") is not None


def test_an_agent_writes_no_more_than_its_rate() -> None:
    all_of_them = Occurrences()
    written = [all_of_them.emission(other(1, route(number)), 0.0, "t") for number in range(500)]
    assert sum(one is not None for one in written) == BURST
    assert all_of_them.left_out == 500 - BURST
    assert all_of_them.emission(other(1, route(999)), 1.0, "t") is not None


def test_what_is_remembered_has_a_bound() -> None:
    all_of_them = Occurrences()
    for number in range(2 * KEPT):
        all_of_them.emission(other(1, route(number)), float(number), "t")
    assert len(all_of_them._known) <= KEPT
    assert len(all_of_them._of_objects) <= KEPT


def test_a_note_is_cut_to_what_the_api_takes() -> None:
    emission = Emission(Occurrence(ROUTE, "r" * 200, "ä" * 2000), 1, "t", "t")
    event = event_of(emission, "n")
    assert len(event["message"].encode()) <= MAX_NOTE
    assert event["message"].endswith("ä...")
    assert len(event["reason"]) == 128


def test_an_event_about_what_is_in_no_namespace_is_in_default() -> None:
    node = Regarding("v1", "Node", "", "n" * 253, "u9")
    event = event_of(Emission(Occurrence(node, "r", "n"), 1, "t", "t"), "n")
    assert event["metadata"]["namespace"] == "default"
    assert len(event["metadata"]["name"]) <= 253
