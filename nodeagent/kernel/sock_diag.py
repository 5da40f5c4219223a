"""TCP sockets of the network namespace that we are in: listed and ended, by the structures of linux/inet_diag.h.

A listing walks the whole host's table of connections, whatever the namespace: 2 ms where it has 262,144 places.  So
all is asked in one walk, which only the older kind of request does for both families.  Decoded here, because pyroute2
takes 0.3 ms for a socket: a pod with 15,000 would be given up on, again and again.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

from nodeagent.core.addresses import canonical
from nodeagent.kernel import netlink_socket

# The fields of netns.Connection, in their order: that module is the parent's, and imports more than all of this.
Row = tuple[str, int, str, int, int, bool, int, int]

_TCPDIAG_GETSOCK, _SOCK_DESTROY = 18, 21
_CGROUP_ID = 21  # INET_DIAG_CGROUP_ID

# linux/tcp_states.h
_ESTABLISHED, _SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT, _LISTEN = 1, 2, 4, 5, 8, 10
# SYN_SENT: judged by the rules of before, it would be established a moment later.
_LIVE = sum(1 << state for state in (_ESTABLISHED, _SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT))

_LIST = struct.pack("=4x48xII", _LIVE | 1 << _LISTEN, 0)  # inet_diag_req: of any family and socket, in these states
_END = struct.Struct("=BBxxI")  # the head of inet_diag_req_v2: family, protocol, states; the socket follows
_SOCKET = struct.Struct(">HH16s16s4s")  # inet_diag_sockid: ports, addresses, interface; the cookie follows
_U64 = struct.Struct("=Q")

# inet_diag_msg, from the message's beginning: family, state, timer, retransmissions; the socket; 20 bytes not read
_FAMILY_AT = netlink_socket.HEADER_BYTES
_STATE_AT = _FAMILY_AT + 1
_SOCKET_AT = _FAMILY_AT + 4
_COOKIE_AT = _SOCKET_AT + _SOCKET.size
_ATTRIBUTES_AT = _COOKIE_AT + _U64.size + 20


def established() -> Iterator[list[Row]]:
    """Connections that carry data or are about to, some at a time."""
    listening: set[int] = set()
    with netlink_socket.connect(netlink_socket.SOCK_DIAG) as diag:
        for messages in netlink_socket.ask(diag, _TCPDIAG_GETSOCK, netlink_socket.F_DUMP, _LIST):
            # the kernel has those that listen in a table of their own, and lists it first
            listening.update(_local_port(message) for message in messages if message[_STATE_AT] == _LISTEN)
            yield [_row(message, listening) for message in messages if _is_connection(message)]


def _is_connection(message: bytes) -> bool:
    """Not what waits for late segments after its end (TIME_WAIT), which is listed as FIN_WAIT2, and of no cgroup."""
    state = message[_STATE_AT]
    if state == _FIN_WAIT2:
        return netlink_socket.attribute(message, _ATTRIBUTES_AT, _CGROUP_ID) is not None
    return state != _LISTEN


def _local_port(message: bytes) -> int:
    return int.from_bytes(message[_SOCKET_AT : _SOCKET_AT + 2], "big")


def _row(message: bytes, listening: set[int]) -> Row:
    family = message[_FAMILY_AT]
    local_port, remote_port, local, remote, interface = _SOCKET.unpack_from(message, _SOCKET_AT)
    (cookie,) = _U64.unpack_from(message, _COOKIE_AT)
    cgroup = netlink_socket.attribute(message, _ATTRIBUTES_AT, _CGROUP_ID)
    return (
        _text(family, local),
        local_port,
        _text(family, remote),
        remote_port,
        cookie,
        local_port not in listening,
        _U64.unpack(cgroup)[0] if cgroup else 0,
        int.from_bytes(interface, sys.byteorder),
    )


@functools.lru_cache(maxsize=1024)
def _text(family: int, padded: bytes) -> str:
    return canonical(socket.inet_ntop(family, padded[: 4 if family == socket.AF_INET else 16]))


def destroy(rows: Iterable[Row]) -> int:
    """How many still existed."""
    with netlink_socket.connect(netlink_socket.SOCK_DIAG) as diag:
        return sum(_destroy_one(diag, row) for row in rows)


def _destroy_one(diag: socket.socket, row: Row) -> bool:
    """False if it ended by itself.  The cookie makes sure that no later socket of the same tuple is hit."""
    try:
        for _ in netlink_socket.ask(diag, _SOCK_DESTROY, netlink_socket.F_ACK, _end_request(row)):
            pass
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def _end_request(row: Row) -> bytes:
    local, local_port, remote, remote_port, cookie, _, _, interface = row
    family = socket.AF_INET6 if ":" in local else socket.AF_INET  # an IPv4-mapped socket is found as IPv4
    packed = [socket.inet_pton(family, address) for address in (local, remote)]
    return (
        _END.pack(family, socket.IPPROTO_TCP, 0xFFFFFFFF)
        + _SOCKET.pack(local_port, remote_port, *packed, interface.to_bytes(4, sys.byteorder))
        + _U64.pack(cookie)
    )
