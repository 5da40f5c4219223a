"""A table that keeps the latest and is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.recent import Recent, Room


def ask(recent: Recent[int, str], key: int) -> bool:
    """True when the key was there."""
    known = recent.get(key) or recent.recall(key)
    return (known or recent.keep(key, str(key))) == str(key) and known is not None


@given(st.integers(1, 5), st.lists(st.integers(0, 12)))
def test_the_latest_keys_are_kept_and_never_more_than_twice_as_many(most: int, keys: list[int]) -> None:
    recent: Recent[int, str] = Recent(most)
    for count, key in enumerate(keys):
        latest = list(dict.fromkeys(reversed(keys[:count])))[:most]
        there = ask(recent, key)
        assert there or key not in latest
        assert recent.held <= 2 * most


def test_what_was_not_asked_for_is_forgotten() -> None:
    recent: Recent[int, str] = Recent(2)
    for key in range(5):
        ask(recent, key)
    assert not ask(recent, 0)


def test_room_is_taken_by_as_many_as_are_asked_for_or_not_at_all() -> None:
    room = Room(5)
    assert [room.take(count) for count in (3, 3, 2, 1, 0)] == [True, False, True, False, True]
