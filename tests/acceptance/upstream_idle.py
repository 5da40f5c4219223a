"""Acceptance 10: an upstream that closes idle connections after 1 s, and every connection after 100 requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import shop as shops
from tests.acceptance.figures import lines
from tests.acceptance.shop import Shop
from tests.testbed import manifests

NGINX = """\
worker_processes 1; daemon off; pid {home}/closing.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_timeout 1s; keepalive_requests 100;
  client_body_temp_path {home}/closing-body; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{ listen 8100; location / {{ return 200 "ok"; }} }}
}}
"""


@dataclass(frozen=True)
class Result:
    mesh_get: int
    mesh_get_failed: int
    mesh_post: int
    mesh_post_failed: int
    direct_post: int
    direct_post_failed: int


def run(shop: Shop, seconds: float) -> Result:
    """GETs and POSTs whose pauses straddle the upstream's idle limit, through the mesh and (POST) directly."""
    config = Path(shop.bed.home) / "closing.conf"
    config.write_text(NGINX.format(home=shop.bed.home), encoding="utf-8")
    shop.bed.popen(shop.v1, ["nginx", "-c", str(config)])
    shop.bed.wait_listening(shop.v1, 8100)
    route = manifests.http_route("shop", "closing", "closing", [{"backendRefs": [manifests.backend("closing", 1)]}])
    shop.bed.manifests.write("60-closing.yaml", *shops.service(shop.bed, 7, "closing", [shop.v1], target=8100), route)
    _wait_served(shop)
    direct = f"http://{shop.v1.ipv4}:8100/"
    plans = [
        (shop.web, shop.url(7), "GET", 0.998),
        (shop.web, shop.url(7), "GET", 0.0005),
        (shop.web, shop.url(7), "POST", 1.0),
        (shop.plain, direct, "POST", 1.0),
    ]
    running = [
        shop.program(pod, "requester", url, seconds, 8, "--method", method, "--interval", pause)
        for pod, url, method, pause in plans
    ]
    rows = [lines(process.communicate(timeout=seconds * 3)[0]) for process in running]
    failed = [sum(1 for row in group if row.status != "200") for group in rows]
    return Result(len(rows[0]) + len(rows[1]), failed[0] + failed[1], len(rows[2]), failed[2], len(rows[3]), failed[3])


def _wait_served(shop: Shop) -> None:
    for _ in range(100):
        if shop.get(shop.web, shop.url(7)) == 200:
            return
    raise AssertionError("the closing upstream was never reached through the mesh")
