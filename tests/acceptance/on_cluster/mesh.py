"""The agent on the cluster: installed and removed by kubectl, asked by its command line and by its metrics."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.acceptance.on_cluster.waiting import until
from tests.cluster import paths
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node

NAMESPACE = "nodeagent"
DAEMONSET = "daemonset/nodeagent"
WHOLE = paths.HERE / "manifests" / "whole"  # CRDs and agent
AGENT = paths.HERE / "manifests" / "agent"  # without CRDs
PORT = 15020
ENABLED = "mesh.nodeagent.dev/dataplane"
Status = dict[str, Any]


class Mesh:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    # ---- installation ----

    def install(self) -> None:
        """One `kubectl apply -k`."""
        self._wait_until_gone()
        self.cluster.kubectl("apply", "-k", str(WHOLE))

    def wait_ready(self) -> None:
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", DAEMONSET, "--timeout=120s")

    def remove(self) -> None:
        """Everything, CRDs and with them all policies too."""
        self.cluster.kubectl("delete", "-k", str(WHOLE), "--ignore-not-found", "--timeout=90s")
        self._wait_until_gone()

    def _wait_until_gone(self) -> None:
        ask = ("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
        until(lambda: not self.cluster.kubectl(*ask).strip(), 60, "the agent's namespace is gone")

    @contextmanager
    def argument(self, text: str) -> Iterator[None]:
        """With one more flag of `run`, and then without."""
        path = "/spec/template/spec/containers/0/args"
        self._patch([{"op": "add", "path": f"{path}/-", "value": text}])
        try:
            yield
        finally:
            count = len(self._container()["args"])
            self._patch([{"op": "remove", "path": f"{path}/{count - 1}"}])

    def _patch(self, patch: list[dict[str, Any]]) -> None:
        self.cluster.kubectl("-n", NAMESPACE, "patch", DAEMONSET, "--type=json", "-p", json.dumps(patch))
        self.wait_ready()

    def _container(self) -> dict[str, Any]:
        told = json.loads(self.cluster.kubectl("-n", NAMESPACE, "get", DAEMONSET, "-o", "json"))
        found: dict[str, Any] = told["spec"]["template"]["spec"]["containers"][0]
        return found

    def enrol(self, namespace: str, *, enrolled: bool = True) -> None:
        label = f"{ENABLED}=enabled" if enrolled else f"{ENABLED}-"
        self.cluster.kubectl("label", "namespace", namespace, label, "--overwrite")

    # ---- questions ----

    def status(self, node: Node) -> Status:
        """By the admin socket, on the node itself: also while there is no API server to go through."""
        command = [sys.executable, "-m", "nodeagent", "status", "-o", "json"]
        answer: Status = json.loads(node.box.run(["sh", "-c", '"$@" || true', "ask", *command]))
        return answer

    def told(self, node: Node) -> str:
        """The same, as people read it."""
        command = [sys.executable, "-m", "nodeagent", "status"]
        return node.box.run(["sh", "-c", '"$@" || true', "ask", *command])

    def addresses(self) -> list[str]:
        """Of the agents' pods, by the names of their nodes."""
        pods = json.loads(self.cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
        living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return [pod["status"]["podIP"] for pod in sorted(living, key=lambda pod: pod["spec"]["nodeName"])]

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all nodes and all series that have these labels."""
        return sum(self._values(address, name, labels) for address in self.addresses())

    def _values(self, address: str, name: str, labels: dict[str, str]) -> float:
        answer = self.cluster.control.box.run(["curl", "-sS", "-m", "10", f"http://{address}:{PORT}/metrics"])
        found = 0.0
        for line in answer.splitlines():
            series, _, value = line.rpartition(" ")
            wanted = all(f'{key}="{text}"' in series for key, text in labels.items())
            if wanted and re.split(r"[{ ]", series)[0] == f"nodeagent_{name}":
                found += float(value)
        return found
