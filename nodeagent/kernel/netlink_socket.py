"""A question by netlink, and the messages that answer it.

pyroute2's own socket can do more, and for that it imports asyncio, ssl and multiprocessing: 5 MB, and half of the
netlink child's start.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

ROUTE, SOCK_DIAG = 0, 4
F_ACK, F_DUMP = 0x4, 0x300

_F_REQUEST = 0x1
_F_DUMP_INTERRUPTED = 0x10
_KERNEL = 0  # its port; every process has another one
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
HEADER_BYTES = _HEADER.size
_RECEIVE_BYTES = 65536  # the kernel fills at most 32 KiB at a time


def connect(protocol: int) -> socket.socket:
    """To the network namespace that we are in, and it stays that one's."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)


def ask(netlink: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[list[bytes]]:
    """Messages with their headers, as many at a time as the kernel gives.  OSError: why it gives no more."""
    netlink.send(_HEADER.pack(HEADER_BYTES + len(body), kind, _F_REQUEST | flags, 0, 0) + body)
    ended = False
    while not ended:
        data, (sender, _groups) = netlink.recvfrom(_RECEIVE_BYTES)
        if sender != _KERNEL:  # a pod with NET_ADMIN can send us what it likes
            continue
        messages, ended = _split(data)
        yield messages


def _split(data: bytes) -> tuple[list[bytes], bool]:
    """The messages in it, and whether they are the last."""
    messages: list[bytes] = []
    offset = 0
    while offset < len(data):
        length, kind, flags, *_ = _HEADER.unpack_from(data, offset)
        if flags & _F_DUMP_INTERRUPTED:
            raise InterruptedError(errno.EINTR, "what is listed was changed meanwhile")
        if kind in (_ERROR, _DONE):
            _check(data, offset + HEADER_BYTES)
            return messages, True
        messages.append(data[offset : offset + length])
        offset += _aligned(length)
    return messages, False


def _check(data: bytes, offset: int) -> None:
    """An acknowledgement is an error 0, too."""
    (code,) = struct.unpack_from("=i", data, offset)
    if code:
        raise OSError(-code, os.strerror(-code))


def attribute(message: bytes, offset: int, wanted: int) -> bytes | None:
    """The value of an attribute, of those that begin at `offset`."""
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == wanted:
            return message[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3
