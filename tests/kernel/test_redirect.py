"""Rung 3: redirects to a worker's listener in the pod's namespace, and what happens when there is none."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nodeagent.core.model import Action, FailMode
from nodeagent.kernel import abi, layout
from nodeagent.kernel.abi import Outcome
from tests.kernel.build import http_policy, policy, routed
from tests.kernel.conftest import FAR_FUTURE_NS, Node
from tests.kernel.unpinned import names_in


def original(node: Node, peer: list[object], lport: int, family: int) -> tuple[str, int, int] | None:
    """What a worker would take at accept: (dialled address, port, destination id)."""
    key = abi.orig_key(node.cookie, str(peer[0]), int(str(peer[1])), lport, family)
    raw = node.maps.map(layout.ORIGINALS).take(key)
    if raw is None:
        return None
    value = abi.Orig.from_buffer_copy(raw)
    return abi.unpack_addr(bytes(value.addr)), abi.wire_port(value.port), value.dest


@pytest.mark.parametrize(("family", "mapped"), [(4, False), (4, True), (6, False)])
def test_a_connect_reaches_the_workers_listener_and_its_original_is_there_before_accept(
    node: Node, family: int, mapped: bool
) -> None:
    vip = node.vip() if family == 4 else node.vip6()
    dialled = f"::ffff:{vip}" if mapped else vip
    name = f"proxied-{family}-{mapped}"
    node.configure(routed(name, vip))
    lport = node.start_worker(0, family)
    peer, own = node.client(f"dial({dialled!r}, 80, keep='c')")
    assert node.maps.in_flight() == 1
    assert peer == [dialled, 80]
    expected = {(4, False): node.web.ipv4, (4, True): f"::ffff:{node.web.ipv4}", (6, False): node.web.ipv6}
    assert own[0] == expected[family, mapped]
    loopback = "127.0.0.1" if family == 4 else "::1"
    accepted = node.worker(f"accept({loopback!r}, {lport})")
    assert accepted == [loopback, own[1]]
    found = original(node, accepted, lport, family)
    assert found is not None
    assert found[:2] == (vip, 80)
    assert names_in(node.maps)[found[2]] == (abi.NameKind.DEST, f"shop/{name}:80")
    assert node.maps.in_flight() == 0
    assert node.counts(f"shop/{name}:80") == {Outcome.PROXIED: 1}


def test_a_connect_that_would_be_denied_is_proxied_and_counted(node: Node) -> None:
    vip = node.vip()
    tried = replace(policy("tried-3", Action.DENY, "shop/web-sa"), dry_run=True)
    node.configure(routed("dry-run-3", vip, policies=(tried,)))
    node.start_worker()
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert node.counts("shop/dry-run-3:80") == {Outcome.PROXIED: 1, Outcome.WOULD_DENY: 1}


def test_workers_share_connects_evenly_whatever_their_indexes(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("shared", vip))
    ports = [node.start_worker(index) for index in (3, 4, 15)]
    node.client(f"[dial({vip!r}, 80) for _ in range(180)]")
    shares = [node.worker(f"drain('127.0.0.1', {port})") for port in ports]
    assert sum(shares) == 180
    assert min(shares) > 30  # 60 expected


def test_a_dead_workers_listener_is_noticed_by_the_next_connect(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("dead", vip))
    dead, alive = node.start_worker(0), node.start_worker(1)
    node.worker(f"held.pop(('127.0.0.1', {dead})).close()")
    node.client(f"[dial({vip!r}, 80) for _ in range(20)]")
    assert node.worker(f"drain('127.0.0.1', {alive})") == 20
    assert node.counts("shop/dead:80") == {Outcome.PROXIED: 20}


def test_a_worker_that_hangs_is_avoided(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("hung", vip))
    hung, alive = node.start_worker(0), node.start_worker(1)
    node.beat(0, age_s=2.1)
    node.beat(1, age_s=1.5)
    node.client(f"[dial({vip!r}, 80) for _ in range(20)]")
    assert node.worker(f"drain('127.0.0.1', {alive})") == 20
    assert node.worker(f"drain('127.0.0.1', {hung})") == 0


def test_without_a_worker_open_goes_direct_and_is_counted(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("open", vip, (node.server.ipv4, port)))
    peer, own = node.client(f"dial({vip!r}, 80)")
    assert peer == [vip, 80]
    assert own[0] == node.web.ipv4
    assert node.backend(f"drain('0.0.0.0', {port})") == 1
    assert node.counts("shop/open:80") == {Outcome.BYPASS_NO_WORKER: 1}


def test_without_a_worker_open_holds_for_enforced_destinations_too(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("open2", vip, (node.server.ipv4, port), policies=(http_policy("x"),)))
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert node.counts("shop/open2:80") == {Outcome.BYPASS_NO_WORKER: 1}


def test_without_a_worker_closed_is_refused_and_counted(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("closed", vip, (node.server.ipv4, port)))
    node.change_pod(fail_mode=FailMode.CLOSED)
    try:
        assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    finally:
        node.change_pod(fail_mode=FailMode.OPEN)
    assert node.counts("shop/closed:80") == {Outcome.REFUSED_NO_WORKER: 1}
    assert node.backend(f"drain('0.0.0.0', {port})") == 0


def test_one_source_port_reaches_two_services_through_two_workers_and_a_third_directly(node: Node) -> None:
    vips, port = [node.vip() for _ in range(3)], node.backend("listen('0.0.0.0')")
    node.configure(*[routed(f"port{i}", vip, (node.server.ipv4, port)) for i, vip in enumerate(vips)])
    workers = [node.start_worker(0), node.start_worker(1)]
    for i, vip in enumerate(vips):
        peer, own = node.client(f"dial({vip!r}, 80, source=({node.web.ipv4!r}, 4321), keep='c{i}')")
        assert (peer, own) == ([vip, 80], [node.web.ipv4, 4321])
    accepted = [node.worker(f"accept('127.0.0.1', {lport})") for lport in workers]
    assert accepted == [[node.web.ipv4, 4321]] * 2
    found = [original(node, peer, lport, 4) for peer, lport in zip(accepted, workers, strict=True)]
    assert {value[0] for value in found if value} == set(vips[:2])
    assert node.counts("shop/port2:80") == {Outcome.BYPASS_SOURCE_PORT: 1}


def test_a_source_port_in_the_way_of_an_enforced_destination_is_refused(node: Node) -> None:
    vips = [node.vip(), node.vip()]
    node.configure(*[routed(f"strict{i}", vip, policies=(http_policy("y"),)) for i, vip in enumerate(vips)])
    node.start_worker()
    source = f"source=({node.web.ipv4!r}, 4322)"
    assert node.client(f"dial({vips[0]!r}, 80, {source}, keep='c0')")[0] == [vips[0], 80]
    assert node.client(f"dial({vips[1]!r}, 80, {source}, keep='c1')") == "ECONNREFUSED"
    assert node.counts("shop/strict1:80") == {Outcome.REFUSED_SOURCE_PORT: 1}


def test_a_source_port_in_the_way_of_a_policy_in_dry_run_goes_direct(node: Node) -> None:
    """Such a policy protects nothing."""
    vips, port = [node.vip(), node.vip()], node.backend("listen('0.0.0.0')")
    tried = replace(http_policy("tried-y"), dry_run=True)
    ends = [(node.server.ipv4, port)]
    node.configure(*[routed(f"tried{i}", vip, *ends, policies=(tried,)) for i, vip in enumerate(vips)])
    node.start_worker()
    source = f"source=({node.web.ipv4!r}, 4324)"
    for i, vip in enumerate(vips):
        assert node.client(f"dial({vip!r}, 80, {source}, keep='c{i}')")[0] == [vip, 80]
    assert node.counts("shop/tried1:80") == {Outcome.BYPASS_SOURCE_PORT: 1}


def test_an_ipv6_source_port_works_too(node: Node) -> None:
    vips, port = [node.vip6(), node.vip6()], node.backend("listen('::')")
    node.configure(*[routed(f"six{i}", vip, (node.server.ipv6, port)) for i, vip in enumerate(vips)])
    lport = node.start_worker(0, 6)
    for i, vip in enumerate(vips):
        assert node.client(f"dial({vip!r}, 80, source=({node.web.ipv6!r}, 4323), keep='s{i}')")[0] == [vip, 80]
    accepted = node.worker(f"accept('::1', {lport})")
    assert accepted == [node.web.ipv6, 4323]
    assert original(node, accepted, lport, 6) is not None
    assert node.counts("shop/six1:80") == {Outcome.BYPASS_SOURCE_PORT: 1}


def test_a_socket_bound_to_a_device_goes_direct(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("device", vip, (node.server.ipv4, port)))
    node.start_worker()
    node.client("s = socket.socket()")
    node.client("s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')")
    assert node.client(f"s.connect(({vip!r}, 80))") is None
    assert node.client("s.getpeername()") == [vip, 80]
    node.client("s.close()")
    assert node.counts("shop/device:80") == {Outcome.BYPASS_SOURCE_PORT: 1}


def test_a_connect_that_the_listener_refuses_leaves_no_original(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("refused", vip))
    lport = node.start_worker()
    # the listener is asked in state LISTEN and gone before the SYN: made here by a full accept queue
    node.worker(f"held['127.0.0.1', {lport}].listen(0)")
    for i in range(3):
        node.client(f"n{i} = socket.socket()")
        node.client(f"n{i}.setblocking(False)")
        node.client(f"n{i}.connect_ex(({vip!r}, 80))")
    assert node.maps.in_flight() == 3
    node.worker(f"held.pop(('127.0.0.1', {lport})).close()")
    node.client("[n.close() for n in (n0, n1, n2)]")
    rows = [row for row in node.maps.connections() if row.destination == "shop/refused:80"]
    assert sum(row.opened for row in rows) == 3
    assert sum(row.failed for row in rows) >= 1
    assert node.maps.in_flight() <= 2  # those the kernel had established before the worker closed
    node.maps.sweep_originals(FAR_FUTURE_NS)
    assert node.maps.in_flight() == 0


def test_the_sweep_takes_only_what_is_old(node: Node) -> None:
    vip = node.vip()
    node.configure(routed("swept", vip))
    node.start_worker()
    node.client(f"dial({vip!r}, 80)")
    assert node.maps.sweep_originals(time.monotonic_ns()) == 0
    assert node.maps.in_flight() == 1
    assert node.maps.sweep_originals(time.monotonic_ns() + 31 * 10**9) == 1
    assert node.maps.in_flight() == 0


def test_a_reconnect_after_a_redirect_to_something_unknown_is_not_rewritten(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("again", vip))
    node.start_worker()
    node.client("s = socket.socket()")
    node.client(f"s.connect(({vip!r}, 80))")
    node.client("import ctypes\nassert ctypes.CDLL(None).connect(s.fileno(), struct.pack('=H14x', 0), 16) == 0")
    node.client(f"s.connect(({node.server.ipv4!r}, {port}))")
    assert node.client("[s.getpeername(), s.getsockname()[0]]") == [[node.server.ipv4, port], node.web.ipv4]
    node.client("s.close()")
    node.maps.sweep_originals(FAR_FUTURE_NS)
