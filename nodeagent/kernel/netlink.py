"""The netlink child: `python -m nodeagent.kernel.netlink FD...` answers what is asked on these sockets.

A thread for each, and a thread is in a network namespace of its own: who asks on one socket does not wait for a long
answer on another.  A child, because the parent must not enter other namespaces.  Parent's side: nodeagent.kernel.netns.

The only module that imports pyroute2, and of it what decodes messages: its __init__ and its sockets import managers of
routes, interfaces and firewalls, asyncio, ssl and multiprocessing, with which this takes 22 MB and not 9.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from nodeagent import packages
from nodeagent.core.addresses import canonical
from nodeagent.kernel import netlink_socket, setns, sock_diag

packages.enter("pyroute2")

from pyroute2.netlink.rtnl import RTM_GETADDR  # noqa: E402  what comes before is the point
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402

_ANY_ADDRESS = bytes(8)  # struct ifaddrmsg


def enter(path: str) -> None:
    """Move this thread into a network namespace.  OSError if it is gone or no namespace."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns.enter(fd, path)
    finally:
        os.close(fd)


def own_addresses() -> list[str]:
    with netlink_socket.connect(netlink_socket.ROUTE) as route:
        listed = netlink_socket.ask(route, RTM_GETADDR, netlink_socket.F_DUMP, _ANY_ADDRESS)
        return sorted({canonical(_address(message)) for messages in listed for message in messages})


def _address(message: bytes) -> str:
    decoded = ifaddrmsg(message)
    decoded.decode()
    return str(decoded.get_attr("IFA_LOCAL") or decoded.get_attr("IFA_ADDRESS"))


def inspect(path: str) -> dict[str, Any]:
    try:
        enter(path)
    except OSError as error:
        return {"cookie": 0, "addresses": [], "error": f"cannot enter it: {error.strerror}"}
    return {"cookie": setns.cookie(), "addresses": own_addresses(), "error": ""}


def established(path: str) -> Iterator[list[sock_diag.Row]]:
    """Connections, some at a time; nothing at all if the namespace is gone."""
    try:
        enter(path)
    except OSError:
        return
    yield from sock_diag.established()


def destroy(path: str, rows: Iterable[sock_diag.Row]) -> int:
    enter(path)
    return sock_diag.destroy(rows)


def answer(request: dict[str, Any]) -> Iterator[Any]:
    """An answer's parts."""
    if request["op"] == "inspect":
        yield from ((path, inspect(path)) for path in request["paths"])
    elif request["op"] == "established":
        yield from ((path, rows) for path in request["paths"] for rows in established(path))
    elif request["op"] == "destroy":
        yield destroy(request["path"], request["rows"])
    else:
        raise ValueError(f"unknown request {request['op']!r}")


def replies(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its parts, then either its end or why there is no more."""
    try:
        yield from ({"part": part} for part in answer(request))
        yield {"end": True}
    except OSError as error:
        yield {"error": str(error)}


def serve(channel: socket.socket) -> None:
    """A line in, lines out, until the parent ends the channel."""
    with channel, channel.makefile("rb") as questions:
        for question in questions:
            for reply in replies(json.loads(question)):
                channel.sendall(json.dumps(reply).encode() + b"\n")


def _end(args: threading.ExceptHookArgs) -> None:
    """A child is whole or gone: who asks on the other channel is told, too."""
    threading.__excepthook__(args)
    os._exit(1)


def main(descriptors: Iterable[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the parent decides when this ends
    threading.excepthook = _end
    for fd in descriptors:
        threading.Thread(target=serve, args=(socket.socket(fileno=int(fd)),)).start()


if __name__ == "__main__":
    main(sys.argv[1:])
