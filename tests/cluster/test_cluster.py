"""The cluster itself: two nodes, pods that reach each other, and nothing left when it is gone."""

from __future__ import annotations

import json
import os
import re

from tests import leftovers
from tests.cluster import workloads
from tests.cluster.cluster import Cluster, of_this_process

# Curl tries again: kube-proxy learns of an endpoint a moment after the pod is Ready.
CURL = ("curl", "-sS", "--fail", "--max-time", "5", "--retry", "5", "--retry-connrefused", "--retry-delay", "1")
# An HTTP/0.9 server, nearly: whoever connects is told the address that the connection comes from.
TELLS_ITS_CALLER = """
import socket
server = socket.create_server(("", 8080))
while True:
    connection, caller = server.accept()
    connection.recv(1000)
    connection.sendall(caller[0].encode())
    connection.close()
"""


def test_two_nodes_are_ready_within_thirty_seconds(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    ready = {
        node["metadata"]["name"]: condition["status"]
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    print("\n" + ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in cluster.times.items()))
    assert ready == {"node1": "True", "node2": "True"}
    assert cluster.times["nodes Ready"] <= 30


def test_a_pod_reaches_the_pods_of_both_nodes_by_service_name(cluster: Cluster, namespace: str) -> None:
    for number in (1, 2):
        node = f"node{number}"
        workloads.apply(cluster, namespace, workloads.server(f"web{number}", node), workloads.service(f"web{number}"))
        workloads.apply(cluster, namespace, workloads.client(f"client{number}", node))
    for client in ("client1", "client2"):
        for web in ("web1", "web2"):
            for host in (web, f"{web}.{namespace}.svc.cluster.local"):
                assert workloads.run(cluster, namespace, client, *CURL, f"http://{host}/") == web


def test_pods_keep_their_own_address_on_the_way_to_another_node(cluster: Cluster, namespace: str) -> None:
    target = workloads.pod("target", "node2", ["python3", "-c", TELLS_ITS_CALLER])
    workloads.apply(cluster, namespace, target, workloads.client("client", "node1"))
    addresses = {name: _address(cluster, namespace, name) for name in ("target", "client")}
    told = workloads.run(cluster, namespace, "client", *CURL, "--http0.9", f"http://{addresses['target']}:8080/")
    assert told == addresses["client"]


def test_an_api_server_that_was_away_has_lost_nothing(cluster: Cluster, namespace: str) -> None:
    workloads.apply(cluster, namespace, workloads.client("before", "node1"))
    cluster.control.box.stop("kube-apiserver")
    assert not cluster.control.answers()
    cluster.control.start_apiserver()
    assert "before" in cluster.kubectl("-n", namespace, "get", "pods", "-o", "name")


def test_a_cluster_that_was_taken_down_leaves_nothing() -> None:
    session = os.environ[leftovers.SESSION_VARIABLE]
    before = leftovers.snapshot(session)
    other = of_this_process()
    try:
        other.up(1)
        workloads.apply(other, "default", workloads.server("web", "node1"), workloads.service("web"))
        there = leftovers.wait_until_clean(before, session, seconds=0)
    finally:
        other.down()
    kinds = {line.split()[0] for line in there if other.tag in line}
    assert kinds >= {"netns", "cgroup", "process"}, "the snapshot would not see what a cluster leaves"
    assert not [line for line in leftovers.wait_until_clean(before, session) if not _of_others(line, other.tag)]
    assert not other.directory.exists()


def _of_others(line: str, tag: str) -> bool:
    """Whether this belongs to a test bed, a cluster or an image build beside this test, as happens to developers."""
    return tag not in line and re.search(r"/(nat|nab|nac\w*)-|mmdebstrap|^bpf", line) is not None


def _address(cluster: Cluster, namespace: str, pod: str) -> str:
    return cluster.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
