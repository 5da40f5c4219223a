"""Rungs 0 and 1: what connect() does without a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nodeagent.core.model import Action
from nodeagent.kernel.abi import Outcome
from tests.kernel.build import http_policy, policy, routed, service
from tests.kernel.conftest import Node

CLIENT = "shop/web-sa"
NOBODY = ("ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "timed out")  # what a Service's address is if no hook chooses


def backend_port(node: Node, address: str = "0.0.0.0") -> int:
    return int(node.backend(f"listen({address!r})"))


def test_a_pod_that_is_not_enrolled_is_untouched(node: Node) -> None:
    vip, port = node.vip(), node.client("listen('0.0.0.0')")
    node.configure(service("a", vip, (node.web.ipv4, port), port=port))
    before = sum(row.opened for row in node.maps.connections())
    peer, _own = node.backend(f"dial({node.web.ipv4!r}, {port})")
    assert peer == [node.web.ipv4, port]
    assert node.backend(f"dial({vip!r}, {port})") in NOBODY
    assert sum(row.opened for row in node.maps.connections()) == before


def test_a_caller_that_is_not_enrolled_passes_a_rule_and_is_counted(node: Node) -> None:
    port = node.client("listen('0.0.0.0')")
    guarded = service(
        "guarded", node.web.ipv4, port=port, is_frontend=False, policies=(policy("d", Action.DENY, CLIENT),)
    )
    node.configure(guarded)
    peer, _own = node.backend(f"dial({node.web.ipv4!r}, {port})")
    assert peer == [node.web.ipv4, port]
    rows = [row for row in node.maps.connections() if row.destination == guarded.name]
    assert [(row.workload, row.outcome, row.opened) for row in rows] == [("", Outcome.UNJUDGED, 1)]


def test_a_service_address_leads_to_an_endpoint_and_reads_as_dialled(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    node.configure(service("direct", vip, (node.server.ipv4, port)))
    peer, own = node.client(f"dial({vip!r}, 80)")
    assert peer == [vip, 80]
    assert own[0] == node.web.ipv4
    assert node.backend(f"accept('0.0.0.0', {port})")[0] == node.web.ipv4
    assert node.counts("shop/direct:80") == {Outcome.DIRECT: 1}


def test_ipv6_and_mapped_connects_are_judged_alike(node: Node) -> None:
    vip, vip6, port, port6 = node.vip(), node.vip6(), backend_port(node), backend_port(node, "::")
    node.configure(
        service("four", vip, (node.server.ipv4, port)),
        service("six", vip6, (node.server.ipv6, port6)),
    )
    assert node.client(f"dial({vip6!r}, 80)")[0] == [vip6, 80]
    assert node.client(f"dial('::ffff:{vip}', 80)")[0] == [f"::ffff:{vip}", 80]
    assert node.counts("shop/four:80") == {Outcome.DIRECT: 1}
    assert node.counts("shop/six:80") == {Outcome.DIRECT: 1}


def test_endpoints_share_the_connections(node: Node) -> None:
    vip, ports = node.vip(), [backend_port(node) for _ in range(4)]
    node.configure(service("spread", vip, *[(node.server.ipv4, port) for port in ports]))
    node.client(f"[dial({vip!r}, 80) for _ in range(200)]")
    shares = [node.backend(f"drain('0.0.0.0', {port})") for port in ports]
    assert sum(shares) == 200
    assert min(shares) > 25  # 50 expected; below 25 has a chance under 1e-4


def test_a_service_without_endpoints_is_refused(node: Node) -> None:
    vip = node.vip()
    node.configure(service("empty", vip))
    assert [node.client(f"dial({vip!r}, 80)") for _ in range(3)] == ["ECONNREFUSED"] * 3
    assert node.counts("shop/empty:80") == {Outcome.NO_ENDPOINT: 3}


def test_an_ipv6_service_is_not_sent_to_an_ipv4_endpoint(node: Node) -> None:
    vip6 = node.vip6()
    node.configure(service("mixed", vip6, (node.server.ipv4, 1)))
    assert node.client(f"dial({vip6!r}, 80)") == "ECONNREFUSED"


def test_a_network_deny_is_eperm_and_counted_exactly_with_its_rule(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    deny = policy("no-web", Action.DENY, CLIENT)
    node.configure(service("denied", vip, (node.server.ipv4, port), policies=(deny,)))
    assert [node.client(f"dial({vip!r}, 80)") for _ in range(7)] == ["EPERM"] * 7
    rows = [row for row in node.maps.connections() if row.destination == "shop/denied:80"]
    assert [(row.outcome, row.rule, row.opened) for row in rows] == [(Outcome.DENIED, "shop/no-web", 7)]
    assert rows[0].workload == "shop/web/web-sa"


def test_an_allow_for_somebody_else_denies(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    node.configure(service("allow-else", vip, (node.server.ipv4, port), policies=(policy("a", Action.ALLOW, "x/y"),)))
    assert node.client(f"dial({vip!r}, 80)") == "EPERM"


def test_an_allow_for_the_caller_lets_it_through(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    node.configure(service("allow-us", vip, (node.server.ipv4, port), policies=(policy("b", Action.ALLOW, CLIENT),)))
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]


def test_audit_counts_beside_the_real_outcome(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    node.configure(service("audited", vip, (node.server.ipv4, port), policies=(policy("eye", Action.AUDIT, CLIENT),)))
    node.client(f"dial({vip!r}, 80)")
    assert node.counts("shop/audited:80") == {Outcome.DIRECT: 1, Outcome.AUDITED: 1}
    rules = {row.rule for row in node.maps.connections() if row.outcome is Outcome.AUDITED}
    assert "shop/eye" in rules


# ---- endpoints that nobody renews ----


@pytest.fixture
def expired(node: Node) -> Iterator[Node]:
    """The last agent's end was long ago."""
    node.maps.trust_endpoints(1)
    yield node
    node.maps.trust_endpoints(0)


