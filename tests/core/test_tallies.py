"""Tallies of endpoints add up over workers, fit a record, and tell when their interval is over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core import tallies
from nodeagent.core.ledger import RECORD_BYTES
from nodeagent.core.tallies import MAX_ENDPOINTS, Tallies

KEYS = st.integers(0, 2**64 - 1)
COUNTS = st.tuples(st.integers(0, 1000), st.integers(0, 1000))


@given(st.integers(1, 2**63), st.dictionaries(KEYS, COUNTS, max_size=200))
def test_a_record_holds_them_whole(started: int, counts: dict[int, tuple[int, int]]) -> None:
    value = Tallies().added(counts, started)
    packed = tallies.pack(value)
    assert len(packed) <= RECORD_BYTES
    assert tallies.unpack(packed) == value


@given(st.lists(st.dictionaries(st.integers(0, 5), COUNTS), max_size=8))
def test_what_workers_add_is_summed(parts: list[dict[int, tuple[int, int]]]) -> None:
    value = Tallies()
    for part in parts:
        value = value.added(part, 7)
    for key in value.counts:
        assert value.counts[key][0] == sum(part.get(key, (0, 0))[0] for part in parts)
        assert value.counts[key][1] == sum(part.get(key, (0, 0))[1] for part in parts)


def test_of_too_many_endpoints_the_busiest_are_kept() -> None:
    value = Tallies().added({key: (key, 0) for key in range(MAX_ENDPOINTS + 10)}, 1)
    assert set(value.counts) == set(range(10, MAX_ENDPOINTS + 10))


def test_the_interval_begins_with_the_first_count_and_no_content_is_none() -> None:
    assert tallies.unpack(b"") == Tallies()
    assert not Tallies().is_over(1, 10**9)
    value = Tallies().added({}, 100)
    assert not value.is_over(50, 149)
    assert value.is_over(50, 150)
