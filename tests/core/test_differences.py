"""Editions of a table, and what differs between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.differences import LARGE, STEPS, Edition, Selection, changed, gone, is_near, unequal

Change = tuple[dict[int, str], set[int]]
change: st.SearchStrategy[Change] = st.tuples(
    st.dictionaries(st.integers(0, 5), st.sampled_from("ab"), max_size=3), st.sets(st.integers(0, 5), max_size=3)
)


@given(st.lists(change, max_size=STEPS + 4), st.integers(0, STEPS + 4))
def test_what_an_edition_says_of_itself_is_what_a_comparison_finds(changes: list[Change], back: int) -> None:
    editions: list[Edition[int, str]] = [Edition({1: "a"})]
    for new, left in changes:
        editions.append(editions[-1].next(new, left))
    before, now = editions[max(0, len(editions) - 1 - back)], editions[-1]
    plain, other = dict(before), dict(now)
    assert changed(before, now) == changed(plain, other)
    assert gone(before, now) == gone(plain, other)
    assert unequal(before, now) == unequal(plain, other)


def test_an_edition_is_not_changed_by_the_next() -> None:
    first = Edition({1: "a", 2: "b"})
    second = first.next({2: "c"}, [1, 2, 3])
    assert (dict(first), dict(second)) == ({1: "a", 2: "b"}, {2: "c"})
    assert first.next({}, [3]) is first


def test_what_is_too_long_ago_or_too_much_is_compared() -> None:
    first = Edition({1: "a"})
    many = first.next(dict.fromkeys(range(LARGE + 1), "b"))
    assert many.touched_since(first) is None
    later = first
    for number in range(STEPS):
        later = later.next({number + 2: "b"})
    assert later.touched_since(first) == set(range(2, STEPS + 2))
    assert later.next({1: "b"}).touched_since(first) is None


def test_two_editions_are_near_each_other_only_if_that_is_known_without_a_look() -> None:
    first = Edition({1: "a"})
    then = first.next({2: "b", 3: "b"})
    assert is_near(first, first, 0)
    assert is_near(first, then, 2)
    assert not is_near(first, then, 1)
    assert not is_near({1: "a"}, {1: "a"}, 5), "tables that say nothing of each other"
    assert not is_near({1: "a"}, first, 5)


@given(st.lists(change, max_size=6))
def test_a_selection_has_what_is_wanted_of_each_edition(changes: list[Change]) -> None:
    selection: Selection[int, str] = Selection(lambda value: value == "a")
    table: Edition[int, str] = Edition({1: "a"})
    for new, left in changes:
        before, found = selection.of(table), {key: value for key, value in table.items() if value == "a"}
        assert before == found
        table = table.next(new, left)
        assert selection.of(table) is not before or {k: v for k, v in table.items() if v == "a"} == found
