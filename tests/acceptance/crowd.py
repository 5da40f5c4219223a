"""Acceptance 7, second half: what one pod's idle and slow connections cost another pod's requests."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.figures import percentile
from tests.acceptance.shop import HERE, Shop
from tests.testbed import manifests

VIP = 10
PORT = 8500
REQUESTS, INTERVAL = 1000, 0.002  # of one measurement
ROUNDS, MORE_ROUNDS = 5, 15
NOISE = 0.2  # what the control may differ; more rounds while it differs more

NGINX = """\
worker_processes 1; daemon off; pid {home}/crowd.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_timeout 600s; keepalive_requests 100000000;
  client_body_temp_path {home}/crowd-body; proxy_temp_path {home}/crowd-p; fastcgi_temp_path {home}/crowd-f;
  uwsgi_temp_path {home}/crowd-u; scgi_temp_path {home}/crowd-s;
  server {{ listen 8500; location / {{ return 200 "ok"; }} }}
}}
"""


@dataclass(frozen=True)
class Crowded:
    """Medians over the rounds; a ratio is that of one round's p99s."""

    rounds: int
    alone_p99_s: float
    crowded_p99_s: float
    ratio: float  # crowded / alone
    control: float  # alone / alone, measured just before
    connections: int  # that the worker held meanwhile
    idle_ended: int


def serve(shop: Shop) -> None:
    """nginx on PORT of v1, so that the server is not what is slow."""
    config = Path(shop.bed.home) / "crowd.conf"
    config.write_text(NGINX.format(home=shop.bed.home), encoding="utf-8")
    shop.bed.popen(shop.v1, ["nginx", "-c", str(config)])
    shop.bed.wait_listening(shop.v1, PORT)


def prepare(shop: Shop) -> None:
    """A Service `crowd` on the proxied rung, served by nginx."""
    serve(shop)
    route = manifests.http_route("shop", "crowd", "crowd", [{"backendRefs": [manifests.backend("crowd", 1)]}])
    documents = [*shops.service(shop.bed, VIP, "crowd", [shop.v1], target=PORT), route]
    in_force.apply(shop, lambda: shop.bed.manifests.write("60-crowd.yaml", *documents))


def measure(shop: Shop, idle: int, slow: int) -> Crowded:
    """Rounds of: alone, alone again (the control), beside the crowd of another pod."""
    alones: list[float] = []
    crowdeds: list[float] = []
    ratios: list[float] = []
    controls: list[float] = []
    connections = idle_ended = 0
    while len(ratios) < ROUNDS or (len(ratios) < MORE_ROUNDS and abs(statistics.median(controls) - 1) > NOISE):
        before, alone = p99(shop), p99(shop)
        with Crowd(shop, idle, slow) as crowd:
            crowded = p99(shop)
            connections = max(connections, held(shop))
        controls.append(alone / before)
        ratios.append(crowded / alone)
        alones.append(alone)
        crowdeds.append(crowded)
        idle_ended += crowd.idle_ended
    alone, crowded, ratio, control = map(statistics.median, (alones, crowdeds, ratios, controls))
    return Crowded(len(ratios), alone, crowded, ratio, control, connections, idle_ended)


def p99(shop: Shop) -> float:
    """Of requests from the pod vault."""
    text = shop.output(shop.vault, "prober", shop.bed.vip(VIP), 80, REQUESTS, INTERVAL)
    return percentile([float(line) for line in text.splitlines()], 0.99)


def held(shop: Shop) -> int:
    return int(sum(worker["stats"]["connections"] for worker in in_force.status(shop)["workers"]))


class Crowd:
    """crowd_client.py in the pod web for the length of a `with`."""

    def __init__(self, shop: Shop, idle: int, slow: int) -> None:
        argv = [sys.executable, "-S", str(HERE / "crowd_client.py"), shop.bed.vip(VIP), "80", str(idle), str(slow)]
        self._process: subprocess.Popen[str] = shop.bed.popen(
            shop.web, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.idle_ended = 0

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.idle_ended = json.loads(self._process.communicate(timeout=30)[0])["idle_ended"]
