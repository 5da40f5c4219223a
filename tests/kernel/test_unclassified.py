"""A pod that the agent has not classified yet: refused or let pass, exactly counted; nobody else is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from nodeagent.kernel import cgroups
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import Guard
from tests.kernel.build import routed
from tests.kernel.conftest import Node

DIRECT, REFUSED = Outcome.UNCLASSIFIED_DIRECT, Outcome.UNCLASSIFIED_REFUSED


@pytest.fixture
def guarded(node: Node) -> Iterator[Node]:
    """Pods' connects are refused until they are classified; `server` is not."""
    guard(node)
    yield node
    node.maps.write_guard(Guard())
    node.passing.clear()


def guard(node: Node, *, refuse: bool = True, away: bool = True, below: str = "") -> None:
    top = node.bed.cgroup / below
    node.maps.write_guard(Guard(cgroups.cgroup_id(top), refuse, away))


def counted(node: Node) -> Counter[Outcome]:
    found = node.counts()
    return Counter({outcome: found[outcome] for outcome in (DIRECT, REFUSED)})


def test_it_is_refused_and_each_refusal_is_counted(guarded: Node) -> None:
    port = guarded.client("listen('0.0.0.0')")
    before = counted(guarded)
    for address in (guarded.web.ipv4, f"::ffff:{guarded.web.ipv4}"):
        assert [guarded.backend(f"dial({address!r}, {port})") for _ in range(25)] == ["ECONNREFUSED"] * 25
    assert counted(guarded) - before == {REFUSED: 50}


def test_it_passes_and_each_time_is_counted(guarded: Node) -> None:
    guard(guarded, refuse=False, away=False)
    port = guarded.client("listen('0.0.0.0')")
    before = counted(guarded)
    guarded.backend(f"[dial({guarded.web.ipv4!r}, {port}) for _ in range(50)]")
    assert counted(guarded) - before == {DIRECT: 50}


@pytest.mark.parametrize(("beats", "expected"), [(True, REFUSED), (False, DIRECT)])
def test_while_no_worker_beats_the_other_answer_counts(guarded: Node, beats: bool, expected: Outcome) -> None:
    guard(guarded, refuse=True, away=False)
    if beats:
        guarded.start_worker()
    port = guarded.client("listen('0.0.0.0')")
    before = counted(guarded)
    guarded.backend(f"dial({guarded.web.ipv4!r}, {port})")
    assert counted(guarded) - before == {expected: 1}


def test_loopback_and_udp_are_never_met(guarded: Node) -> None:
    before = counted(guarded)
    for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        listening = "'::1'" if address == "::1" else "'0.0.0.0'"
        port = guarded.backend(f"listen({listening})")
        assert guarded.backend(f"dial({address!r}, {port})")[0][1] == port
    guarded.backend(f"dial({guarded.web.ipv4!r}, 53, kind=socket.SOCK_DGRAM)")
    assert counted(guarded) == before


def test_sockets_outside_kubepods_are_never_met(guarded: Node) -> None:
    guard(guarded, below=guarded.web.cgroup.name)  # as if only web's cgroup were below kubepods
    port = guarded.client("listen('0.0.0.0')")
    before = counted(guarded)
    assert guarded.backend(f"dial({guarded.web.ipv4!r}, {port})")[0] == [guarded.web.ipv4, port]
    assert counted(guarded) == before


def test_once_it_is_known_it_passes_and_an_enrolled_pod_is_judged_as_ever(guarded: Node) -> None:
    port, back = guarded.client("listen('0.0.0.0')"), guarded.backend("listen('0.0.0.0')")
    guarded.pass_by(guarded.server)
    before = counted(guarded)
    assert guarded.backend(f"dial({guarded.web.ipv4!r}, {port})")[0] == [guarded.web.ipv4, port]
    assert guarded.client(f"dial({guarded.server.ipv4!r}, {back})")[0] == [guarded.server.ipv4, back]
    assert counted(guarded) == before


def test_what_a_pod_dials_that_is_not_enrolled_is_counted_nowhere(guarded: Node) -> None:
    port = guarded.client("listen('0.0.0.0')")
    guarded.pass_by(guarded.server)
    before = guarded.counts()
    assert guarded.backend(f"dial({guarded.web.ipv4!r}, {port})")[0] == [guarded.web.ipv4, port]
    assert guarded.counts() == before


def test_a_pod_that_left_the_mesh_keeps_its_name_on_what_is_proxied(guarded: Node) -> None:
    """And its new connections go direct, without a moment in which it is nobody."""
    vip, port = guarded.vip(), guarded.backend("listen('0.0.0.0')")
    guarded.configure(routed("proxied", vip, (guarded.server.ipv4, port)))
    guarded.start_worker()
    guarded.client(f"dial({vip!r}, 80, keep='old')")
    name = guarded.client("held['old'].getsockname()[0]")
    assert name == guarded.web.ipv4
    local = dict(guarded.local)
    guarded.pass_by(guarded.web)
    guarded.local.clear()
    guarded.sync()
    try:
        assert guarded.client("held['old'].getsockname()[0]") == name
        assert guarded.client("held['old'].getpeername()[0]") == vip
        before = counted(guarded)
        assert guarded.client(f"dial({guarded.server.ipv4!r}, {port})")[1][0] == name
        assert counted(guarded) == before
    finally:
        guarded.local.update(local)
        guarded.sync()