def test_expired_endpoints_leave_the_choice_to_others_and_each_connect_is_counted(expired: Node) -> None:
    vip, port = expired.vip(), backend_port(expired)
    expired.configure(service("stale", vip, (expired.server.ipv4, port)), service("none", expired.vip()))
    assert expired.client(f"dial({vip!r}, 80)") in NOBODY
    assert expired.counts("shop/stale:80") == {Outcome.DIRECT_EXPIRED: 1}
    expired.maps.trust_endpoints(time.monotonic_ns() + 60 * 10**9)
    assert expired.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert expired.counts("shop/stale:80") == {Outcome.DIRECT_EXPIRED: 1, Outcome.DIRECT: 1}


def test_a_service_that_had_no_endpoint_is_not_refused_once_that_has_expired(expired: Node) -> None:
    vip = expired.vip()
    expired.configure(service("was-empty", vip))
    assert expired.client(f"dial({vip!r}, 80)") in NOBODY
    assert expired.counts("shop/was-empty:80") == {Outcome.DIRECT_EXPIRED: 1}


def test_what_goes_direct_for_want_of_a_worker_stays_a_bypass_when_endpoints_have_expired(expired: Node) -> None:
    vip, port = expired.vip(), backend_port(expired)
    expired.configure(routed("unserved", vip, (expired.server.ipv4, port)))
    assert expired.client(f"dial({vip!r}, 80)") in NOBODY
    assert expired.counts("shop/unserved:80") == {Outcome.BYPASS_NO_WORKER: 1}


def test_network_denies_stay_when_endpoints_have_expired(expired: Node) -> None:
    vip, port = expired.vip(), backend_port(expired)
    deny = policy("still-no-web", Action.DENY, CLIENT)
    expired.configure(service("still-denied", vip, (expired.server.ipv4, port), policies=(deny,)))
    assert expired.client(f"dial({vip!r}, 80)") == "EPERM"
    assert expired.counts("shop/still-denied:80") == {Outcome.DENIED: 1}


def test_an_address_that_is_no_services_does_not_expire(expired: Node) -> None:
    port = backend_port(expired)
    expired.configure(service("pod", expired.server.ipv4, port=port, is_frontend=False))
    assert expired.client(f"dial({expired.server.ipv4!r}, {port})")[0] == [expired.server.ipv4, port]
    assert expired.counts(f"shop/pod:{port}") == {Outcome.DIRECT: 1}


def rules(node: Node, destination: str, outcome: Outcome) -> dict[str, int]:
    rows = [row for row in node.maps.connections() if row.destination == destination and row.outcome is outcome]
    return {row.rule: row.opened for row in rows}


