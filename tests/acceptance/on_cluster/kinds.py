"""Line 8: what is special about a pod, a container or an address, each tried under the shop's policies.

`/items` of catalog is allowed, `/admin` is denied; of the service account "job" every connection is refused.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from typing import Any

from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.shop import NAME, NODES, Shop
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.cluster.images import TOOLS_IMAGE
from tests.cluster.node import CTR, Node
from tests.testbed import manifests
from tests.testbed.manifests import Document

ASK = """for path in items admin; do
    curl -s -m 5 -o /dev/null -w "%{http_code} " catalog/$path
done >/dev/termination-log"""
POLICED = "200 403 "
LEASES = "/var/lib/cni/networks/pods"  # of the CNI plugin host-local
RESTART_SECONDS = 60


def probes(shop: Shop) -> dict[str, object]:
    """Of a pod whose Service nobody may call: kubelet is no pod, and asks on."""
    probe: Document = {"httpGet": {"path": "/", "port": objects.PORT}, "periodSeconds": 1}
    ways: Document = {"startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}
    pod = objects.server(NAME, "probed-1", NODES[1])
    pod["spec"]["containers"][0] |= ways
    everybody = {"sources": [{"namespace": NAME}]}
    policy = manifests.authorization_policy(NAME, "probed", "probed", action="DENY", level="Network", rules=[everybody])
    made = [objects.service(NAME, "probed", app="probed"), policy, pod]
    objects.apply(shop.cluster, *made)
    try:
        objects.wait_programmed(shop.cluster, policy)
        objects.wait_pods(shop.cluster, pod)
        called = shop.get("web-1", "probed/", 3)
        until(lambda: served(shop, "probed-1") >= 10, 20, "kubelet asked ten times")
        [status] = _pod(shop.cluster, "probed-1")["status"]["containerStatuses"]
        return {"ready": status["ready"], "restarts": status["restartCount"], "web-1": sorted(set(called))}
    finally:
        objects.delete(shop.cluster, *made)


def served(shop: Shop, pod: str) -> int:
    text = objects.run(shop.cluster, NAME, pod, "curl", "-sS", f"http://127.0.0.1:{objects.PORT}/count")
    return int(json.loads(text)["requests"])


def host_network(mesh: Mesh, shop: Shop) -> dict[str, object]:
    pod = objects.client(NAME, "host-1", NODES[0], hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    objects.apply(shop.cluster, pod)
    try:
        objects.wait_pods(shop.cluster, pod)
        node = mesh.cluster.nodes[0]
        until(lambda: f"{NAME}/host-1" in mesh.status(node)["pods"]["host_network"], 10, "status names the pod")
        failed = mesh.status(node)["pods"]["failed"]
        return {"asked": shop.get("host-1", f"catalog.{NAME}/admin"), "failed": failed}
    finally:
        objects.delete(shop.cluster, pod)


def questions_to_dns(shop: Shop, count: int) -> dict[str, int]:
    """Over UDP, by the resolver of an enrolled pod: how many had an answer."""
    code = f"import socket\nfor _ in range({count}): print(socket.getaddrinfo('catalog', 80)[0][4][0])"
    return {
        pod: len(objects.run(shop.cluster, NAME, pod, "python3", "-c", code).splitlines()) for pod in ("web-1", "web-2")
    }


def init_containers(shop: Shop) -> dict[str, str]:
    pod = objects.pod(NAME, "init-1", NODES[0], ["bash", "-c", ASK], serviceAccountName="web", restartPolicy="Never")
    first = {"name": "first", "image": TOOLS_IMAGE, "command": ["bash", "-c", ASK]}
    pod["spec"]["initContainers"] = [first]
    return _messages(shop.cluster, pod)


def several_containers(shop: Shop) -> dict[str, str]:
    """Three that call, and one of these calls another at localhost first."""
    pod = objects.pod(NAME, "several-1", NODES[1], ["bash", "-c", ASK], serviceAccountName="web", restartPolicy="Never")
    inside = "until curl -s -o /dev/null localhost:9000; do sleep 0.05; done; " + ASK
    pod["spec"]["containers"] += [
        {"name": "second", "image": TOOLS_IMAGE, "command": ["bash", "-c", ASK]},
        {"name": "third", "image": TOOLS_IMAGE, "command": ["bash", "-c", inside]},
        {"name": "serving", "image": TOOLS_IMAGE, "command": ["timeout", "8", "python3", "-m", "http.server", "9000"]},
    ]
    found = _messages(shop.cluster, pod)
    found.pop("serving")
    return found


def _messages(cluster: Cluster, pod: Document) -> dict[str, str]:
    """What each container of a pod left as its last words."""
    objects.apply(cluster, pod)
    name = pod["metadata"]["name"]
    try:
        until(lambda: _pod(cluster, name)["status"]["phase"] in ("Succeeded", "Failed"), 60, f"{name} has ended", 0.2)
        status = _pod(cluster, name)["status"]
        states = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
        return {one["name"]: one["state"]["terminated"].get("message", "") for one in states}
    finally:
        objects.delete(cluster, pod)


def jobs(shop: Shop) -> dict[str, dict[str, int]]:
    """One whose five pods ask for what is allowed, one for what is denied; each pod asks at once, and once."""
    return {path: _job(shop, path) for path in ("items", "admin")}


def _job(shop: Shop, path: str) -> dict[str, int]:
    container = {"name": "main", "image": TOOLS_IMAGE, "command": ["curl", "-sSf", "-m", "5", f"catalog/{path}"]}
    template = {"spec": {"restartPolicy": "Never", "serviceAccountName": "web", "containers": [container]}}
    # Indexed: the failure of one does not end the others.
    once = {"completionMode": "Indexed", "backoffLimitPerIndex": 0}
    spec = {"completions": 5, "parallelism": 5, **once, "template": template}
    job: Document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": NAME, "name": f"ask-{path}"},
        "spec": spec,
    }
    objects.apply(shop.cluster, job)
    try:
        until(lambda: _ended_jobs(shop, path).total() == 5, 60, f"job ask-{path} has ended", 0.2)
        return dict(_ended_jobs(shop, path))
    finally:
        shop.cluster.kubectl("-n", NAME, "delete", "job", f"ask-{path}")


def _ended_jobs(shop: Shop, path: str) -> Counter[str]:
    selector = f"job-name=ask-{path}"
    listed = shop.cluster.kubectl("-n", NAME, "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.phase}")
    return Counter(phase for phase in listed.split() if phase in ("Succeeded", "Failed"))


def reused_address(shop: Shop) -> list[tuple[str, str, str]]:
    """Callers of different service accounts, one after the other with one address: (account, address, outcome)."""
    node = shop.cluster.nodes[0]
    found: list[tuple[str, str, str]] = []
    for number, account in enumerate(("job", "web", "job")):
        name = f"reuse-{number}"
        pod = objects.client(NAME, name, node.name, serviceAccountName=account)
        objects.apply(shop.cluster, pod)
        try:
            objects.wait_pods(shop.cluster, pod)
            address = _pod(shop.cluster, name)["status"]["podIP"]
            found.append((account, address, *shop.get(name, "catalog/items")))
        finally:
            objects.delete(shop.cluster, pod)
        until(lambda: not node.box.succeeds(["test", "-e", f"{LEASES}/{found[0][1]}"]), 20, "the address is free")
        last = ipaddress.ip_address(found[0][1]) - 1  # the next one is the same
        node.box.run(["sh", "-c", f"printf {last} >{LEASES}/last_reserved_ip.0"])
    return found


def restarts(shop: Shop) -> dict[str, list[str]]:
    """A caller whose container is killed, then its sandbox: what it gets before and after."""
    node = shop.cluster.nodes[1]
    pod = objects.client(NAME, "restart-1", node.name, serviceAccountName="web")
    objects.apply(shop.cluster, pod)
    try:
        objects.wait_pods(shop.cluster, pod)
        found = {"before": _asked(shop)}
        for kind in ("container", "sandbox"):
            address = _kill(shop, node, kind)
            found[f"{kind} killed, {address}"] = _asked(shop)
        return found
    finally:
        objects.delete(shop.cluster, pod)


def _asked(shop: Shop) -> list[str]:
    return [*shop.get("restart-1", "catalog/items"), *shop.get("restart-1", "catalog/admin")]


def _kill(shop: Shop, node: Node, kind: str) -> str:
    """By the runtime, as a crash would do it; then the pod runs again, in place.  Whether its address is another."""
    before = _pod(shop.cluster, "restart-1")
    wanted = {"io.kubernetes.pod.uid": before["metadata"]["uid"], "io.cri-containerd.kind": kind}
    labels = ",".join(f'labels."{name}"=={value}' for name, value in wanted.items())
    [identity] = node.box.run([*CTR, "containers", "list", "-q", labels]).split()
    node.box.run([*CTR, "task", "kill", "-s", "SIGKILL", identity])
    count = before["status"]["containerStatuses"][0]["restartCount"]

    def runs_again() -> bool:
        [status] = _pod(shop.cluster, "restart-1")["status"]["containerStatuses"]
        return bool(status["restartCount"] > count and status["ready"])

    until(runs_again, RESTART_SECONDS, "kubelet has started it again")
    same = _pod(shop.cluster, "restart-1")["status"]["podIP"] == before["status"]["podIP"]
    return "same address" if same else "another address"


def _pod(cluster: Cluster, name: str) -> Any:
    return json.loads(cluster.kubectl("-n", NAME, "get", "pod", name, "-o", "json"))
