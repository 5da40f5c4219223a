"""The netlink child: `python -m nodeagent.kernel.netlink` answers a request a line.

The only module that imports pyroute2, and without its __init__: that imports managers of routes, interfaces, firewalls
and a database of them, with which this takes 22 MB and not 13, and a third longer to start.  A child, because it enters
other network namespaces and because pyroute2 is too much memory to keep in the agent.  Parent's side:
nodeagent.kernel.netns.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any

from nodeagent import packages
from nodeagent.core.addresses import canonical
from nodeagent.kernel import setns

packages.enter("pyroute2")

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST  # noqa: E402  what comes before is the point
from pyroute2.netlink.diag import (  # noqa: E402
    SOCK_DESTROY,
    SS_CLOSE_WAIT,
    SS_ESTABLISHED,
    SS_FIN_WAIT1,
    SS_FIN_WAIT2,
    SS_LISTEN,
    SS_SYN_SENT,
    DiagSocket,
    inet_diag_req,
)
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402
from pyroute2.netlink.nlsocket import NetlinkSocket  # noqa: E402
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_NEWADDR  # noqa: E402
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402

_NETLINK_ROUTE, _NETLINK_SOCK_DIAG = 0, 4
# SYN_SENT: judged by the rules of before, it would be established a moment later.
_LIVE = sum(1 << state for state in (SS_ESTABLISHED, SS_SYN_SENT, SS_FIN_WAIT1, SS_FIN_WAIT2, SS_CLOSE_WAIT))
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def enter(path: str) -> None:
    """Move this process into a network namespace.  OSError if it is gone or no namespace."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns.enter(fd, path)
    finally:
        os.close(fd)


def own_addresses() -> list[str]:
    with NetlinkSocket(_NETLINK_ROUTE) as route:
        route.bind()
        route.register_policy({RTM_NEWADDR: ifaddrmsg})
        listed = route.nlm_request(ifaddrmsg(), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP)
        found = [one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS") for one in listed]
    return sorted({canonical(text) for text in found})


def inspect(path: str) -> dict[str, Any]:
    try:
        enter(path)
    except OSError as error:
        return {"cookie": 0, "addresses": [], "error": f"cannot enter it: {error.strerror}"}
    return {"cookie": setns.cookie(), "addresses": own_addresses(), "error": ""}


def _sockets(states: int) -> Iterable[Any]:
    for family in _FAMILIES:
        with DiagSocket() as diag:
            diag.bind()
            yield from diag.get_sock_stats(family=family, states=states)


def established(path: str) -> list[dict[str, Any]] | None:
    """Connections, or None if the namespace is gone."""
    try:
        enter(path)
    except OSError:
        return None
    listening = {message["idiag_sport"] for message in _sockets(1 << SS_LISTEN)}
    return [_row(message, listening) for message in _sockets(_LIVE)]


def _row(message: Any, listening: set[int]) -> dict[str, Any]:
    return {
        "local": canonical(message["idiag_src"]),
        "local_port": message["idiag_sport"],
        "remote": canonical(message["idiag_dst"]),
        "remote_port": message["idiag_dport"],
        "cookie": message["idiag_cookie"],
        "dialled": message["idiag_sport"] not in listening,
        "cgroup": message.get_attr("INET_DIAG_CGROUP_ID") or 0,
    }


def destroy(path: str, connections: Iterable[dict[str, Any]]) -> int:
    enter(path)
    with NetlinkSocket(_NETLINK_SOCK_DIAG) as diag:
        diag.bind()
        return sum(_destroy_one(diag, connection) for connection in connections)


def _words(text: str) -> tuple[int, int, int, int]:
    packed = ipaddress.ip_address(text).packed.ljust(16, b"\0")
    first, second, third, fourth = struct.unpack(">4I", packed)
    return first, second, third, fourth


def _destroy_one(diag: Any, connection: dict[str, Any]) -> bool:
    """False if it ended by itself.  The cookie makes sure that no later socket of the same tuple is hit."""
    request = inet_diag_req()
    # an IPv4-mapped socket is found as IPv4
    request["sdiag_family"] = socket.AF_INET6 if ":" in connection["local"] else socket.AF_INET
    request["sdiag_protocol"] = socket.IPPROTO_TCP
    request["idiag_states"] = 0xFFFFFFFF
    request["idiag_src"] = _words(connection["local"])
    request["idiag_sport"] = connection["local_port"]
    request["idiag_dst"] = _words(connection["remote"])
    request["idiag_dport"] = connection["remote_port"]
    request["idiag_cookie"] = connection["cookie"]
    try:
        tuple(diag.nlm_request(request, SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK))
    except NetlinkError as error:
        if error.code in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


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
        except (OSError, NetlinkError) as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)  # noqa: T201 - stdout is the channel to the parent
    return 0


if __name__ == "__main__":
    sys.exit(main())
