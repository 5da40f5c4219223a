"""Acceptance 4: what an application sees of its sockets, with and without the agent."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.acceptance import shop as shops
from tests.acceptance.shop import Shop
from tests.testbed import Pod

PEER_PORT = 9000
PEER_UDP = 9100
Table = dict[str, Any]


def table(shop: Shop, pod: Pod, server4: str, server6: str, stream: int) -> Table:
    """socket_table.py's rows, run in `pod` against the peer in catalog-v1."""
    rows: Table = json.loads(shop.output(pod, "socket_table", server4, server6, PEER_PORT, PEER_UDP, stream))
    return rows


def differences(one: Table, other: Table) -> list[str]:
    return sorted(name for name in one if one[name] != other[name])


def proxy_every_port(shop: Shop) -> None:
    """A rule for every port of catalog-v1: HTTP Services on them with an Application rule that denies nobody here."""
    documents = []
    for offset, port in enumerate((PEER_PORT, PEER_PORT + 1, PEER_PORT + 2, PEER_PORT + 3, PEER_PORT + 9)):
        name = f"peer-{port}"
        documents += shops.service(shop.bed, 20 + offset, name, [shop.v1], target=port)
        documents.append(shops.deny(f"{name}-nobody", name, "nobody"))
    shop.bed.manifests.write("60-peers.yaml", *documents)


def time_to_bypass(shop: Shop) -> float:
    """Seconds from the start of `nodeagent bypass on` to the first connect that an L4 DENY no longer stops."""
    shop.bed.manifests.write("50-deny.yaml", shops.deny("no-echo", "echo", "web", level="Network"))
    vip = shop.bed.vip(4)
    deadline = time.monotonic() + 5
    while shop.connect(shop.web, vip, 80, 1, 0).get("EPERM") != 1:
        assert time.monotonic() < deadline, "the deny never came into force"
    address = shop.v1.ipv4
    assert shop.connect(shop.web, address, PEER_PORT, 1, 0).get("EPERM") == 1
    start = time.monotonic()
    shop.agent.cli("bypass", "on")
    while shop.connect(shop.web, address, PEER_PORT, 1, 0).get("ok") != 1:
        assert time.monotonic() < start + 10, "still denied 10 s after `bypass on`"
    return time.monotonic() - start
