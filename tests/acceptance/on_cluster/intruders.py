"""Line 9: what a pod can reach of the agent's, as root with the runtime's capabilities, with more, and privileged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.on_cluster import intruder, objects
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.shop import NAME, Shop
from tests.acceptance.on_cluster.waiting import until

SOURCE = Path(intruder.__file__).read_text(encoding="utf-8")
ASK = ("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %{exitcode}")


def tries(shop: Shop, capabilities: Sequence[str]) -> dict[str, Any]:
    """What came of each try of intruder.py, in an enrolled pod that also has these capabilities."""
    context = {"runAsUser": 0, "capabilities": {"add": list(capabilities)}}
    pod = objects.pod(NAME, "intruder-1", "node1", ["sleep", "infinity"], container={"securityContext": context})
    objects.apply(shop.cluster, pod)
    try:
        objects.wait_pods(shop.cluster, pod)
        shop.get("intruder-1", "catalog/items")  # so that it has been enrolled
        of_web = ("-n", NAME, "get", "pod", "web-1", "-o", "jsonpath={.status.podIP}")
        other = shop.cluster.kubectl(*of_web)
        found: dict[str, Any] = json.loads(
            objects.run(shop.cluster, NAME, "intruder-1", "python3", "-c", SOURCE, other)
        )
        return found
    finally:
        objects.delete(shop.cluster, pod)


@dataclass(frozen=True)
class Privileged:
    inside: str  # what the pod gets in its own namespace
    as_host: str  # and what a process of it gets that has entered the node's
    of_node: str  # and what the node itself gets, while that process is there
    enrolled: bool
    failed: dict[str, str]  # pods that could not be enrolled


def enters_the_hosts_namespace(mesh: Mesh, shop: Shop) -> Privileged:
    """hostPID and privileged: a process that has the pod's cgroup, and the node's network namespace."""
    cluster, node = shop.cluster, shop.cluster.nodes[0]
    there = "nsenter --target=1 --net -- sleep 60 & exec sleep infinity"
    context = {"securityContext": {"privileged": True}}
    pod = objects.pod(NAME, "privileged-1", node.name, ["bash", "-c", there], container=context, hostPID=True)
    objects.apply(cluster, pod)
    try:
        objects.wait_pods(cluster, pod)
        key = f"{NAME}/privileged-1"
        until(lambda: key in mesh.status(node)["pods"]["enrolled"], 15, "the pod is enrolled")
        catalog = cluster.kubectl("-n", NAME, "get", "service", "catalog", "-o", "jsonpath={.spec.clusterIP}")
        url = f"http://{catalog}/admin"
        entered = objects.run(cluster, NAME, "privileged-1", "nsenter", "--target=1", "--net", "--", *ASK, url)
        inside = objects.run(cluster, NAME, "privileged-1", *ASK, url)
        pods = mesh.status(node)["pods"]
        return Privileged(inside, entered, node.box.run([*ASK, url]), key in pods["enrolled"], pods["failed"])
    finally:
        objects.delete(cluster, pod)
