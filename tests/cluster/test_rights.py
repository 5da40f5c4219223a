"""What an agent may: its own node's things and no other's, by a token as the kubelet gives it one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nodeagent.core.own_taint import TAINT
from tests.cluster import paths
from tests.cluster.cluster import Cluster
from tests.testbed.shell import CommandError

AGENT = paths.HERE / "manifests" / "agent"
MESHNODES = "/apis/mesh.nodeagent.dev/v1alpha1/meshnodes"
FOREIGN = "elsewhere"


@pytest.fixture(scope="module")
def agents(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[dict[str, Any]]:
    """An agent's pod on each node, and a Node and a MeshNode that belong to none of them."""
    assert agent_images_loaded
    cluster.kubectl("apply", "--server-side", "-k", str(paths.REPOSITORY / "daemonset" / "crds"))
    cluster.kubectl("apply", "-k", str(AGENT))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    for kind, version in (("Node", "v1"), ("MeshNode", "mesh.nodeagent.dev/v1alpha1")):
        made = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": FOREIGN}})
        cluster.kubectl("apply", "-f", "-", stdin=made)
    pods = json.loads(cluster.kubectl("-n", "nodeagent", "get", "pods", "-o", "json"))["items"]
    yield next(pod for pod in pods if pod["spec"]["nodeName"] == cluster.nodes[0].name)
    cluster.kubectl("delete", f"node/{FOREIGN}", f"meshnode/{FOREIGN}")
    cluster.kubectl("delete", "-k", str(AGENT), "--timeout=60s")


class Token:
    """Asks the API server with curl, as the agent of the first node."""

    def __init__(self, cluster: Cluster, pod: dict[str, Any]) -> None:
        self._cluster = cluster
        metadata = pod["metadata"]
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={metadata['name']}"]
        made = ["create", "token", "nodeagent", *bound, f"--bound-object-uid={metadata['uid']}"]
        self._token = cluster.kubectl("-n", "nodeagent", *made).strip()
        config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
        self._server = config["clusters"][0]["cluster"]["server"]

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and text."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        argv = ["curl", "-sk", "-X", method, "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {self._token}"]
        argv += ["-H", f"Content-Type: {kind}", "-d", json.dumps(body)] if body is not None else []
        text, _, status = self._cluster.control.box.run([*argv, self._server + path]).rpartition("\n")
        return int(status), text


@pytest.fixture(scope="module")
def token(cluster: Cluster, agents: dict[str, Any]) -> Token:
    return Token(cluster, agents)


