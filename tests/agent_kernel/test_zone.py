"""An agent in a zone sends direct and proxied requests to endpoints of that zone, and elsewhere when none is ready."""

from __future__ import annotations

import json

from tests.acceptance import in_force
from tests.acceptance.shop import PORT, Shop, open_shop
from tests.testbed import manifests
from tests.testbed.manifests import Document

RAW, CATALOG = 5, 1  # VIPs: one without any rule, one with a route to itself


def in_zones(shop: Shop, number: int, name: str, *, ready: bool) -> list[Document]:
    """v1 is in zone a, v2 in zone b."""
    service = manifests.service("shop", name, [shop.bed.vip(number)], target_port=PORT)
    service["spec"]["trafficDistribution"] = "PreferSameZone"
    slice_ = manifests.endpoint_slice("shop", name, [shop.v1.ipv4, shop.v2.ipv4], suffix="0")
    near, far = slice_["endpoints"]
    near.update(zone="a", conditions={"ready": ready})
    far["zone"] = "b"
    return [service, slice_]


def pods(shop: Shop, number: int) -> set[str]:
    """Who answered 20 requests, each on a connection of its own."""
    curl = ["curl", "-sS", "-m", "5", "-w", "\\n", "-H", "Connection: close"]
    said = shop.bed.run(shop.web, [*curl, *[shop.url(number)] * 20]).stdout
    return {json.loads(line)["pod"] for line in said.splitlines() if line}


def test_requests_stay_in_the_zone_of_the_agent_while_an_endpoint_there_is_ready() -> None:
    with open_shop(start=False) as shop:
        write = shop.bed.manifests.write
        rule = {"backendRefs": [manifests.backend("catalog", 1)]}
        write("30-route.yaml", manifests.http_route("shop", "catalog", "catalog", [rule]))

        def documents(*, ready: bool) -> list[Document]:
            return [*in_zones(shop, RAW, "raw", ready=ready), *in_zones(shop, CATALOG, "catalog", ready=ready)]

        write("20-services.yaml", *documents(ready=True))
        shop.agent.options = [*shop.agent.options, "--zone", "a"]
        shop.agent.start()
        for number, rung in ((RAW, "direct"), (CATALOG, "proxy")):
            assert pods(shop, number) == {"catalog-v1"}
            told = shop.agent.cli("explain", "--from", "shop/web", "--to", f"{shop.bed.vip(number)}:80").stdout
            assert f"rung      {rung}" in told
            assert "only the endpoints for zone a are used" in told
        in_force.apply(shop, lambda: write("20-services.yaml", *documents(ready=False)))
        assert [pods(shop, number) for number in (RAW, CATALOG)] == [{"catalog-v2"}] * 2
