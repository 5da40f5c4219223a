"""Datagrams between the broker and a worker: JSON, with descriptors beside it (SOCK_SEQPACKET, SCM_RIGHTS).

worker -> broker   {"op": "sockets", "cookie": C, "family": 4|6, "count": N}
broker -> worker   {"op": "sockets", "cookie": C, "family": F}            + 1..N unconnected sockets
                   {"op": "failed", "cookie": C, "family": F, "errno": E}
                   {"op": "listener", "cookie": C, "family": F, "port": P} + 1 listener; P 0 = none, and no socket
                   {"op": "pod_del", "cookie": C}
agent -> broker    {"op": "pod_add", "cookie": C} + 1 namespace, {"op": "pod_del", "cookie": C},
                   {"op": "worker_add", "worker": I} + 1 socket pair end, {"op": "worker_del", "worker": I}
broker -> agent    {"op": "error", "cookie": C, "message": TEXT}
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MAX_DATAGRAM = 4096
MAX_SOCKETS = 64
"""Sockets of one answer; the kernel passes 253 at most (SCM_MAX_FD)."""
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def send(end: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """BlockingIOError when the other side does not read."""
    if fds:
        socket.send_fds(end, [data], fds)
    else:
        end.send(data)


def receive(end: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One datagram and its descriptors, which the caller owns.  (None, []) at the end.

    ValueError or RecursionError if it is no JSON object; then the descriptors are closed.
    """
    data, fds, _, _ = socket.recv_fds(end, MAX_DATAGRAM, MAX_SOCKETS)
    try:
        return (_message_of(data), fds) if data else (None, _close_all(fds))
    except (ValueError, RecursionError):
        _close_all(fds)
        raise


def _close_all(fds: list[int]) -> list[int]:
    for fd in fds:
        os.close(fd)
    return []


def _message_of(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError(f"not an object: {data[:80]!r}")  # noqa: TRY004 - it is bad input, as broken JSON is
    return message
