"""Where pods dialled to: what the hooks note is what the agent reads, and nothing that may be there is denied."""

from __future__ import annotations

import ctypes
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.model import Action
from nodeagent.kernel import abi, layout
from nodeagent.kernel.dialled import Dialled, place
from nodeagent.metrics.reader import FillReader
from tests.kernel.build import policy, service
from tests.kernel.conftest import Node

V4 = st.ip_addresses(v=4).map(str)
ADDRESSES = V4 | st.ip_addresses(v=6).map(str)
KIND = "socket.SOCK_STREAM | socket.SOCK_NONBLOCK"
MAPPED = "198.18.9.9"
NOWHERE = ["198.18.77.1", "198.19.200.13", "198.18.0.255", "2001:db8::1", "2001:db8:1::1", "fd00::c612:1", "64:ff9b::1"]


def empty() -> Dialled:
    return Dialled(bytearray(ctypes.sizeof(abi.Dialled)))


MANY = [f"10.0.{number >> 8}.{number & 255}" for number in range(abi.DIALLED_PLACES // 4)]  # of all places
USED = {place(address) for address in MANY}
FREE = next(address for address in (f"198.18.{number}.1" for number in range(256)) if place(address) not in USED)


def full_turn(dialled: Dialled) -> None:
    """Note so many addresses that a turn ends."""
    dialled.note([*MANY, "10.0.64.0"])
    before = dialled.turn
    dialled.forget_some()
    assert dialled.turn > before


# ---- the agent's side ----


@given(noted=st.sets(ADDRESSES), others=st.sets(ADDRESSES))
def test_what_was_noted_is_always_among_what_may_have_been_dialled(noted: set[str], others: set[str]) -> None:
    dialled = empty()
    dialled.note(noted)
    assert noted <= dialled.among(noted | others)
    assert dialled.among(others) == {one for one in others if place(one) in set(map(place, noted))}
    assert dialled.used() == len(set(map(place, noted)))


def test_addresses_of_one_16_never_share_a_place() -> None:
    assert len({place(f"10.7.{high}.{low}") for high in range(256) for low in range(256)}) == abi.DIALLED_PLACES


def test_nothing_was_dialled_where_nothing_was_noted() -> None:
    assert empty().among(["198.18.0.1", "0.0.0.0", "::"]) == set()


def test_what_was_noted_counts_for_a_whole_turn_more_and_not_for_two() -> None:
    dialled = empty()
    dialled.note([FREE])
    full_turn(dialled)
    assert dialled.among([FREE]) == {FREE}
    full_turn(dialled)
    assert dialled.among([FREE]) == set()


def test_a_turn_goes_on_until_a_quarter_of_the_places_is_in_use() -> None:
    dialled = empty()
    before = dialled.turn
    dialled.note(MANY)
    dialled.forget_some()
    assert (dialled.turn, dialled.used()) == (before, len(MANY))


@pytest.mark.parametrize("turn", [254, 255, 258, 511, 0xFFFF])
def test_a_place_that_was_never_used_is_of_no_turn(turn: int) -> None:
    element = bytearray(ctypes.sizeof(abi.Dialled))
    abi.Dialled.from_buffer(element).turn = turn
    dialled = Dialled(element)
    assert dialled.used() == 0
    full_turn(dialled)
    full_turn(dialled)
    assert dialled.used() in {0, len(MANY) + 1}  # 0 where marks begin anew


# ---- the hooks' ----


@pytest.fixture
def element(node: Node) -> abi.Dialled:
    """The map's, in a turn in which nothing was noted yet."""
    mapped = abi.Dialled.from_buffer(mmap.mmap(node.maps.map(layout.DIALLED).fd, ctypes.sizeof(abi.Dialled)))
    mapped.turn += 3
    return mapped


def noted(element: abi.Dialled) -> set[int]:
    return {number for number, mark in enumerate(bytes(element.places)) if mark == element.turn & 0xFF}


def places(*addresses: str) -> set[int]:
    return set(map(place, addresses))


def test_an_address_that_is_not_configured_is_noted_whatever_comes_of_it(node: Node, element: abi.Dialled) -> None:
    for address in (*NOWHERE, f"::ffff:{MAPPED}"):
        node.client(f"socket.socket(family_of({address!r}), {KIND}).connect_ex(({address!r}, 80))")
    assert noted(element) == places(*NOWHERE, MAPPED)


def test_both_addresses_of_a_connection_to_a_service_are_noted(node: Node, element: abi.Dialled) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(service("noted", vip, (node.server.ipv4, port)))
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert noted(element) == places(vip, node.server.ipv4)


def test_what_a_rule_denies_may_be_noted_and_under_bypass_is(node: Node, element: abi.Dialled) -> None:
    port = node.backend("listen('0.0.0.0')")
    deny = policy("never", Action.DENY, "shop/web-sa")
    node.configure(service("denied-direct", node.server.ipv4, port=port, is_frontend=False, policies=(deny,)))
    node.maps.set_bypass(True)
    node.client(f"dial({node.server.ipv4!r}, {port})")
    assert noted(element) == places(node.server.ipv4)


def test_others_note_nothing(node: Node, element: abi.Dialled) -> None:
    port = node.backend("listen('0.0.0.0')")
    node.worker(f"dial({node.server.ipv4!r}, {port})")  # not hooked
    node.backend(f"dial({node.server.ipv4!r}, {port})")  # not enrolled
    own = node.client("listen('127.0.0.1')")
    node.client(f"dial('127.0.0.1', {own})")
    node.client(f"dial({node.server.ipv4!r}, {port}, kind=socket.SOCK_DGRAM)")
    assert noted(element) == set()


def test_a_scrape_reads_how_many_places_are_in_use_and_changes_none(node: Node, element: abi.Dialled) -> None:
    element.places[7] = element.turn & 0xFF
    before = bytes(element)
    fills = {fill.name: fill for fill in FillReader(node.instance.layout).read()}
    marks = {element.turn & 0xFF, element.turn - 1 & 0xFF}
    assert fills[layout.DIALLED].entries == sum(bytes(element.places).count(mark) for mark in marks) > 0
    assert fills[layout.DIALLED].max_entries == abi.DIALLED_PLACES
    copy = node.maps.dialled()
    copy.note(["198.18.0.1"])
    assert bytes(element) == before
