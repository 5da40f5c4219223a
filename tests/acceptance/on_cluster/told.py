"""Lines 6 and 7: what kubectl shows of routes and policies, how soon, and who writes when nothing changes."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import NAMESPACE, Mesh
from tests.acceptance.on_cluster.shop import NAME, target
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.testbed import manifests
from tests.testbed.manifests import Document

ELSEWHERE = "elsewhere"
LEASE = "nodeagent-status"
SERIES = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
READS = {"GET", "LIST", "WATCH"}
OURS = ("mesh.nodeagent.dev", "gateway.networking.k8s.io")
SETTLE_SECONDS = 30.0


@dataclass(frozen=True)
class Case:
    document: Document
    expected: dict[str, str]  # condition: status and reason


@dataclass(frozen=True)
class Told:
    conditions: dict[str, str]
    field: str  # of the message about what is wrong
    seconds: float  # from `kubectl apply` to the last of its conditions
    event_seconds: float | None  # to the Event about a reject


def cases() -> dict[str, Case]:
    good = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "Programmed": "True Programmed"}
    served = manifests.backend("catalog-v1", 1)
    redirect = {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}
    there = {**served, "namespace": NAME}
    consumer = manifests.http_route(ELSEWHERE, "consumer", "catalog", [{"backendRefs": [there]}])
    consumer["spec"]["parentRefs"][0]["namespace"] = NAME
    return {
        "accepted": Case(_route("told-accepted", served), good),
        "same matches as an older route": Case(_route("told-younger", served), good),
        "consumer route": Case(consumer, good),
        "missing Service": Case(
            _route("told-missing", manifests.backend("gone", 1)), {**good, "ResolvedRefs": "False BackendNotFound"}
        ),
        "missing parent": Case(
            manifests.http_route(NAME, "told-orphan", "gone", [{"backendRefs": [served]}]),
            {"Accepted": "False NoMatchingParent"},
        ),
        "unsupported value": Case(
            _route("told-unsupported", {**served, "filters": [redirect]}),
            {**good, "PartiallyInvalid": "True UnsupportedValue"},
        ),
        "conflicting policy": Case(
            manifests.traffic_policy(NAME, "told-conflicting", target("uneven"), timeouts={"request": "1s"}),
            {"Accepted": "False Conflicted"},
        ),
    }


def _route(name: str, backend: Document) -> Document:
    rule = {"matches": [{"path": {"type": "Exact", "value": f"/{name}"}}], "backendRefs": [backend]}
    return manifests.http_route(NAME, name, "catalog", [rule])


def tell(cluster: Cluster, case: Case) -> Told:
    """Applies it and waits for its conditions (a second after the first is there for those that should not come)."""
    one = case.document
    objects.apply(cluster, objects.namespace(ELSEWHERE))
    try:
        objects.apply(cluster, one)
        began = time.monotonic()
        rejected = any(_is_wrong(*named) for named in case.expected.items())
        event = _seconds_until(began, lambda: bool(_events(cluster, one))) if rejected else None
        seconds = _seconds_until(began, lambda: case.expected.items() <= _conditions(cluster, one).items())
        wrong = [said["message"] for said in _found(cluster, one) if _is_wrong(said["type"], said["status"])]
        return Told(_conditions(cluster, one), wrong[0].partition(":")[0] if wrong else "", seconds, event)
    finally:
        objects.delete(cluster, one)


def _is_wrong(condition: str, value: str) -> bool:
    return condition == "PartiallyInvalid" or not value.startswith("True")


def _seconds_until(began: float, holds: Any) -> float:
    """Infinite if it did not within ten seconds: what was told instead is the more interesting failure."""
    while not holds():
        if time.monotonic() - began > 10:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - began


def _conditions(cluster: Cluster, one: Document) -> dict[str, str]:
    return {condition["type"]: f"{condition['status']} {condition['reason']}" for condition in _found(cluster, one)}


def _found(cluster: Cluster, one: Document) -> list[Any]:
    """Those that speak of the object as it is now."""
    value = json.loads(cluster.kubectl(*_named(one), "-o", "json"))
    status, generation = value.get("status", {}), value["metadata"]["generation"]
    entries = status.get("parents", status.get("ancestors", []))
    return [told for entry in entries for told in entry["conditions"] if told["observedGeneration"] == generation]


def _named(one: Document) -> tuple[str, ...]:
    metadata = one["metadata"]
    return "-n", metadata["namespace"], "get", one["kind"].lower(), metadata["name"]


def _events(cluster: Cluster, one: Document) -> list[str]:
    selector = f"--field-selector=involvedObject.kind={one['kind']},involvedObject.name={one['metadata']['name']}"
    where = ("-n", one["metadata"]["namespace"])
    return cluster.kubectl(*where, "get", "events", selector, "-o", "jsonpath={.items[*].message}").split()


# ---- who writes ----


def writes_while_idle(mesh: Mesh, seconds: float) -> Counter[str]:
    """By kind, as the API server counts requests; of Leases those of the agents are known by their namespace's rate."""
    time.sleep(SETTLE_SECONDS)  # numbers of pods that came and went before are written up to ten seconds later
    before = _writes(mesh.cluster)
    time.sleep(seconds)
    return _writes(mesh.cluster) - before


