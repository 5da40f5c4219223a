"""Acceptance 8 and 9: many short connections, one source port, endpoints that keep changing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.figures import lines
from tests.acceptance.shop import Shop
from tests.testbed import Pod, manifests

FLIP_PORT = 8200
NGINX = """\
worker_processes 1; daemon off; pid {home}/{name}.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {home}/{name}-b; proxy_temp_path {home}/{name}-p; fastcgi_temp_path {home}/{name}-f;
  uwsgi_temp_path {home}/{name}-u; scgi_temp_path {home}/{name}-s;
  server {{ listen 8200 backlog=4096; location / {{ return 200 '{{"pod": "{name}"}}'; }} }}
}}
"""


def many_connections(shop: Shop, count: int, seconds: float) -> list[dict[str, Any]]:
    """`count` client-closed connections to each of three proxied Services at once; outcomes by Service."""
    routes = [shop_route(name) for name in ("catalog-v1", "catalog-v2")]
    shop.bed.manifests.write("31-more-routes.yaml", *routes)
    time.sleep(0.5)
    running = [
        shop.program(shop.web, "connector", shop.bed.vip(number), 80, count, count / seconds) for number in (1, 2, 3)
    ]
    return [json.loads(process.communicate(timeout=seconds * 3)[0]) for process in running]


def shop_route(service: str) -> dict[str, Any]:
    return manifests.http_route("shop", service, service, [{"backendRefs": [manifests.backend(service, 1)]}])


def one_source_port(shop: Shop) -> tuple[list[str], int]:
    """Two connections from the same bound port to two proxied Services, both open; (statuses, counted direct)."""
    shop.bed.manifests.write("31-more-routes.yaml", shop_route("catalog-v2"))
    time.sleep(0.5)
    before = shop.agent.metrics().total("nodeagent_bypass_connections_total", reason="source-port")
    program = (
        "import socket\n"
        "request = b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'\n"
        "held = []\n"
        f"for address in {[shop.bed.vip(1), shop.bed.vip(3)]!r}:\n"
        "    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "    s.settimeout(5); s.bind(('', 45678)); s.connect((address, 80)); held.append(s)\n"
        "for s in held:\n"
        "    s.sendall(request); print(s.recv(65536).split()[1].decode())\n"
    )
    done = shop.bed.run(shop.web, ["python3", "-c", program])
    after = shop.agent.metrics().total("nodeagent_bypass_connections_total", reason="source-port")
    return (done.stdout + done.stderr).split(), int(after - before)


@dataclass(frozen=True)
class Replaced:
    replaced: int
    connects: int
    rate: float
    errors: int
    late: int


CLIENTS = 2  # one makes 1,200 connections a second


def endpoints_replaced(shop: Shop, times: int, rate: float) -> Replaced:
    """Swaps all endpoints of `flip` between two pods; every connection asks who answered it."""
    for pod in (shop.v1, shop.v2):
        _serve_name(shop, pod)

    def point_to(pod: Pod) -> None:
        documents = shops.service(shop.bed, 6, "flip", [pod], target=FLIP_PORT)
        in_force.apply(shop, lambda: shop.bed.manifests.write("21-flip.yaml", *documents))

    point_to(shop.v1)
    duration = times * 0.045 + 4
    # 60 s of TIME_WAIT at this rate are more ports than there are, with a mesh or without: let them be reused.
    for setting in ("net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535"):
        assert shop.bed.run(shop.web, ["sysctl", "-qw", setting]).returncode == 0
    each = rate / CLIENTS
    load = (shop.bed.vip(6), 80, int(duration * each), each, "--request", "--lines")
    clients = [shop.program(shop.web, "connector", *load) for _ in range(CLIENTS)]
    time.sleep(1.0)
    periods: list[tuple[float, float, str]] = []  # (in force, replaced, pod)
    for number in range(times):
        pod = (shop.v2, shop.v1)[number % 2]  # the first replaces v1
        point_to(pod)
        start = time.monotonic()
        time.sleep(0.01)
        periods.append((start, time.monotonic(), pod.name))
    texts = [client.communicate(timeout=duration * 3)[0] for client in clients]
    rows = sorted((row.time, row.status) for text in texts for row in lines(text))
    errors = sum(1 for _, outcome in rows if not outcome.startswith("200/"))
    late = 0
    index = 0
    for start, end, pod_name in periods:
        while index < len(rows) and rows[index][0] < start:
            index += 1
        while index < len(rows) and rows[index][0] < end:
            late += rows[index][1] != f"200/{pod_name}"
            index += 1
    span = rows[-1][0] - rows[0][0]
    return Replaced(len(periods), len(rows), len(rows) / span, errors, late)


def _serve_name(shop: Shop, pod: Pod) -> None:
    """nginx that says the pod's name: the echo server starts a thread for each connection, too slow for this."""
    config = Path(shop.bed.home) / f"flip-{pod.name}.conf"
    config.write_text(NGINX.format(home=shop.bed.home, name=pod.name), encoding="utf-8")
    shop.bed.popen(pod, ["nginx", "-c", str(config)])
    shop.bed.wait_listening(pod, FLIP_PORT)
