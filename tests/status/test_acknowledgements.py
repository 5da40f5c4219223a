"""When Programmed is True, and what it says until then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.status.acknowledgements import IN_FORCE, NOBODY, WAITING, Acknowledgements, Report, counts
from nodeagent.status.entries import Stated

KEY = ("HTTPRoute", "shop/r")


def report(node: str, digest: str, *, counts: bool = True) -> Report:
    return Report(node, {"HTTPRoute": digest}, counts)


def waiting(*points: str, now: float = 0.0) -> Acknowledgements:
    """For an object that is there since the last of the points."""
    made = Acknowledgements(patience=30.0)
    for point in points:
        number = made.history("HTTPRoute").note(point)
    made.expect(KEY, ("u1", 1), number, now, over=False)
    return made


def judged(made: Acknowledgements, reports: list[Report], now: float) -> Stated:
    made.heard(reports)
    return made.judge(KEY, now)


def test_it_is_in_force_once_every_node_has_that_point_or_a_later_one() -> None:
    made = waiting("a", "b")
    assert judged(made, [report("n1", "b"), report("n2", "a")], 1.0) == WAITING
    made.history("HTTPRoute").note("c")
    assert judged(made, [report("n1", "b"), report("n2", "c")], 1.0) == IN_FORCE


def test_a_point_that_was_never_seen_confirms_nothing() -> None:
    assert judged(waiting("a", "b"), [report("n1", "z")], 1.0) == WAITING
    assert judged(waiting("a", "b"), [Report("n1", {"TrafficPolicy": "b"})], 1.0) == WAITING


def test_a_node_that_does_not_count_is_not_waited_for() -> None:
    reports = [report("n1", "b"), report("gone", "a", counts=False)]
    assert judged(waiting("a", "b"), reports, 1.0) == IN_FORCE


def test_without_any_node_nothing_is_in_force() -> None:
    assert judged(waiting("a"), [], 100.0) == NOBODY
    assert judged(waiting("a"), [report("n1", "a", counts=False)], 100.0) == NOBODY


def test_a_node_that_does_not_confirm_is_named_after_a_while_and_forgiven_when_it_does() -> None:
    made = waiting("a", "b", now=10.0)
    reports = [report("n1", "b"), report("n2", "a")]
    assert judged(made, reports, 39.9) == WAITING
    late = judged(made, reports, 40.0)
    assert (late.status, late.reason) == ("False", "PartiallyProgrammed")
    assert late.message.startswith("not in force on n2: ")
    assert judged(made, [report("n2", "b")], 41.0) == IN_FORCE


def test_few_nodes_are_named_and_the_others_counted() -> None:
    reports = [report(f"n{number}", "a") for number in (5, 4, 3, 2, 1)]
    message = judged(waiting("a", "b"), reports, 31.0).message
    assert message.startswith("not in force on n1, n2, n3 and 2 more: ")


def test_what_was_in_force_once_stays_so_until_the_object_changes() -> None:
    made = waiting("a")
    assert judged(made, [report("n1", "a")], 1.0) == IN_FORCE
    assert judged(made, [report("n1", "a"), report("new", "")], 2.0) == IN_FORCE
    assert judged(made, [], 2.0) == IN_FORCE
    made.expect(KEY, ("u1", 1), made.history("HTTPRoute").note("b"), 3.0, over=False)
    assert judged(made, [], 3.0) == IN_FORCE
    made.expect(KEY, ("u1", 2), made.history("HTTPRoute").note("c"), 3.0, over=False)
    assert judged(made, [report("n1", "b")], 3.0) == WAITING


def test_what_a_writer_before_saw_need_not_be_waited_for() -> None:
    made = Acknowledgements()
    made.expect(KEY, ("u1", 1), made.history("HTTPRoute").note("a"), 0.0, over=True)
    assert judged(made, [report("n1", "")], 100.0) == IN_FORCE
    assert not made.is_open(KEY)


def test_only_what_waits_makes_another_answer_due() -> None:
    made = waiting("a", now=10.0)
    assert (made.is_open(KEY), made.due(15.0)) == (True, 25.0)
    assert made.due(41.0) is None
    judged(made, [report("n1", "a")], 12.0)
    assert (made.is_open(KEY), made.due(15.0)) == (False, None)


def test_only_objects_of_which_another_thing_is_to_be_said_are_looked_at_again() -> None:
    """Of thousands that wait, a report of one node of many moves none, and the last one all."""
    made = waiting("a", "b")
    assert made.moved(1.0) == [KEY]
    assert judged(made, [report("n1", "a"), report("n2", "a")], 1.0) == WAITING
    made.heard([report("n1", "b"), report("n2", "a")])
    assert made.moved(2.0) == []
    assert made.moved(30.0) == [KEY]
    made.heard([report("n1", "b"), report("n2", "b")])
    assert made.moved(2.0) == [KEY]
    made.judge(KEY, 2.0)
    assert made.moved(3.0) == []


def test_what_is_gone_is_forgotten() -> None:
    made = waiting("a")
    made.forget(KEY)
    assert not made.is_open(KEY)


@pytest.mark.parametrize(
    ("ready", "expected"), [(None, True), ({}, False), ({"n1": True}, True), ({"n1": False}, False)]
)
def test_a_node_counts_while_its_node_is_ready(ready: dict[str, bool] | None, expected: bool) -> None:
    assert counts("n1", ready) is expected


def test_what_is_said_meanwhile_is_not_bad_news() -> None:
    assert [one.is_bad for one in (IN_FORCE, WAITING, NOBODY)] == [False] * 3
    assert Stated("Programmed", "False", "PartiallyProgrammed").is_bad


KEYS = [("HTTPRoute", f"shop/r{which}") for which in range(4)]
CALLS = st.lists(
    st.tuples(st.sampled_from(["expect", "over", "judge", "forget", "confirm", "deny"]), st.integers(0, 3)), max_size=30
)


@given(calls=CALLS)
def test_open_are_those_that_were_expected_and_not_confirmed_whatever_happens(calls: list[tuple[str, int]]) -> None:
    made, expected = Acknowledgements(), dict[tuple[str, str], bool]()  # whether it is over
    number, confirmed = made.history("HTTPRoute").note("a"), False
    for turn, (call, which) in enumerate(calls):
        key = KEYS[which]
        if call in {"expect", "over"}:
            made.expect(key, (turn,), number, 0.0, over=call == "over")
            expected[key] = call == "over"
        elif call == "judge" and key in expected:
            said = made.judge(key, 1.0)
            expected[key] = expected[key] or confirmed
            assert (said == IN_FORCE) == expected[key]
        elif call == "forget":
            made.forget(key)
            expected.pop(key, None)
        elif call in {"confirm", "deny"}:
            confirmed = call == "confirm"
            made.heard([report("n1", "a" if confirmed else "z")])
        assert all(made.is_open(key) == (expected.get(key) is False) for key in KEYS)
