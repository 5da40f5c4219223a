"""One number for what is in force of a kind, and its place in the history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.status.digests import Digest, History

OBJECTS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.sampled_from("uv"), st.integers(1, 3)))


def digest(objects: dict[str, tuple[str, int]]) -> Digest:
    made = Digest()
    for key, (uid, generation) in objects.items():
        made.put(key, uid, generation)
    return made


@given(OBJECTS, OBJECTS)
def test_two_digests_are_equal_where_the_objects_are_whatever_was_there_before(
    first: dict[str, tuple[str, int]], second: dict[str, tuple[str, int]]
) -> None:
    moved = digest(first)
    for key in first.keys() - second.keys():
        moved.drop(key)
    for key in sorted(second, reverse=True):
        moved.put(key, *second[key])
    assert moved.text == digest(second).text
    assert len(moved) == len(second)
    assert (digest(first).text == digest(second).text) == (first == second)


def test_a_digest_is_32_hexadecimal_characters() -> None:
    assert Digest().text == "0" * 32
    one = digest({"shop/r": ("u1", 1)}).text
    assert len(one) == 32
    assert int(one, 16) > 0


def test_dropping_what_is_not_there_changes_nothing() -> None:
    made = digest({"shop/r": ("u1", 1)})
    before = made.text
    made.drop("shop/other")
    assert made.text == before


def test_of_two_points_the_later_has_the_higher_number() -> None:
    history = History()
    assert [history.note(one) for one in ("a", "b", "b", "c")] == [1, 2, 2, 3]
    assert [history.number(one) for one in ("a", "b", "c", "d")] == [1, 2, 3, None]


def test_a_point_that_is_come_back_to_is_the_newest() -> None:
    history = History()
    for one in ("a", "b", "a"):
        history.note(one)
    assert (history.number("a"), history.number("b"), history.newest) == (3, 2, 3)


def test_a_history_forgets_the_oldest_point() -> None:
    history = History(most=2)
    for one in ("a", "b", "a", "c"):
        history.note(one)
    assert [history.number(one) for one in ("a", "b", "c")] == [3, None, 4]
