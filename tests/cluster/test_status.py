"""What kubectl shows of nodes and pods: the MeshNode of an agent that lives, of one that cannot, Events of pods."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import paths, workloads
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.testbed.shell import CommandError

WHOLE = paths.HERE / "manifests" / "whole"
ENABLED = "mesh.nodeagent.dev/dataplane=enabled"
SLOW = 3  # times what it takes on a quiet machine


@pytest.fixture(scope="module")
def agents(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[None]:
    assert agent_images_loaded
    cluster.kubectl("apply", "-k", str(WHOLE))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=120s")
    yield
    cluster.kubectl("delete", "-k", str(WHOLE), "--timeout=90s")


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds * SLOW
    while not holds():
        assert time.monotonic() < end, f"not within {seconds * SLOW:.0f} s: {what}"
        time.sleep(0.2)


def conditions(cluster: Cluster, node: Node) -> dict[str, Any]:
    """Of its MeshNode, by type."""
    found = json.loads(cluster.kubectl("get", "meshnode", node.name, "-o", "json"))
    return {one["type"]: one for one in found["status"]["conditions"]}


def is_ready(cluster: Cluster, node: Node) -> bool:
    return bool(conditions(cluster, node)["Ready"]["status"] == "True")


def rows(cluster: Cluster) -> list[dict[str, str]]:
    header, *lines = cluster.kubectl("get", "meshnodes", "-o", "wide").splitlines()
    return [dict(zip(header.split(), line.split(), strict=True)) for line in lines]


def events(cluster: Cluster, namespace: str, pod: str, reason: str) -> list[dict[str, Any]]:
    selector = f"--field-selector=involvedObject.kind=Pod,involvedObject.name={pod},reason={reason}"
    found: list[dict[str, Any]] = json.loads(
        cluster.kubectl("-n", namespace, "get", "events", selector, "-o", "json")
    )["items"]
    return found


@pytest.mark.usefixtures("agents")
def test_get_meshnodes_has_a_line_for_each_node_with_every_column_filled(cluster: Cluster) -> None:
    for node in cluster.nodes:
        until(functools.partial(is_ready, cluster, node), 20, f"{node.name} is Ready")
    until(lambda: all(int(row["WORKERS"]) > 0 for row in rows(cluster)), 15, "workers are counted")
    found = rows(cluster)
    assert " ".join(found[0]) == "NAME NODE READY MODE KERNEL VERSION SYNC PODS FAILED WORKERS AGE"  # NAME: kubectl's
    assert [row["NODE"] for row in found] == [node.name for node in cluster.nodes]
    for row in found:
        assert (row["READY"], row["MODE"], row["SYNC"], row["PODS"]) == ("True", "Enforcing", "Synced", "0")


@pytest.mark.usefixtures("agents")
def test_a_killed_agent_is_not_said_to_be_ready_and_says_so_itself_when_it_is(cluster: Cluster) -> None:
    """Killed again and again, as one that crashes: the kubelet waits longer each time until it starts it."""
    node = cluster.nodes[1]
    until(lambda: is_ready(cluster, node), 20, "it is Ready")

    def silent() -> bool:
        kill(node)
        return bool(conditions(cluster, node)["Ready"]["status"] == "Unknown")

    until(silent, 60, "its MeshNode says that nothing is known of it")
    said = conditions(cluster, node)
    assert (said["Ready"]["reason"], said["ConfigSynced"]["status"]) == ("AgentSilent", "Unknown")
    assert "its pod nodeagent-" in said["Ready"]["message"]
    assert is_ready(cluster, cluster.nodes[0])
    on_it = f"--field-selector=spec.nodeName={node.name}"
    cluster.kubectl("-n", "nodeagent", "delete", "pod", on_it)  # another is not waited with
    until(lambda: is_ready(cluster, node), 30, "it is Ready again")


def kill(node: Node) -> None:
    try:
        node.box.run(["pkill", "-KILL", "-f", "nodeagent run --source=kubernetes"])
    except CommandError:
        return  # it is not there just now


@pytest.mark.usefixtures("agents")
def test_a_pod_on_the_nodes_network_that_asks_for_the_mesh_has_an_event(cluster: Cluster, namespace: str) -> None:
    pod = workloads.client("host", cluster.nodes[0].name)
    pod["metadata"]["labels"]["mesh.nodeagent.dev/dataplane"] = "enabled"
    pod["spec"]["hostNetwork"] = True
    workloads.apply(cluster, namespace, pod)
    until(lambda: bool(events(cluster, namespace, "host", "HostNetwork")), 10, "the pod has an Event")
    [event] = events(cluster, namespace, "host", "HostNetwork")
    assert (event["type"], event["count"], event["source"]["host"]) == ("Warning", 1, cluster.nodes[0].name)
    assert "Take hostNetwork away" in event["message"]


@pytest.mark.usefixtures("agents")
def test_a_pod_whose_network_namespace_is_another_pods_is_refused_with_an_event(
    cluster: Cluster, namespace: str
) -> None:
    """It waits for a ConfigMap that never comes, so that the only process in its cgroup is ours, in the other's."""
    node = cluster.nodes[0]
    cluster.kubectl("label", "namespace", namespace, ENABLED)
    workloads.apply(cluster, namespace, workloads.client("owner", node.name))
    mount = {"name": "none", "mountPath": "/none"}  # what no container mounts is not waited for
    twin = workloads.pod("twin", node.name, ["sleep", "infinity"], volumeMounts=[mount])
    twin["spec"]["volumes"] = [{"name": "none", "configMap": {"name": "none"}}]
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(twin))
    owner_uid, twin_uid = uid(cluster, namespace, "owner"), uid(cluster, namespace, "twin")
    node.box.start("twin", ["sh", "-c", PRETEND, "pretend", owner_uid, twin_uid, "f" * 64])
    try:
        until(lambda: bool(events(cluster, namespace, "twin", "NotEnrolled")), 15, "the pod has an Event")
        [event] = events(cluster, namespace, "twin", "NotEnrolled")
        assert f"already belongs to the pod with UID {owner_uid}" in event["message"]
        assert "delete the pod, and see the log of the agent on node node1" in event["message"]
        assert not events(cluster, namespace, "owner", "NotEnrolled")
        time.sleep(5)
        assert [one["count"] for one in events(cluster, namespace, "twin", "NotEnrolled")] == [1]
    finally:
        node.box.run(["pkill", "-KILL", "-f", "sleep 4321"])


# By uid of the owner, uid of the pod, and id of a container.
PRETEND = """
set -e
pods=/sys/fs/cgroup/unified/kubepods/besteffort
pid=$(cat $pods/pod$1/*/cgroup.procs | head -n 1)
mkdir -p $pods/pod$2/$3
echo $$ > $pods/pod$2/$3/cgroup.procs
exec nsenter --net=/proc/$pid/ns/net sleep 4321
"""


def uid(cluster: Cluster, namespace: str, pod: str) -> str:
    return cluster.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
