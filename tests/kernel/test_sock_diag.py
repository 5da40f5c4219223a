"""TCP connections of a network namespace, listed and ended by the netlink child."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from nodeagent.agent import own_cgroup
from nodeagent.kernel import cgroups, netns
from nodeagent.kernel.netns import Connection, NetlinkChild

HERE = "/proc/self/ns/net"


@pytest.fixture
def child() -> Iterator[NetlinkChild]:
    with NetlinkChild() as child:
        yield child


def pair(address: str, dialled: str = "") -> tuple[socket.socket, socket.socket, socket.socket]:
    """What listens on an address, and both ends of a connection to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::")
    client = socket.create_connection((dialled or address, listener.getsockname()[1]))
    return listener, client, listener.accept()[0]


def found(child: NetlinkChild, port: int) -> dict[int, Connection]:
    """By local port, those of which one end has this port."""
    rows = child.established([HERE])[HERE]
    return {row.local_port: row for row in rows if port in (row.local_port, row.remote_port)}


@pytest.mark.parametrize(
    ("address", "dialled", "reads"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", "127.0.0.1", id="IPv4"),
        pytest.param("::1", "::1", "::1", id="IPv6"),
        pytest.param("::", "127.0.0.1", "127.0.0.1", id="IPv4 with a listener for both"),
    ],
)
def test_both_ends_of_a_connection_are_listed_and_told_apart(
    child: NetlinkChild, address: str, dialled: str, reads: str
) -> None:
    listener, client, accepted = pair(address, dialled)
    with listener, client, accepted:
        port, other = listener.getsockname()[1], client.getsockname()[1]
        rows = found(child, port)
    own = cgroups.cgroup_id(own_cgroup.current())
    assert rows == {
        other: Connection(reads, other, reads, port, rows[other].cookie, dialled=True, cgroup=own),
        port: Connection(reads, port, reads, other, rows[port].cookie, dialled=False, cgroup=own),
    }


def test_many_connections_are_all_listed_and_all_ended(child: NetlinkChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "_ENDED_AT_ONCE", 100)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        clients, accepted = [], []
        for _ in range(150):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
            accepted.append(stack.enter_context(listener.accept()[0]))
        rows = [row for row in child.established([HERE])[HERE] if port in (row.local_port, row.remote_port)]
        assert len({row.cookie for row in rows}) == len(rows) == 300
        dialled = [row for row in rows if row.dialled]
        assert child.destroy(HERE, dialled) == len(dialled) == 150
        assert child.destroy(HERE, dialled) == 0
        for client, other in zip(clients, accepted, strict=True):
            with pytest.raises(ConnectionAbortedError):
                client.recv(1)
            with pytest.raises(ConnectionResetError):
                other.recv(1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_connection_is_ended_in_place_of_an_older_one_of_the_same_addresses(
    child: NetlinkChild, address: str
) -> None:
    listener, client, accepted = pair(address)
    with listener, client, accepted:
        port, other = listener.getsockname()[1], client.getsockname()[1]
        row = found(child, port)[other]
        older = Connection(row.local, row.local_port, row.remote, row.remote_port, row.cookie + 1, True, row.cgroup)
        assert child.destroy(HERE, [older]) == 0
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
        assert child.destroy(HERE, [row]) == 1


def test_a_connection_that_is_bound_to_an_interface_is_ended(child: NetlinkChild) -> None:
    """For which a pod needs no capability (SO_BINDTODEVICE, from Linux 5.7 on)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        bound = stack.enter_context(socket.socket())
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        bound.connect(listener.getsockname())
        stack.enter_context(listener.accept()[0])
        row = found(child, listener.getsockname()[1])[bound.getsockname()[1]]
        assert row.interface == socket.if_nametoindex("lo")
        assert child.destroy(HERE, [row]) == 1
        with pytest.raises(ConnectionAbortedError):
            bound.recv(1)


def test_one_that_ended_and_waits_for_late_segments_is_none(child: NetlinkChild) -> None:
    listener, client, accepted = pair("127.0.0.1")
    port = listener.getsockname()[1]
    with listener, client, accepted:
        client.close()
        accepted.recv(1)
        assert found(child, port).keys() == {port}, "who closed does not read any more, the other end may still send"
        accepted.close()
        assert found(child, port) == {}


def test_one_that_is_being_made_is_listed_and_one_that_is_half_closed(child: NetlinkChild) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = listener.getsockname()
        half_closed = stack.enter_context(socket.create_connection(place))
        half_closed.shutdown(socket.SHUT_WR)
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        assert waiting.connect_ex(place) == errno.EINPROGRESS  # the queue is full
        ports = {end.getsockname()[1] for end in (half_closed, waiting)}
        assert ports <= found(child, place[1]).keys()
        assert waiting.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == bytes([2])  # SYN_SENT
