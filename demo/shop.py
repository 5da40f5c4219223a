"""A node with a small shop on it: pods, servers, manifests."""

from __future__ import annotations

from pathlib import Path

from demo.clients import Target
from tests.testbed import Pod, Testbed

MANIFESTS = Path(__file__).resolve().parent / "manifests"
# Name, namespace and listening port of every pod, in the order of their addresses (see manifests/20-pods.yaml).
PODS = (
    ("shop", "web-1", 0),
    ("shop", "catalog-v1-1", 8080),
    ("shop", "catalog-v2-1", 8080),
    ("shop", "payments-1", 8080),
    ("shop", "ledger-1", 9000),
    ("shop", "intern-1", 0),
    ("outside", "stranger-1", 0),
)
CATALOG = Target("catalog", "198.19.0.1")
PAYMENTS = Target("payments", "198.19.0.4")
LEDGER = Target("ledger", "198.19.0.5", 9000)


class Shop:
    """The pods by name, with their servers running and the manifests in place."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self._pods = {name: bed.add_pod(namespace, name) for namespace, name, _ in PODS}
        for _, name, port in PODS:
            if port:
                bed.serve(self._pods[name], port)
        for file in sorted(MANIFESTS.glob("*.yaml")):
            bed.manifests.write_text(file.name, file.read_text(encoding="utf-8").replace("${TAG}", bed.tag))

    def __getitem__(self, name: str) -> Pod:
        return self._pods[name]
