"""Whose MeshNode says Ready although nobody is there to say it."""

from __future__ import annotations

from typing import Any

from nodeagent.status.mesh_node import ENFORCING, NodeFacts, planned
from nodeagent.status.silence import GRACE, AgentPod, Silence, agent_pod

Value = dict[str, Any]


def mesh_node(problem: str = "", version: str = "7") -> Value:
    status = planned(NodeFacts(ENFORCING, "6.18", "0.1.0", problem=problem), None, "t0")
    return {"metadata": {"name": "n1", "resourceVersion": version}, "status": status}


def pod(node: str = "n1", *, ready: bool) -> AgentPod:
    return AgentPod(f"agent-{node}", node, ready)


def of_one_node(value: Value | None = None) -> Silence:
    """n1, whose agent is Ready and wrote at 0 s."""
    made = Silence()
    made.pod("agent-n1", pod(ready=True), 0.0)
    made.node("n1", value or mesh_node(), 0.0)
    return made


def test_an_agent_is_silent_once_its_pod_is_not_ready_for_a_while() -> None:
    made = of_one_node()
    assert (made.due(1000.0), made.next(1000.0)) == ([], None)
    made.pod("agent-n1", pod(ready=False), 1000.0)
    assert (made.due(1000.0), made.next(1004.0)) == ([], GRACE - 4.0)
    assert made.due(1000.0 + GRACE) == ["n1"]


def test_an_agent_that_writes_is_not_silent_whatever_its_pod() -> None:
    """It was just started, and the kubelet asks it only every few seconds."""
    made = of_one_node()
    made.pod("agent-n1", pod(ready=False), 10.0)
    made.node("n1", mesh_node(version="8"), 19.0)
    assert made.due(19.0 + GRACE - 0.1) == []
    assert made.due(19.0 + GRACE) == ["n1"]


def test_a_node_whose_pod_is_gone_is_silent_too_and_another_pod_speaks_for_it() -> None:
    made = of_one_node()
    made.pod("other", pod("n2", ready=True), 0.0)
    made.pod("agent-n1", None, 5.0)
    assert made.due(5.0 + GRACE) == ["n1"]
    assert "there is no pod of it on this node" in made.patch("n1", "t1")["status"]["conditions"][0]["message"]
    made.pod("agent-n1-again", AgentPod("agent-n1-again", "n1", ready=True), 6.0)
    assert made.due(100.0) == []


def test_a_node_that_says_itself_that_it_is_not_ready_needs_nobody_to_say_so() -> None:
    made = of_one_node(mesh_node("the agent was stopped"))
    made.pod("agent-n1", pod(ready=False), 0.0)
    assert (made.due(1000.0), made.next(1000.0)) == ([], None)


def test_where_no_agent_is_a_pod_nobody_is_said_to_be_silent() -> None:
    made = Silence()
    made.node("n1", mesh_node(), 0.0)
    assert made.due(1000.0) == []


def test_a_writer_that_has_just_been_elected_waits_as_long_as_any() -> None:
    made = Silence()
    made.pod("agent-n1", pod(ready=False), 500.0)
    made.node("n1", mesh_node(), 500.0)
    assert made.due(500.0 + GRACE - 0.1) == []
    assert made.due(500.0 + GRACE) == ["n1"]


def test_only_what_the_agent_vouches_for_becomes_unknown_and_what_it_said_last_stays() -> None:
    made = of_one_node()
    made.pod("agent-n1", pod(ready=False), 0.0)
    patch = made.patch("n1", "t1")
    assert patch["metadata"] == {"resourceVersion": "7"}
    assert patch["status"].keys() == {"conditions"}
    said = {one["type"]: one for one in patch["status"]["conditions"]}
    assert {name: (one["status"], one["reason"]) for name, one in said.items()} == {
        "Ready": ("Unknown", "AgentSilent"),
        "BPFLoaded": ("True", "Enforcing"),
        "ConfigSynced": ("Unknown", "Unknown"),
    }
    assert said["Ready"]["lastTransitionTime"] == "t1"
    assert "its pod agent-n1 is not Ready" in said["Ready"]["message"]
    made.node("n1", {"metadata": {"resourceVersion": "8"}, "status": {**mesh_node()["status"], **patch["status"]}}, 1.0)
    assert made.due(1000.0) == []


def test_nodes_and_pods_that_are_not_listed_any_more_are_forgotten() -> None:
    made = of_one_node()
    made.pod("agent-n2", pod("n2", ready=False), 0.0)
    made.pods({"agent-n2"}, 10.0)
    assert (made.expected, made.due(10.0 + GRACE)) == (frozenset({"n2"}), ["n1"])
    made.nodes(set())
    assert made.due(1000.0) == []


def test_only_pods_of_the_agents_daemonset_on_a_node_count() -> None:
    owner = {"kind": "DaemonSet", "name": "nodeagent"}
    value: Value = {"metadata": {"name": "p", "ownerReferences": [owner]}, "spec": {"nodeName": "n1"}}
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert agent_pod(value, "nodeagent") == AgentPod("p", "n1", ready=False)
    assert agent_pod({**value, **ready}, "nodeagent") == AgentPod("p", "n1", ready=True)
    assert agent_pod({**value, "spec": {}}, "nodeagent") is None
    assert agent_pod(value, "other") is None
    assert agent_pod({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}}, "nodeagent") is None
