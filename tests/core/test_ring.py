"""Keys stay where they are when endpoints come and go, and each endpoint has its share of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.ring import (
    LEAST_POINTS,
    MAX_POINTS,
    POINTS,
    Ring,
    cookie_value,
    hash_key,
    hash_of,
    new_cookie,
    points_each,
    set_cookie,
)
from nodeagent.core.traffic import Balancing, HashOn, LoadBalancer

EVENLY = [step * 2**64 // 4096 for step in range(4096)]
"""Keys that measure the ring: each stands for as much of it as any other."""
numbers = st.integers(0, 250)
keys = st.integers(0, 2**64 - 1)


def names_of(count: int, offset: int = 0) -> list[str]:
    return [f"10.0.{(number + offset) >> 8}.{(number + offset) & 255}:8080" for number in range(count)]


def picked(names: list[str], key: int) -> str:
    index = Ring(names).pick(key)
    assert index is not None
    return names[index]


def owners(names: list[str]) -> list[str]:
    ring = Ring(names)
    indexes = [ring.pick(key) for key in EVENLY]
    return [names[index] for index in indexes if index is not None]


# ---- the ring ----


@given(st.integers(2, 60), st.integers(0, 60_000), st.data())
def test_an_endpoint_that_leaves_moves_its_own_keys_only_at_most_2_of_n(
    count: int, offset: int, data: st.DataObject
) -> None:
    names = names_of(count, offset)
    gone = data.draw(st.sampled_from(names))
    before, after = owners(names), owners([name for name in names if name != gone])
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert all(old == gone for old, _ in moved)
    assert len(moved) <= 2 / count * len(EVENLY)


@given(st.integers(1, 60), st.integers(0, 60_000), st.data())
def test_an_endpoint_that_comes_takes_keys_for_itself_only_at_most_2_of_n(
    count: int, offset: int, data: st.DataObject
) -> None:
    names = names_of(count, offset)
    place = data.draw(st.integers(0, count))
    before, after = owners(names), owners([*names[:place], "192.0.2.1:80", *names[place:]])
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert all(new == "192.0.2.1:80" for _, new in moved)
    assert len(moved) <= 2 / (count + 1) * len(EVENLY)


@given(st.lists(numbers, min_size=1, max_size=20, unique=True), keys)
def test_the_order_of_endpoints_does_not_matter(hosts: list[int], key: int) -> None:
    names = [f"10.0.0.{host}:80" for host in hosts]
    assert picked(names, key) == picked(sorted(names), key) == picked(names[::-1], key)


@given(st.integers(1, 20), keys, st.data())
def test_an_excluded_endpoint_leaves_its_keys_to_who_would_have_them_without_it(
    count: int, key: int, data: st.DataObject
) -> None:
    names = names_of(count)
    excluded = data.draw(st.sets(st.integers(0, count - 1)))
    left = [name for index, name in enumerate(names) if index not in excluded]
    index = Ring(names).pick(key, excluded)
    if not left:
        assert index is None
        return
    assert index is not None
    assert names[index] == picked(left, key)


def test_nothing_is_picked_from_an_empty_ring() -> None:
    assert Ring([]).pick(5) is None


@pytest.mark.parametrize("count", [2, 10, 100])
def test_shares_are_close_to_equal(count: int) -> None:
    shares = Counter(owners(names_of(count)))
    assert len(shares) == count
    assert max(shares.values()) <= 1.5 * len(EVENLY) / count


@pytest.mark.parametrize("key", [0, 2**64 - 1])
def test_the_ring_closes(key: int) -> None:
    assert Ring(names_of(3)).pick(key) in range(3)


@given(st.integers(0, 1_000_000))
def test_a_ring_is_bounded(count: int) -> None:
    each = points_each(count)
    assert LEAST_POINTS <= each <= POINTS
    assert each * count <= max(MAX_POINTS, LEAST_POINTS * count)


def test_hashes_are_the_same_in_every_process_and_release() -> None:
    """Other values would move every key when a node is upgraded."""
    assert hash_of("user-1") == 0x9AAC5A8621EAE188
    assert [Ring(names_of(5)).pick(hash_of(str(number))) for number in range(8)] == [0, 1, 1, 3, 0, 1, 4, 1]


# ---- what is hashed ----

BY_HEADER = LoadBalancer(Balancing.RING_HASH, HashOn.HEADER, "x-user")
BY_COOKIE = LoadBalancer(Balancing.RING_HASH, HashOn.COOKIE, "sid", 90_500, "/shop")


def test_a_header_is_hashed_by_value() -> None:
    assert hash_key(BY_HEADER, [("accept", "*"), ("x-user", "ann")], "10.0.0.1") == hash_of("ann")
    assert hash_key(BY_HEADER, [("x-user", "a"), ("x-user", "b")], "10.0.0.1") == hash_of("a,b")
    assert hash_key(BY_HEADER, [("accept", "*")], "10.0.0.1") is None


def test_a_source_address_is_hashed() -> None:
    balancer = LoadBalancer(Balancing.RING_HASH, HashOn.SOURCE_IP)
    assert hash_key(balancer, [], "10.0.0.1") == hash_of("10.0.0.1") != hash_key(balancer, [], "10.0.0.2")


def test_a_cookie_is_hashed_and_a_request_without_one_gets_one_that_leads_to_the_same_endpoint() -> None:
    assert hash_key(BY_COOKIE, [("cookie", "sid=abc")], "10.0.0.1") == hash_of("abc")
    assert hash_key(BY_COOKIE, [("cookie", "sid=")], "10.0.0.1") is None
    value = new_cookie(2**63 + 5)
    assert value == "8000000000000005"
    assert set_cookie(BY_COOKIE, value) == "sid=8000000000000005; Path=/shop; Max-Age=90; HttpOnly"
    assert hash_key(BY_COOKIE, [("cookie", f"a=b; sid={value}")], "10.0.0.1") == hash_of(value)


@pytest.mark.parametrize(("ttl", "age"), [(0, ""), (1, "; Max-Age=1"), (999, "; Max-Age=1"), (2000, "; Max-Age=2")])
def test_a_cookie_lives_as_long_as_its_ttl(ttl: int, age: str) -> None:
    balancer = LoadBalancer(Balancing.RING_HASH, HashOn.COOKIE, "sid", ttl)
    assert set_cookie(balancer, new_cookie(0)) == f"sid=0000000000000000; Path=/{age}; HttpOnly"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("sid=1", "1"),
        ("a=2; sid=1", "1"),
        ("a=2;sid=1", "1"),
        ("sid=1; sid=2", "1"),
        ("sid = 1 ", "1"),
        ("sid=a=b==", "a=b=="),
        ('sid="q"', '"q"'),
        ("sid=", ""),
        ("xsid=1", None),
        ("sidx=1", None),
        ("SID=1", None),
        ("a=sid=1", None),
        ("sid", None),
        (";;=;", None),
        ("", None),
    ],
)
def test_a_cookie_is_found_by_its_exact_name(line: str, value: str | None) -> None:
    assert cookie_value([("x-cookie", "sid=no"), ("cookie", line)], "sid") == value


def test_a_second_cookie_field_is_read_too() -> None:
    assert cookie_value([("cookie", "a=1"), ("cookie", "sid=2")], "sid") == "2"
