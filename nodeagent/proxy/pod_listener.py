"""The listener that a worker serves a pod by: on a loopback address of the pod's namespace, a port of the kernel's.

Bound with IP_FREEBIND: a namespace is often enrolled before its `lo` is up and has its addresses.  Without that,
binding to ::1 fails, and IPv6 would pass the rules by until somebody tried again.
"""

from __future__ import annotations

import socket

from nodeagent.proxy.sockets import Buffers, set_common

BACKLOG = 4096
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def make_pod_listener(family: int, buffers: Buffers) -> socket.socket:
    """OSError (EAFNOSUPPORT) where the kernel has no such family.  Accepted sockets inherit the options."""
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        set_common(listener, buffers)
        listener.bind((_LOOPBACK[socket.AddressFamily(family)], 0))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