def meshnode(name: str) -> dict[str, Any]:
    return {"apiVersion": "mesh.nodeagent.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name}}


def test_an_agent_writes_its_own_meshnode_and_no_other(cluster: Cluster, token: Token) -> None:
    own, status = cluster.nodes[0].name, {"status": {"kernel": "6.1"}}
    assert token.ask("POST", MESHNODES, meshnode(own))[0] in (201, 409)
    assert token.ask("PATCH", f"{MESHNODES}/{own}/status", status)[0] == 200
    for code, text in (
        token.ask("POST", MESHNODES, meshnode("invented")),
        token.ask("PATCH", f"{MESHNODES}/{FOREIGN}/status", status),
        token.ask("PATCH", f"{MESHNODES}/{FOREIGN}", {"metadata": {"labels": {"a": "b"}}}),
    ):
        assert code in (403, 422), text
        assert f"an agent on node {own} may write the MeshNode of that name only" in text


def test_of_another_node_an_agent_may_say_only_that_it_is_not_known_how_it_is(cluster: Cluster, token: Token) -> None:
    """The writer of statuses does, when an agent does not answer."""
    when = {"lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
    told = [
        {"type": "Ready", "status": "True", "reason": "Ready", **when},
        {"type": "BPFLoaded", "status": "True", "reason": "Enforcing", **when},
        {"type": "ConfigSynced", "status": "True", "reason": "Synced", **when},
    ]
    status = {"mode": "Enforcing", "kernel": "6.1", "agentVersion": "1", "conditions": told}
    as_admin = ("patch", "meshnode", FOREIGN, "--subresource=status", "--type=merge", "-p")
    cluster.kubectl(*as_admin, json.dumps({"status": status}))
    ready, loaded, synced = told
    silent = {**ready, "status": "Unknown", "reason": "AgentSilent"}
    path = f"{MESHNODES}/{FOREIGN}/status"
    for refused in (
        {"conditions": [{**ready, "status": "False"}, loaded, synced]},
        {"conditions": [silent, {**loaded, "status": "Unknown"}, synced]},
        {"conditions": [silent, loaded]},
        {"conditions": [silent, loaded, synced], "mode": "Detached"},
        {"conditions": [silent, loaded, synced], "inForce": [{"kind": "HTTPRoute", "objects": 1, "digest": "0" * 32}]},
    ):
        code, text = token.ask("PATCH", path, {"status": refused})
        assert code in (403, 422), f"{refused}: {text}"
    code, text = token.ask("PATCH", path, {"status": {"conditions": [silent, loaded, {**synced, "status": "Unknown"}]}})
    assert code == 200, text
    code, text = token.ask("PATCH", path, {"status": {"conditions": told}})
    assert code in (403, 422), text


def test_an_agent_takes_away_its_taint_and_changes_nothing_else_of_a_node(cluster: Cluster, token: Token) -> None:
    own = cluster.nodes[0].name
    for node in (own, FOREIGN):
        cluster.kubectl("taint", "node", node, f"{TAINT}=:NoSchedule", "other=x:PreferNoSchedule", "--overwrite")
    other = [{"key": "other", "value": "x", "effect": "PreferNoSchedule"}]
    try:
        refused = {
            "no other": {"spec": {"taints": None}},
            "nothing of a Node": {"metadata": {"labels": {"a": "b"}}},
            "nothing of a Node but": {"spec": {"unschedulable": True}},
        }
        for words, patch in refused.items():
            code, text = token.ask("PATCH", f"/api/v1/nodes/{own}", patch)
            assert (code in (403, 422), re.search(words, text) is not None) == (True, True), text
        code, text = token.ask("PATCH", f"/api/v1/nodes/{FOREIGN}", {"spec": {"taints": other}})
        assert code in (403, 422), text
        assert token.ask("PATCH", f"/api/v1/nodes/{own}", {"spec": {"taints": other}})[0] == 200
    finally:
        cluster.kubectl("taint", "node", own, "other-")


@pytest.mark.parametrize(
    ("verb", "resource", "namespace"),
    [
        ("get", "secrets", "nodeagent"),
        ("list", "secrets", "-A"),
        ("list", "configmaps", "-A"),
        ("delete", "pods", "-A"),
        ("create", "pods", "nodeagent"),
        ("create", "pods/exec", "nodeagent"),
        ("update", "nodes", "-A"),
        ("create", "leases.coordination.k8s.io", "default"),
        ("patch", "daemonsets.apps", "nodeagent"),
        ("create", "serviceaccounts/token", "nodeagent"),
    ],
)
def test_an_agent_may_not(cluster: Cluster, token: Token, verb: str, resource: str, namespace: str) -> None:
    assert token
    where = ["-A"] if namespace == "-A" else ["-n", namespace]
    who = "--as=system:serviceaccount:nodeagent:nodeagent"
    with pytest.raises(CommandError, match="no"):
        cluster.kubectl("auth", "can-i", verb, resource, *where, who)


def test_the_agents_image_has_no_compiler(cluster: Cluster, agents: dict[str, Any]) -> None:
    inside = ["-n", "nodeagent", "exec", agents["metadata"]["name"], "-c", "agent", "--"]
    with pytest.raises(CommandError, match="No module named 'bcc'"):
        cluster.kubectl(*inside, "python3", "-c", "import bcc")
    assert "libLLVM" not in cluster.kubectl(*inside, "sh", "-c", "ls -R /usr/lib")


def test_the_taint_of_a_node_is_taken_away_by_its_agent(cluster: Cluster, agents: dict[str, Any]) -> None:
    """At its start: once it is ready."""
    own = agents["spec"]["nodeName"]
    cluster.kubectl("taint", "node", own, f"{TAINT}=:NoExecute", "--overwrite")
    cluster.kubectl("-n", "nodeagent", "delete", "pod", "--all", "--wait=true")
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    end = time.monotonic() + 20
    while TAINT in cluster.kubectl("get", "node", own, "-o", "jsonpath={.spec.taints}"):
        assert time.monotonic() < end, "the agent left its taint"
        time.sleep(0.1)


def test_doctor_in_the_pod_finds_the_cluster_in_order(cluster: Cluster, agents: dict[str, Any]) -> None:
    said = cluster.kubectl("-n", "nodeagent", "exec", "ds/nodeagent", "--", "nodeagent", "doctor", "-o", "json")
    checks = {one["check"]: one for one in json.loads(said)["checks"] if one["category"] == "cluster"}
    assert {name: one["level"] for name, one in checks.items() if name != "Gateway API"} == {
        "CRDs": "success",
        "rights": "success",
        "taint": "success",
        "clock": "success",
    }
