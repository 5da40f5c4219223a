"""The kernel's byte counters are the payload that the applications saw, however a connection ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeagent.kernel.maps import ConnectionRow
from tests.kernel.build import service
from tests.kernel.conftest import Node

Wait = Callable[[Callable[[], bool]], None]

SENT, ANSWERED = 70_001, 130_003

# Each ends one connection in its own way.  c = the pod's socket, a = the server's.
ENDINGS = {
    "client closes first": ("c.close()", "end(a)", ""),
    "server closes first": ("", "a.close()", "end(c)"),
    "client half-closes, reads the end, closes": ("c.shutdown(1)", "end(a)", "end(c)"),
    "client half-closes and closes before the server does": ("c.shutdown(1); c.close()", "end(a)", ""),
    "client resets": (
        "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()",
        "a.close()",
        "",
    ),
    "server resets": (
        "",
        "a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); a.close()",
        "c.close()",
    ),
}

END = """
def end(s):
    try:
        while s.recv(65536):
            pass
    finally:
        s.close()
def pull(s, n):
    while n:
        n -= len(s.recv(min(n, 65536)))
"""


def row_of(node: Node, destination: str) -> ConnectionRow:
    return next(row for row in node.maps.connections() if row.destination == destination)


@pytest.mark.parametrize("ending", ENDINGS)
def test_bytes_are_exact(node: Node, wait: Wait, ending: str) -> None:
    name = ending.replace(" ", "-").replace(",", "")
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(service(name, vip, (node.server.ipv4, port)))
    for remote in (node.client, node.backend):
        remote(END)
    node.client(f"c = socket.create_connection(({vip!r}, 80), 5)")
    node.backend(f"a = held['0.0.0.0', {port}].accept()[0]")
    # the answer waits for the whole request: so all of it was acknowledged before any ending
    node.client(f"c.sendall(bytes({SENT}))")
    node.backend(f"pull(a, {SENT})")
    node.backend(f"a.sendall(bytes({ANSWERED}))")
    node.client(f"pull(c, {ANSWERED})")
    first, second, third = ENDINGS[ending]
    for remote, code in ((node.client, first), (node.backend, second), (node.client, third)):
        remote(code or "0")
    destination = f"shop/{name}:80"
    wait(lambda: row_of(node, destination).closed == 1)
    row = row_of(node, destination)
    assert (row.tx_bytes, row.rx_bytes, row.opened, row.failed) == (SENT, ANSWERED, 1, 0)


def test_an_answer_sent_with_the_end_to_a_half_closed_client_is_exact(node: Node, wait: Wait) -> None:
    """The request/response exchange of old protocols: data and FIN arrive while the client is in FIN_WAIT."""
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(service("finwait", vip, (node.server.ipv4, port)))
    for remote in (node.client, node.backend):
        remote(END)
    for _ in range(20):
        node.client(f"c = socket.create_connection(({vip!r}, 80), 5)\nc.sendall(b'x' * 10)\nc.shutdown(1)")
        node.backend(f"a = held['0.0.0.0', {port}].accept()[0]\npull(a, 10)\na.sendall(b'y' * 33)\na.close()")
        node.client("end(c)")
    wait(lambda: row_of(node, "shop/finwait:80").closed == 20)
    row = row_of(node, "shop/finwait:80")
    assert (row.tx_bytes, row.rx_bytes) == (200, 660)


def test_a_connect_that_nobody_answers_is_failed_not_closed(node: Node, wait: Wait) -> None:
    vip = node.vip()
    node.configure(service("nobody", vip, (node.server.ipv4, 1)))
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    wait(lambda: row_of(node, "shop/nobody:80").failed == 1)
    row = row_of(node, "shop/nobody:80")
    assert (row.opened, row.closed, row.tx_bytes, row.rx_bytes) == (1, 0, 0, 0)
