"""In flight towards workers: bounded per pod, given back by sockets that get nowhere, no way past an L7 rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nodeagent.kernel import layout
from nodeagent.kernel.abi import Outcome
from tests.kernel.build import http_policy, routed
from tests.kernel.conftest import Node

# A connect that sends no SYN until there is data: TCP_FASTOPEN_CONNECT (30), without asking for a cookie (34).
DEFERRED = """
def deferred(address, name):
    s = socket.socket(family_of(address))
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    s.setsockopt(socket.IPPROTO_TCP, 34, 1)
    s.connect((address, 80))
    held[name] = s
"""


@pytest.fixture
def small_share(node: Node) -> Iterator[int]:
    """A part of three for each pod."""
    before = node.maps.read_config()
    node.maps.write_config(replace(before, pod_limit=3))
    yield 3
    node.maps.write_config(before)


@pytest.mark.parametrize("family", [4, 6])
def test_a_deferred_connect_gives_its_reservation_back_when_it_is_closed(node: Node, family: int) -> None:
    vip = node.vip() if family == 4 else node.vip6()
    node.configure(routed(f"deferred{family}", vip))
    node.start_worker(0, family)
    node.client(DEFERRED)
    node.client(f"[deferred({vip!r}, i) for i in range(5)]")
    assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (5, 5)
    node.client("[held.pop(i).close() for i in range(5)]")
    assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (0, 0)


def test_a_deferred_connect_that_sends_at_last_reaches_the_worker_with_its_original(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("late", vip))
    lport = node.start_worker()
    node.client(DEFERRED)
    node.client(f"deferred({vip!r}, 'late')")
    node.client("held['late'].sendall(b'x')")
    node.worker(f"accept('127.0.0.1', {lport})")
    assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (1, 0)


def test_a_socket_that_connects_again_holds_one_place(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("twice", vip))
    node.start_worker()
    node.client(DEFERRED)
    node.client(f"deferred({vip!r}, 'again')")
    unspecified = "ctypes.CDLL(None).connect(held['again'].fileno(), struct.pack('=H14x', 0), 16)"
    for _ in range(3):
        node.client(f"import ctypes\nassert {unspecified} == 0")
        node.client(f"held['again'].connect(({vip!r}, 80))")
        assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (1, 1)
    node.client("held.pop('again').close()")
    assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (0, 0)


def test_a_connect_that_has_no_port_to_leave_from_keeps_no_place(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("no-port", vip))
    lport = node.start_worker()
    range_file = "/proc/sys/net/ipv4/ip_local_port_range"
    before = node.worker(f"open({range_file!r}).read()")
    try:
        node.worker(f"open({range_file!r}, 'w').write('40000 40001')")
        answers = [node.client(f"dial({vip!r}, 80, keep={i})") for i in range(4)]
    finally:
        node.worker(f"open({range_file!r}, 'w').write({before!r})")
    assert "EADDRNOTAVAIL" in answers
    established = 4 - answers.count("EADDRNOTAVAIL")
    assert (node.maps.in_flight(), node.maps.under_way(node.cookie)) == (established, 0)
    assert node.worker(f"drain('127.0.0.1', {lport})") == established


def test_established_and_failed_connects_do_not_count_against_the_pod(node: Node, small_share: int) -> None:
    vip = node.vip()
    node.configure(routed("counted", vip, policies=(http_policy("c"),)))
    lport = node.start_worker()
    node.client(f"[dial({vip!r}, 80) for _ in range(10)]")
    assert node.worker(f"drain('127.0.0.1', {lport})") == 10
    assert node.maps.under_way(node.cookie) == 0
    # a full accept queue: what waits in SYN_SENT counts, and goes when it gives up
    node.worker(f"held['127.0.0.1', {lport}].listen(0)")
    for i in range(5):
        node.client(f"held[{i}] = socket.socket()\nheld[{i}].setblocking(False)\nheld[{i}].connect_ex(({vip!r}, 80))")
    assert 0 < node.maps.under_way(node.cookie) <= small_share
    node.client("[held.pop(i).close() for i in range(5)]")
    assert node.maps.under_way(node.cookie) == 0


def test_a_pod_that_used_up_its_part_is_refused_where_an_l7_rule_applies_and_others_are_not(
    node: Node, small_share: int
) -> None:
    plain, ruled, port = node.vip(), node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(
        routed("part-plain", plain, (node.server.ipv4, port)),
        routed("part-ruled", ruled, (node.server.ipv4, port), policies=(http_policy("p"),)),
    )
    node.start_worker()
    node.client(DEFERRED)
    node.client(f"[deferred({plain!r}, i) for i in range({small_share})]")
    assert node.client(f"dial({ruled!r}, 80)") == "ECONNREFUSED"
    assert node.client(f"dial({plain!r}, 80)")[0] == [plain, 80]
    assert node.counts("shop/part-ruled:80") == {Outcome.REFUSED_FULL: 1}
    assert node.counts("shop/part-plain:80") == {Outcome.PROXIED: small_share, Outcome.BYPASS_FULL: 1}
    assert node.maps.in_flight() == small_share, "others have all the rest"
    node.client(f"[held.pop(i).close() for i in range({small_share})]")
    assert node.client(f"dial({ruled!r}, 80)")[0] == [ruled, 80]


def test_a_full_map_is_no_way_around_an_l7_rule(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("full-ruled", vip, policies=(http_policy("f"),)))
    node.start_worker()
    originals = node.maps.map(layout.ORIGINALS)
    try:
        for number in range(originals.spec.max_entries):
            originals.update(number.to_bytes(8, "little").ljust(originals.spec.key_size, b"\xff"), bytes(32))
        assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    finally:
        node.maps.sweep_originals(2**62)
    assert node.counts("shop/full-ruled:80") == {Outcome.REFUSED_FULL: 1}
    assert node.maps.under_way(node.cookie) == 0
