"""The shop on two nodes: callers, Services, and what routes and policies say about them.  None of it shares a path.

web-1, web-2 (one on each node) and job-1, job-2, of another service account, call
catalog: route 80/20 to catalog-v1 and catalog-v2, a pod of each on each node; no /admin for anybody, nothing for jobs
slow, metered, uneven, unsound: a timeout, a limit, retries, outlier detection; of the last two one pod always fails
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import Mesh
from tests.cluster.cluster import Cluster
from tests.testbed import manifests
from tests.testbed.manifests import Document

NAME = "shop"
NODES = ("node1", "node2")
WEIGHTS = (80, 20)
TIMEOUT_MS = 300
LIMIT = 20  # requests at once on each node, and hardly any after that
TRIES = 3  # retries
THRESHOLD = 5  # failures in a row
CURL = ("curl", "-sS", "-m", "10")


def pods() -> list[Document]:
    found = []
    for number, node in enumerate(NODES, 1):
        found.append(objects.client(NAME, f"web-{number}", node, serviceAccountName="web"))
        found.append(objects.client(NAME, f"job-{number}", node, serviceAccountName="job"))
        for version in ("v1", "v2"):
            labels = {"app": "catalog", "version": version}
            found.append(objects.server(NAME, f"catalog-{version}-{number}", node, labels=labels))
    found.append(objects.server(NAME, "uneven-1", NODES[0]))
    found.append(objects.server(NAME, "uneven-2", NODES[1], "--status=503"))
    return found


def services() -> list[Document]:
    catalog = [objects.service(NAME, name, app="catalog") for name in ("catalog", "slow", "metered")]
    versions = [objects.service(NAME, f"catalog-{one}", app="catalog", version=one) for one in ("v1", "v2")]
    return [*catalog, *versions, *(objects.service(NAME, name, app="uneven") for name in ("uneven", "unsound"))]


def target(name: str) -> Document:
    return {"group": "", "kind": "Service", "name": name}


def rules() -> list[Document]:
    """Every route and policy."""
    shares = [manifests.backend(f"catalog-{one}", weight) for one, weight in zip(("v1", "v2"), WEIGHTS, strict=True)]
    admin = {"http": {"paths": [{"type": "PathPrefix", "value": "/admin"}]}}
    jobs = {"sources": [{"serviceAccount": {"namespace": NAME, "name": "job"}}]}
    timeout = {"timeouts": {"request": f"{TIMEOUT_MS}ms"}, "backendRefs": [manifests.backend("slow", 1)]}
    limit = {"name": "all", "limit": {"requests": 1, "interval": "1h", "burst": LIMIT}}
    budget = {"percent": 100, "interval": "10s"}
    outliers = {"consecutive5xxErrors": THRESHOLD, "baseEjectionTime": "1h", "maxEjectionTime": "1h"}
    return [
        manifests.http_route(NAME, "canary", "catalog", [{"backendRefs": shares}]),
        manifests.http_route(NAME, "slow", "slow", [timeout]),
        manifests.authorization_policy(
            NAME, "no-admin", "catalog", action="DENY", level="Application", rules=[admin]
        ),
        manifests.authorization_policy(NAME, "no-jobs", "catalog", action="DENY", level="Network", rules=[jobs]),
        manifests.rate_limit_policy(NAME, "metered", target("metered"), http={"rules": [limit]}),
        manifests.traffic_policy(
            NAME, "uneven", target("uneven"), retry={"attempts": TRIES, "codes": [503], "budget": budget}
        ),
        manifests.traffic_policy(NAME, "unsound", target("unsound"), outlierDetection=outliers),
    ]


class Shop:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def get(self, pod: str, url: str, count: int = 1, *options: str) -> list[str]:
        """For each of `count` requests, one after the other: status, reason of the mesh or "-", curl's exit code."""
        form = "%{http_code} %header{x-mesh-reason} %{exitcode}\\n"
        # A count in the URL makes curl ask again and again; it is no part of what is asked for.
        command = [*CURL, "-o", "/dev/null", "-w", form, *options, f"http://{url}#[1-{count}]"]
        script = '"$@" 2>/dev/null || true'
        text = objects.run(self.cluster, NAME, pod, "sh", "-c", script, "ask", *command)
        return [" ".join(_filled(line.split(" "))) for line in text.splitlines()]

    def milliseconds(self, pod: str, url: str, count: int) -> list[int]:
        """How long each of these requests took."""
        command = [*CURL, "-o", "/dev/null", "-w", "%{time_total}\\n", f"http://{url}#[1-{count}]"]
        return [round(1e3 * float(line)) for line in objects.run(self.cluster, NAME, pod, *command).splitlines()]

    def served_by(self, pod: str, url: str, count: int) -> Counter[str]:
        """How many requests each pod answered, by what they say themselves; whatever else came, by its text."""
        text = objects.run(self.cluster, NAME, pod, *CURL, f"http://{url}#[1-{count}]")
        return Counter(line.partition('"pod": "')[2].partition('"')[0] or line for line in text.splitlines())


def _filled(words: list[str]) -> list[str]:
    return [word or "-" for word in words]


@contextmanager
def open_shop(cluster: Cluster) -> Iterator[Shop]:
    """Its pods are Ready; nothing is enrolled, no rule exists."""
    accounts = [objects.account(NAME, name) for name in ("web", "job")]
    running = pods()
    objects.create_namespace(cluster, objects.namespace(NAME))
    try:
        objects.apply(cluster, *accounts, *services(), *running)
        objects.wait_pods(cluster, *running)
        yield Shop(cluster)
    finally:
        cluster.kubectl("delete", "namespace", NAME, "--timeout=60s")


def seconds_until_enforced(mesh: Mesh, shop: Shop) -> float:
    """From `kubectl apply -k` on a cluster without the mesh until a running pod's request is denied."""
    began = time.monotonic()
    mesh.install()
    policies = [one for one in rules() if one["metadata"]["name"] == "no-admin"]
    crd = "crd/authorizationpolicies.mesh.nodeagent.dev"
    shop.cluster.kubectl("wait", "--for=condition=Established", crd, "--timeout=30s")
    objects.apply(shop.cluster, *policies)
    mesh.enrol(NAME)
    while shop.get("web-1", "catalog/admin") != ["403 denied 0"]:
        assert time.monotonic() - began < 120, "nothing is denied"
    return time.monotonic() - began