def test_what_a_policy_in_dry_run_would_deny_goes_through_and_is_counted_with_its_rule(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    tried = replace(policy("tried", Action.DENY, CLIENT), dry_run=True)
    eye = policy("watch", Action.AUDIT, CLIENT)
    node.configure(service("dry-run", vip, (node.server.ipv4, port), policies=(tried, eye)))
    assert [node.client(f"dial({vip!r}, 80)")[0] for _ in range(3)] == [[vip, 80]] * 3
    expected = {Outcome.DIRECT: 3, Outcome.WOULD_DENY: 3, Outcome.AUDITED: 3}
    assert node.counts("shop/dry-run:80") == expected
    assert rules(node, "shop/dry-run:80", Outcome.WOULD_DENY) == {"shop/tried": 3}


def test_an_allow_for_somebody_else_in_dry_run_would_deny_and_one_for_the_caller_would_not(node: Node) -> None:
    vip, other, port = node.vip(), node.vip(), backend_port(node)
    denying = replace(policy("only-x", Action.ALLOW, "x/y"), dry_run=True)
    allowing = replace(policy("only-us", Action.ALLOW, CLIENT), dry_run=True)
    node.configure(
        service("dry-else", vip, (node.server.ipv4, port), policies=(denying,)),
        service("dry-us", other, (node.server.ipv4, port), policies=(denying, allowing)),
    )
    assert [node.client(f"dial({address!r}, 80)")[0] for address in (vip, other)] == [[vip, 80], [other, 80]]
    assert node.counts("shop/dry-else:80") == {Outcome.DIRECT: 1, Outcome.WOULD_DENY: 1}
    assert node.counts("shop/dry-us:80") == {Outcome.DIRECT: 1}


def test_a_connection_that_is_denied_is_not_counted_for_a_policy_in_dry_run(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    policies = (policy("a", Action.DENY, CLIENT), replace(policy("b", Action.DENY, CLIENT), dry_run=True))
    node.configure(service("both", vip, (node.server.ipv4, port), policies=policies))
    assert node.client(f"dial({vip!r}, 80)") == "EPERM"
    assert node.counts("shop/both:80") == {Outcome.DENIED: 1}


def test_a_deny_in_dry_run_that_reads_http_counts_on_a_port_where_nobody_reads_it(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    tried = replace(http_policy("no-get"), dry_run=True)
    node.configure(service("unread", vip, (node.server.ipv4, port), policies=(tried,)))
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert node.counts("shop/unread:80") == {Outcome.DIRECT: 1, Outcome.WOULD_DENY: 1}


def test_putting_a_policy_in_force_changes_the_verdict_of_the_next_connect(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    deny = policy("switched", Action.DENY, CLIENT)
    made = service("switched", vip, (node.server.ipv4, port), policies=(replace(deny, dry_run=True),))
    node.configure(made)
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    node.configure(replace(made, policies=(deny,)))
    assert node.client(f"dial({vip!r}, 80)") == "EPERM"
    assert node.counts("shop/switched:80") == {Outcome.DIRECT: 1, Outcome.WOULD_DENY: 1, Outcome.DENIED: 1}


def test_dialling_the_endpoint_itself_meets_the_same_deny(node: Node) -> None:
    port = backend_port(node)
    deny = policy("no-web-2", Action.DENY, CLIENT)
    node.configure(service("pod", node.server.ipv4, port=port, is_frontend=False, policies=(deny,)))
    assert node.client(f"dial({node.server.ipv4!r}, {port})") == "EPERM"


def test_port_zero_stands_for_every_other_port(node: Node) -> None:
    port, other = backend_port(node), backend_port(node)
    deny = policy("no-web-3", Action.DENY, CLIENT)
    node.configure(
        service("rest", node.server.ipv4, port=0, is_frontend=False, policies=(deny,)),
        service("open", node.server.ipv4, port=port, is_frontend=False),
    )
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.client(f"dial({node.server.ipv4!r}, {other})") == "EPERM"


def test_a_rule_that_cannot_be_enforced_denies(node: Node) -> None:
    vip, port = node.vip(), backend_port(node)
    node.configure(service("unsure", vip, (node.server.ipv4, port), refuse="DENY with http on a port of bytes"))
    assert node.client(f"dial({vip!r}, 80)") == "EPERM"
    assert node.counts("shop/unsure:80") == {Outcome.DENIED_UNENFORCEABLE: 1}


def test_loopback_and_the_pods_own_address_are_never_touched(node: Node) -> None:
    port = node.client("listen('0.0.0.0')")
    port6 = node.client("listen('::')")
    deny = policy("no-self", Action.DENY, CLIENT)
    own = [
        service("self", address, port=0, is_frontend=False, policies=(deny,))
        for address in ("127.0.0.1", "127.7.7.7", "::1", node.web.ipv4, node.web.ipv6)
    ]
    before = sum(row.opened for row in node.maps.connections())
    node.configure(*own)
    for address in ("127.0.0.1", "127.7.7.7", "0.0.0.0", "::ffff:127.0.0.1", node.web.ipv4):
        assert isinstance(node.client(f"dial({address!r}, {port})"), list), address
    for address in ("::1", "::", node.web.ipv6):
        assert isinstance(node.client(f"dial({address!r}, {port6})"), list), address
    assert sum(row.opened for row in node.maps.connections()) == before


def test_an_unknown_destination_passes_and_is_counted(node: Node) -> None:
    port = backend_port(node)
    before = node.counts()[Outcome.UNKNOWN]
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.counts()[Outcome.UNKNOWN] == before + 1


def test_connected_udp_passes_and_is_counted(node: Node) -> None:
    vip = node.vip()
    node.configure(service("udp", vip, (node.server.ipv4, 1), policies=(policy("no-udp", Action.DENY, CLIENT),)))
    before = node.counts()[Outcome.UDP]
    peer, _own = node.client(f"dial({vip!r}, 80, kind=socket.SOCK_DGRAM)")
    assert peer == [vip, 80]
    assert node.counts()[Outcome.UDP] == before + 1
    assert node.counts("shop/udp:80") == {}


def test_bypass_takes_effect_at_the_next_connect_and_ends_at_the_next(node: Node) -> None:
    port = backend_port(node)
    deny = policy("no-web-4", Action.DENY, CLIENT)
    node.configure(service("bypassed", node.server.ipv4, port=port, is_frontend=False, policies=(deny,)))
    dial = f"dial({node.server.ipv4!r}, {port})"
    assert node.client(dial) == "EPERM"
    node.maps.set_bypass(True)
    assert isinstance(node.client(dial), list)
    node.maps.set_bypass(False)
    assert node.client(dial) == "EPERM"
    assert node.counts("shop/bypassed:80") == {}
    assert node.counts(f"shop/bypassed:{port}") == {Outcome.DENIED: 2}


def test_a_socket_that_connects_again_forgets_the_first_destination(node: Node) -> None:
    vip, port, plain = node.vip(), backend_port(node), backend_port(node)
    node.configure(service("first", vip, (node.server.ipv4, port)))
    node.client("s = socket.socket()")
    node.client(f"s.connect(({vip!r}, 80))")
    assert node.client("s.getpeername()") == [vip, 80]
    node.client(
        "import ctypes\n"  # connect(AF_UNSPEC) takes the socket back to unconnected; Python has no word for it
        "assert ctypes.CDLL(None).connect(s.fileno(), struct.pack('=H14x', 0), 16) == 0"
    )
    node.client(f"s.connect(({node.server.ipv4!r}, {plain}))")
    assert node.client("s.getpeername()") == [node.server.ipv4, plain]
    node.client("s.close()")


def test_endpoints_replaced_under_connects_cost_no_connect(node: Node) -> None:
    vip, ports = node.vip(), [backend_port(node), backend_port(node)]
    sets = [[(node.server.ipv4, port)] * size for port, size in ((ports[0], 1), (ports[1], 3))]
    node.configure(service("moving", vip, *sets[0]))
    node.client(
        "import threading\nresults, stop = [], threading.Event()\n"
        "def loop():\n"
        "    while not stop.is_set():\n"
        "        try:\n"
        "            s = socket.socket()\n"
        f"            s.connect(({vip!r}, 80))\n"
        "            results.append('ok')\n"
        "        except OSError as error:\n"
        "            results.append(str(error))\n"
        "        finally:\n"
        "            s.close()\n"
        "t = threading.Thread(target=loop)\nt.start()"
    )
    node.backend(
        "import threading\n"
        "def eat(l):\n"
        "    while True:\n"
        "        try:\n            l.accept()[0].close()\n"
        "        except OSError:\n            return\n"
        "[threading.Thread(target=eat, args=(l,), daemon=True).start() for l in list(held.values())]"
    )
    for round_ in range(1000):
        node.configure(service("moving", vip, *sets[round_ % 2]))
        node.kernel.collect(float("inf")) if round_ % 100 == 99 else None
    node.client("stop.set()\nt.join()")
    results = node.client("results")
    assert len(results) > 100
    assert set(results) == {"ok"}
