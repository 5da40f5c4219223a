from __future__ import annotations

import errno
import struct

import pytest

from nodeagent.kernel import netlink_socket

GET_ADDRESSES = 22  # RTM_GETADDR
ANY = bytes(8)


def forged(kind: int) -> bytes:
    """The head of a message that no kernel sent."""
    return struct.pack("=IHHIIi", 20, kind, 0, 0, 0, 0)


@pytest.mark.parametrize("kind", [3, 20])  # the end of a list, and an address
def test_what_another_process_sends_is_no_answer(kind: int) -> None:
    """Who has NET_ADMIN in a pod's namespace can send to the sockets that we have there."""
    with netlink_socket.connect(netlink_socket.ROUTE) as ours, netlink_socket.connect(netlink_socket.ROUTE) as other:
        ours.bind((0, 0))
        other.sendto(forged(kind), ours.getsockname())
        asked = netlink_socket.ask(ours, GET_ADDRESSES, netlink_socket.F_DUMP, ANY)
        answer = [message for messages in asked for message in messages]
        assert answer
        assert forged(kind) not in answer


def test_what_the_kernel_refuses_is_an_error_with_its_number() -> None:
    with netlink_socket.connect(netlink_socket.ROUTE) as ours, pytest.raises(OSError, match="not supported") as error:
        list(netlink_socket.ask(ours, 0xFFF0, netlink_socket.F_ACK, ANY))
    assert error.value.errno == errno.EOPNOTSUPP
