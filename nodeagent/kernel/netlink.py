"""The netlink child: `python -m nodeagent.kernel.netlink` answers a request a line.

The only module that imports pyroute2, and of it what decodes messages: its __init__ and its sockets import managers of
routes, interfaces and firewalls, asyncio, ssl and multiprocessing, with which this takes 22 MB and not 9.  A child,
because the parent must not enter other namespaces.  Parent's side: nodeagent.kernel.netns.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
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


_FIELDS = ("local", "local_port", "remote", "remote_port", "cookie", "dialled", "cgroup")


def established(path: str) -> list[dict[str, Any]] | None:
    """Connections, or None if the namespace is gone."""
    try:
        enter(path)
    except OSError:
        return None
    return [dict(zip(_FIELDS, row, strict=True)) for rows in sock_diag.established() for row in rows]


def destroy(path: str, connections: Iterable[dict[str, Any]]) -> int:
    enter(path)
    return sock_diag.destroy(tuple(connection[name] for name in _FIELDS) for connection in connections)


def answer(request: dict[str, Any]) -> Any:
    if request["op"] == "inspect":
        return {path: inspect(path) for path in request["paths"]}
    if request["op"] == "established":
        listed = {path: established(path) for path in request["paths"]}
        return {path: rows for path, rows in listed.items() if rows is not None}
    if request["op"] == "destroy":
        return destroy(request["path"], request["connections"])
    raise ValueError(f"unknown request {request['op']!r}")


def main() -> int:
    """A line in, a line out, until the parent closes the pipe."""
    for line in sys.stdin:
        try:
            reply = {"result": answer(json.loads(line))}
        except OSError as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)  # noqa: T201 - stdout is the channel to the parent
    return 0


if __name__ == "__main__":
    sys.exit(main())