def _writes(cluster: Cluster) -> Counter[str]:
    found: Counter[str] = Counter()
    for labels, value in SERIES.findall(cluster.kubectl("get", "--raw", "/metrics")):
        of = dict(LABEL.findall(labels))
        if of["verb"] not in READS and (of["group"] in OURS or of["resource"] == "events"):
            found[f"{of['resource']}{'/' if of['subresource'] else ''}{of['subresource']}"] += int(float(value))
    return found


# ---- two leaders ----


@dataclass(frozen=True)
class Partition:
    holders: Sequence[str]  # before, meanwhile, after
    meanwhile: dict[str, str]  # conditions of a route that was applied during the partition
    finally_: dict[str, str]  # and after it, of a route that was changed again


def cut_off_the_leader(mesh: Mesh, seconds: float) -> Partition:
    """The wire of the leader's node is down for so long: it cannot renew its Lease, and another takes it."""
    cluster = mesh.cluster
    first = _holder(cluster)
    [node] = [node for node in cluster.nodes if node.name in _node_of(cluster, first)]
    route = _route("told-partition", manifests.backend("catalog-v1", 1))
    cable = ["ip", "link", "set", f"n{node.number}"]
    cluster.control.box.run([*cable, "down"])
    try:
        ended = time.monotonic() + seconds
        until(lambda: _holder(cluster) != first, 60, "another agent has the Lease", 0.5)
        second = _holder(cluster)
        objects.apply(cluster, route)
        until(lambda: bool(_conditions(cluster, route)), 30, "another agent writes")
        time.sleep(max(0.0, ended - time.monotonic()))
        meanwhile = _conditions(cluster, route)
    finally:
        cluster.control.box.run([*cable, "up"])
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{node.name}", "--timeout=60s")
    route["spec"]["rules"][0]["backendRefs"] = [manifests.backend("gone", 1)]
    objects.apply(cluster, route)
    wanted = {"ResolvedRefs": "False BackendNotFound", "Programmed": "True Programmed"}
    until(lambda: wanted.items() <= _conditions(cluster, route).items(), 30, "the final status is right")
    time.sleep(5)  # for whoever would write something else
    found = _conditions(cluster, route)
    objects.delete(cluster, route)
    return Partition([first, second, _holder(cluster)], meanwhile, found)


def _holder(cluster: Cluster) -> str:
    return cluster.kubectl("-n", NAMESPACE, "get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}")


def _node_of(cluster: Cluster, holder: str) -> str:
    """The holder's identity has the pod's name or the node's."""
    pods = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    named = [pod["spec"]["nodeName"] for pod in pods if pod["metadata"]["name"] in holder]
    return named[0] if named else holder
