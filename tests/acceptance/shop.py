"""The small shop that acceptance tests run in: callers, Services and their pods, on one testbed node.

web (enrolled, Open), vault (enrolled, Closed), plain (not enrolled)  call
catalog (VIP 1): route by weight to catalog-v1 (VIP 2) and catalog-v2 (VIP 3), one pod each
echo (VIP 4): opaque TCP; raw (VIP 5): HTTP without any rule
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import Agent, Pod, Testbed, manifests

HERE = Path(__file__).resolve().parent
FAIL_MODE = f"{manifests.GROUP}/fail-mode"
PORT = 8080


@dataclass
class Shop:
    bed: Testbed
    web: Pod
    vault: Pod
    plain: Pod
    v1: Pod
    v2: Pod
    agent: Agent

    # -- programs in pods ---------------------------------------------------------------------------
    def program(self, pod: Pod, name: str, *arguments: object) -> subprocess.Popen[str]:
        argv = [sys.executable, "-S", str(HERE / f"{name}.py"), *map(str, arguments)]
        process: subprocess.Popen[str] = self.bed.popen(pod, argv, stdout=subprocess.PIPE, text=True)
        return process

    def output(self, pod: Pod, name: str, *arguments: object, timeout: float = 300.0) -> str:
        process = self.program(pod, name, *arguments)
        text, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, f"{name} {arguments}: exit {process.returncode}"
        return text

    def connect(self, pod: Pod, address: str, port: int, count: int, rate: float, *options: str) -> dict[str, Any]:
        """Runs connector.py; its counts by outcome."""
        counts: dict[str, Any] = json.loads(self.output(pod, "connector", address, port, count, rate, *options))
        return counts

    def get(self, pod: Pod, url: str, *options: str) -> int:
        """One curl; the status, 0 when there was no response."""
        argv = ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", *options, url]
        return int(self.bed.run(pod, argv).stdout or "0")

    # -- configuration ------------------------------------------------------------------------------
    def weights(self, v1: int, v2: int) -> manifests.Document:
        backends = [manifests.backend("catalog-v1", v1), manifests.backend("catalog-v2", v2)]
        return manifests.http_route("shop", "catalog", "catalog", [{"backendRefs": backends}])

    def url(self, number: int, path: str = "/") -> str:
        return f"http://{self.bed.vip(number)}{path}"


def deny(name: str, service: str, caller: str, *, level: str = "Application", **rule: Any) -> manifests.Document:
    """A DENY for callers with that service account of the namespace shop."""
    source = {"serviceAccount": {"namespace": "shop", "name": caller}}
    return manifests.authorization_policy(
        "shop", name, service, action="DENY", level=level, rules=[{"sources": [source], **rule}]
    )


def service(
    bed: Testbed, number: int, name: str, pods: Sequence[Pod], app_protocol: str = "http", target: int = PORT
) -> list[manifests.Document]:
    """A dual-stack Service at VIP `number`, with a slice for each family."""
    families = ([pod.ipv4 for pod in pods], [pod.ipv6 for pod in pods])
    slices = [
        manifests.endpoint_slice("shop", name, hosts, port=target, suffix=str(index))
        for index, hosts in enumerate(families)
    ]
    addresses = [bed.vip(number), bed.vip6(number)]
    return [manifests.service("shop", name, addresses, app_protocol=app_protocol, target_port=target), *slices]


def write_shop(shop_bed: Testbed, v1: Pod, v2: Pod) -> None:
    write = shop_bed.manifests.write
    write(
        "00-namespaces.yaml",
        manifests.namespace("shop"),
        manifests.namespace("vault", annotations={FAIL_MODE: "Closed"}),
        manifests.namespace("plain", enrolled=False),
    )
    write("10-pods.yaml", *shop_bed.pod_documents())
    write(
        "20-services.yaml",
        *service(shop_bed, 1, "catalog", [v1, v2]),
        *service(shop_bed, 2, "catalog-v1", [v1]),
        *service(shop_bed, 3, "catalog-v2", [v2]),
        *service(shop_bed, 4, "echo", [v1], app_protocol="tcp", target=9000),
        *service(shop_bed, 5, "raw", [v1, v2]),
    )


@contextmanager
def open_shop(*, workers: int = 1, start: bool = True) -> Iterator[Shop]:
    """The shop with servers running; with `start`, the agent too, and the catalog on rung 3 at 50/50."""
    with Testbed() as bed:
        web = bed.add_pod("shop", "web", service_account="web", workload="web")
        vault = bed.add_pod("vault", "vault", service_account="vault", workload="vault")
        plain = bed.add_pod("plain", "plain", service_account="plain", workload="plain")
        v1 = bed.add_pod("shop", "catalog-v1", service_account="catalog", workload="catalog-v1")
        v2 = bed.add_pod("shop", "catalog-v2", service_account="catalog", workload="catalog-v2")
        for pod in (v1, v2):
            bed.serve(pod, PORT)
        shop = Shop(bed, web, vault, plain, v1, v2, bed.agent("--workers", str(workers)))
        bed.popen(v1, [sys.executable, "-S", str(HERE / "socket_peer.py"), "9000", "9100"])
        bed.wait_listening(v1, 9000)
        write_shop(bed, v1, v2)
        bed.manifests.write("30-route.yaml", shop.weights(50, 50))
        if start:
            shop.agent.start()
        yield shop
