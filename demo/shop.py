"""A node with a small shop on it: pods, servers, manifests."""

from __future__ import annotations

import json
from pathlib import Path

from demo.clients import Target
from tests.testbed import Agent, Pod, Testbed

MANIFESTS = Path(__file__).resolve().parent / "manifests"
# Namespace, name, listening port and status of every pod, in the order of their addresses (manifests/20-pods.yaml).
PODS = (
    ("shop", "web-1", 0, 0),
    ("shop", "catalog-v1-1", 8080, 200),
    ("shop", "catalog-v2-1", 8080, 200),
    ("shop", "payments-1", 8080, 200),
    ("shop", "ledger-1", 9000, 200),
    ("shop", "intern-1", 0, 0),
    ("outside", "stranger-1", 0, 0),
    ("shop", "invoices-1", 8080, 200),
    ("shop", "invoices-2", 8080, 503),  # broken: it answers so whatever it is asked
    ("shop", "invoices-next-1", 8080, 200),
)
CATALOG = Target("catalog", "198.19.0.1")
PAYMENTS = Target("payments", "198.19.0.4")
LEDGER = Target("ledger", "198.19.0.5", 9000)
INVOICES = Target("invoices", "198.19.0.6")


class Shop:
    """The pods by name, with their servers running and the manifests in place."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self._pods = {name: bed.add_pod(namespace, name) for namespace, name, _, _ in PODS}
        for _, name, port, status in PODS:
            if port:
                bed.serve(self._pods[name], port, "--status", str(status))
        for file in sorted(MANIFESTS.glob("*.yaml")):
            bed.manifests.write_text(file.name, file.read_text(encoding="utf-8").replace("${TAG}", bed.tag))

    def apply(self, agent: Agent, name: str, written_as: str = "") -> None:
        """Puts a file of manifests/later in force; `written_as` is the name of one that it takes the place of."""
        text = (MANIFESTS / "later" / name).read_text(encoding="utf-8")
        agent.apply(lambda: self.bed.manifests.write_text(written_as or name, text))

    def served(self, name: str) -> int:
        """How many requests the server of that pod has seen, by its own count."""
        done = self.bed.run(self[name], ["curl", "-sS", "http://127.0.0.1:8080/count"])
        return int(json.loads(done.stdout)["requests"])

    def __getitem__(self, name: str) -> Pod:
        return self._pods[name]
