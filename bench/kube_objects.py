"""The made-up cluster of `bench.cluster` as a real API server takes it, with pods as large as real ones.

Pods are on nodes that have no kubelet; they tolerate that, and their Node objects are never Ready, so that the
controllers leave both alone.  A pod's owner is its ServiceAccount: it is there, so that nothing is collected as
garbage, and no controller makes pods for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import cluster
from bench.cluster import EACH
from tests.testbed import manifests
from tests.testbed.manifests import Document

NAMESPACES = 10
PODS_OF_NODE = 100
FAKE = "bench.nodeagent.dev/fake"  # label of the nodes
SERVICE = {"group": "", "kind": "Service"}
POLICY_EVERY = 2  # of Services: every second has an AuthorizationPolicy


def namespaces() -> Iterator[Document]:
    yield from (manifests.namespace(cluster.namespace(number)) for number in range(NAMESPACES))


def nodes(services: int) -> Iterator[Document]:
    for number in range(-(-services * EACH // PODS_OF_NODE)):
        labels = {FAKE: "true", "topology.kubernetes.io/zone": f"zone-{number % 3}"}
        yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node(number), "labels": labels}}


def node(number: int) -> str:
    return f"fake-{number}"


def account(number: int) -> Document:
    metadata = {"namespace": cluster.namespace(number), "name": f"s{number}"}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def service(number: int) -> Document:
    """The API server gives it its address."""
    found = cluster.service(number)
    del found["spec"]["clusterIP"], found["spec"]["clusterIPs"]
    return found


# In each turn an object differs from what it was when its number had its turn before.


def endpoint_slice(number: int, turn: int = 3**EACH - 1) -> Document:
    """Each digit of the turn, to the base of 3, is an endpoint: 0 = it is not there, 1 = not ready, 2 = ready."""
    found = cluster.endpoint_slice(number)
    states = [turn // 3**one % 3 for one in range(EACH)]
    for endpoint, state in zip(found["endpoints"], states, strict=True):
        endpoint["conditions"]["ready"] = state == 2
    found["endpoints"] = [one for one, state in zip(found["endpoints"], states, strict=True) if state]
    return found


def route(number: int, turn: int = 0) -> Document:
    found = cluster.route(number)
    found["spec"]["rules"][0]["matches"][0]["path"]["value"] = f"/canary-{turn}"
    return found


def authorization(number: int, turn: int = 0) -> Document:
    found = cluster.policy(number)
    found["spec"]["rules"][0]["sources"][0]["serviceAccount"]["name"] = f"nobody{turn}"
    return found


def traffic(number: int, turn: int = 1) -> Document:
    target = {**SERVICE, "name": f"s{number}"}
    return manifests.traffic_policy(cluster.namespace(number), f"t{number}", target, timeouts={"request": f"{turn}ms"})


def limit(number: int, turn: int = 1) -> Document:
    target, rules = {**SERVICE, "name": f"s{number}"}, [{"name": "a", "limit": {"requests": turn}}]
    return manifests.rate_limit_policy(cluster.namespace(number), f"l{number}", target, http={"rules": rules})


def rules(services: int) -> Iterator[Document]:
    """Two for each Service on the average: of 10 Services 8 have a route, 5 an authorization, 4 traffic, 3 limits."""
    for number in range(services):
        digit = number % 10
        if has_route(number):
            yield route(number)
        if number % POLICY_EVERY == 0:
            yield authorization(number)
        if has_traffic(number):
            yield traffic(number)
        if digit in (2, 5, 8):
            yield limit(number)


def has_route(number: int) -> bool:
    return number % 5 != 4


def has_traffic(number: int) -> bool:
    return number % 5 in (1, 3)


def pod(number: int, one: int, owner: str) -> Document:
    """`owner`: the uid of its ServiceAccount."""
    name, app = f"s{number}-{one}", f"s{number}"
    metadata = {
        "namespace": cluster.namespace(number),
        "name": name,
        "labels": {"app.kubernetes.io/name": app, "app.kubernetes.io/version": "1.2.3", "team": f"team-{number % 30}"},
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "name": app, "uid": owner, "controller": True}
        ],
    }
    spec = {
        "nodeName": node((number * EACH + one) // PODS_OF_NODE),
        "serviceAccountName": app,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [_container(app)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(app: str) -> Document:
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3}
    return {
        "name": "app",
        "image": f"registry.example/{app}:1.2.3",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"SETTING_{index}", "value": f"value-{index}-of-{app}"} for index in range(8)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "livenessProbe": probe,
        "readinessProbe": probe,
    }


def status(number: int, one: int) -> Document:
    """Of a pod that runs and is ready."""
    since, address = "2026-01-01T00:00:00Z", cluster.hosts(number)[one]
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "app",
        "image": f"registry.example/s{number}:1.2.3",
        "imageID": f"registry.example/s{number}@sha256:{number:064x}",
        "containerID": f"containerd://{number * EACH + one:064x}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": since}},
    }
    return {
        "phase": "Running",
        "hostIP": f"192.168.{number >> 8}.{number & 255}",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": since,
        "qosClass": "Burstable",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in conditions],
        "containerStatuses": [container],
    }
