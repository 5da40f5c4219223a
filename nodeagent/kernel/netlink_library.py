"""What is used of `pyroute2`, without the rest of it.  Its one importer.

Its __init__ imports managers of routes, interfaces, firewalls and a database of them: with it the netlink child takes
22 MB and not 13, and a third longer to start.
"""

from __future__ import annotations

from nodeagent.packages import enter

enter("pyroute2")

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

__all__ = [
    "NLM_F_ACK",
    "NLM_F_DUMP",
    "NLM_F_REQUEST",
    "RTM_GETADDR",
    "RTM_NEWADDR",
    "SOCK_DESTROY",
    "SS_CLOSE_WAIT",
    "SS_ESTABLISHED",
    "SS_FIN_WAIT1",
    "SS_FIN_WAIT2",
    "SS_LISTEN",
    "SS_SYN_SENT",
    "DiagSocket",
    "NetlinkError",
    "NetlinkSocket",
    "ifaddrmsg",
    "inet_diag_req",
]
