"""The agent as users install it: the image of the project's Dockerfile, by kubectl apply -k."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nodeagent
from tests.cluster import paths
from tests.cluster.cluster import Cluster

MANIFESTS = paths.HERE / "manifests" / "agent"


@pytest.fixture
def installed(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[list[str]]:
    """The names of the agent's pods, one on each node, Ready."""
    assert {name.partition(":")[2] for name in agent_images_loaded} == {"test"}, "manifests/agent names these images"
    cluster.kubectl("delete", "-k", str(MANIFESTS), "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    yield cluster.kubectl("-n", "nodeagent", "get", "pods", "-o", "name").split()
    cluster.kubectl("delete", "-k", str(MANIFESTS), "--timeout=60s")
    for node in cluster.nodes:  # --keep-attached leaves these for the next agent; the cluster may go on without one
        node.box.run(["rm", "-rf", "/sys/fs/bpf/nodeagent", "/var/lib/nodeagent"])


def test_the_agent_runs_on_both_nodes_and_its_command_line_answers_in_the_pod(
    cluster: Cluster, installed: list[str]
) -> None:
    assert len(installed) == 2
    for pod in ["ds/nodeagent", *installed]:
        version = cluster.kubectl("-n", "nodeagent", "exec", pod, "--", "nodeagent", "version")
        assert version.startswith(f"nodeagent {nodeagent.__version__} ")


def test_an_agent_whose_hook_was_detached_is_not_ready_and_says_why(cluster: Cluster, installed: list[str]) -> None:
    """The pod is ready before: hooks redirect the canary in a container, too."""
    node = cluster.nodes[0]
    mine = ("-n", "nodeagent", "get", "pods", "--field-selector", f"spec.nodeName={node.name}", "-o")
    pod, address = cluster.kubectl(*mine, "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}").split()
    ask = ["curl", "-sS", "-m", "5", f"http://{address}:15020"]
    assert cluster.control.box.run([*ask[:-1], f"{ask[-1]}/readyz"]) == "ok\n"
    node.box.run(["sh", "-c", "bpftool link detach pinned /sys/fs/bpf/nodeagent/v*/links/connect4"])
    cluster.kubectl("-n", "nodeagent", "wait", f"pod/{pod}", "--for=condition=Ready=false", "--timeout=30s")
    assert "the connect hooks are not attached" in cluster.control.box.run([*ask[:-1], f"{ask[-1]}/readyz"])


def test_each_agent_is_attached_at_the_cgroup_root_of_its_own_node(cluster: Cluster, installed: list[str]) -> None:
    for pod in installed:
        assert "hooks     attached" in cluster.kubectl("-n", "nodeagent", "exec", pod, "--", "nodeagent", "status")
    for node in cluster.nodes:
        attached = node.box.run(["bpftool", "cgroup", "show", "/sys/fs/cgroup/unified"])
        assert attached.count("na_connect4") == 1, "two agents share this node's root, or none is there"
