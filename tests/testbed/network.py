"""The network of one testbed: a namespace with a bridge, and one namespace per pod on it.

The machine's own namespace gets no device, address or route.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.shell import ip_batch, run

NETNS_DIR = Path("/run/netns")


@dataclass
class Network:
    """`subnet` 0..255 makes 198.18.<subnet>.0/24 and fd00:198:18:<subnet>::/64 the pods' addresses."""

    tag: str
    subnet: int
    _names: list[str] = field(default_factory=list)

    @property
    def node(self) -> str:
        return f"{self.tag}-node"

    @property
    def node_path(self) -> Path:
        return NETNS_DIR / self.node

    def ipv4(self, host: int) -> str:
        return f"198.18.{self.subnet}.{host}"

    def ipv6(self, host: int) -> str:
        return f"fd00:198:18:{self.subnet:x}::{host:x}"

    def open(self) -> None:
        self._add_namespace(self.node)
        ip_batch(
            self.node,
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 addrgenmode none",
            f"addr add {self.ipv4(1)}/24 dev br0",
            f"addr add {self.ipv6(1)}/64 dev br0 nodad",
            "link set br0 up",
        )

    def add_pod(self, name: str, host: int) -> Path:
        """A namespace with the addresses of `host` (2..254); returns its path."""
        netns = f"{self.tag}-{name}"
        self._add_namespace(netns)
        device = f"p{host}"
        ip_batch(
            self.node,
            f"link add {device} type veth peer name eth0 netns {netns}",
            f"link set {device} addrgenmode none",
            f"link set {device} master br0 up",
        )
        ip_batch(
            netns,
            "link set lo up",
            "link set eth0 addrgenmode none",
            f"addr add {self.ipv4(host)}/24 dev eth0",
            f"addr add {self.ipv6(host)}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {self.ipv4(1)}",
            f"route add default via {self.ipv6(1)}",
        )
        return NETNS_DIR / netns

    def remove_pod(self, name: str) -> None:
        self._delete_namespace(f"{self.tag}-{name}")

    def close(self) -> None:
        for netns in list(self._names):
            self._delete_namespace(netns)

    def _add_namespace(self, netns: str) -> None:
        run(["ip", "netns", "add", netns])
        self._names.append(netns)

    def _delete_namespace(self, netns: str) -> None:
        run(["ip", "netns", "del", netns])
        self._names.remove(netns)
