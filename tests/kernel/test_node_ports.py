"""Node ports: what applies there is found whichever node's address is dialled."""

from __future__ import annotations

from nodeagent.core.model import NODES, Action, Destination, Protocol
from nodeagent.kernel.abi import Outcome
from tests.kernel.build import policy, service
from tests.kernel.conftest import Node

CLIENT = "shop/web-sa"
PORT = 30080


def a_node(address: str, **fields: object) -> Destination:
    settings: dict[str, object] = {"protocol": Protocol.OPAQUE, "is_frontend": False, "is_node": True} | fields
    return Destination(name=NODES, address=address, port=0, **settings)  # type: ignore[arg-type]


def node_port(name: str, address: str, *, deny: bool) -> Destination:
    policies = (policy("d", Action.DENY, CLIENT),) if deny else ()
    return service(name, address, port=PORT, is_frontend=False, policies=policies)


def test_a_deny_holds_at_the_node_port_of_every_node_and_of_both_families(node: Node) -> None:
    node.configure(
        a_node(node.server.ipv4),
        a_node(node.server.ipv6),
        node_port("four", "0.0.0.0", deny=True),
        node_port("six", "::", deny=True),
    )
    for address in (node.server.ipv4, f"::ffff:{node.server.ipv4}", node.server.ipv6):
        assert node.client(f"dial({address!r}, {PORT})") == "EPERM"
    assert node.counts(f"shop/four:{PORT}") == {Outcome.DENIED: 2}
    assert node.counts(f"shop/six:{PORT}") == {Outcome.DENIED: 1}


def test_who_may_goes_where_it_dialled(node: Node) -> None:
    port = int(node.backend("listen('0.0.0.0')"))
    door = service("open", "0.0.0.0", port=port, is_frontend=False)
    node.configure(a_node(node.server.ipv4), door)
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.counts(door.name) == {Outcome.DIRECT: 1}


def test_an_address_that_is_no_nodes_has_no_node_ports(node: Node) -> None:
    port = int(node.backend("listen('0.0.0.0')"))
    door = service("shut", "0.0.0.0", port=port, is_frontend=False, policies=(policy("d", Action.DENY, CLIENT),))
    node.configure(door)
    unknown = node.counts()[Outcome.UNKNOWN]
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.counts()[Outcome.UNKNOWN] == unknown + 1


def test_another_port_of_a_node_is_unknown_unless_a_policy_covers_it(node: Node) -> None:
    port = int(node.backend("listen('0.0.0.0')"))
    node.configure(a_node(node.server.ipv4), node_port("other", "0.0.0.0", deny=True))
    unknown = node.counts()[Outcome.UNKNOWN]
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.counts()[Outcome.UNKNOWN] == unknown + 1
    node.configure(a_node(node.server.ipv4, policies=(policy("d", Action.DENY, CLIENT),)))
    assert node.client(f"dial({node.server.ipv4!r}, {port})") == "EPERM"


def test_where_kube_proxy_is_left_the_choice_a_service_address_is_not_rewritten(node: Node) -> None:
    """Here the address is one that answers for itself, since nobody translates any."""
    port = int(node.backend("listen('0.0.0.0')"))
    left = service("sticky", node.server.ipv4, ("198.18.0.99", 9), port=port, affinity=True, leave_choice=True)
    node.configure(left)
    assert node.client(f"dial({node.server.ipv4!r}, {port})")[0] == [node.server.ipv4, port]
    assert node.counts(left.name) == {Outcome.DIRECT: 1}
