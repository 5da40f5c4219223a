"""What an agent says of its node."""

from __future__ import annotations

from dataclasses import replace

from nodeagent.status.mesh_node import (
    BYPASSED,
    DETACHED,
    ENFORCING,
    PENDING,
    Counted,
    InForce,
    NodeFacts,
    digests_of,
    mesh_node,
    planned,
)

FACTS = NodeFacts(
    ENFORCING,
    "6.18.44",
    "0.1.0",
    in_force={"HTTPRoute": InForce(2, "ab"), "Aaa": InForce(0, "00")},
    layout=4,
    counted=Counted(3, 1, 2, 1, 2),
)


def said(status: dict[str, object]) -> dict[str, tuple[str, str, str]]:
    conditions = status["conditions"]
    assert isinstance(conditions, list)
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in conditions}


def test_a_node_that_works_says_so() -> None:
    status = planned(FACTS, None, "t0")
    assert status is not None
    assert (status["mode"], status["kernel"], status["agentVersion"]) == ("Enforcing", "6.18.44", "0.1.0")
    assert status["pods"] == {"enrolled": 3, "failed": 1, "hostNetwork": 2}
    assert (status["workers"], status["layoutVersion"]) == ({"ready": 1, "wanted": 2}, 4)
    assert said(status) == {
        "Ready": ("True", "Ready", ""),
        "BPFLoaded": ("True", "Enforcing", ""),
        "ConfigSynced": ("True", "Synced", ""),
    }
    assert digests_of(status) == {"Aaa": "00", "HTTPRoute": "ab"}


def test_nothing_is_written_while_nothing_changes() -> None:
    status = planned(FACTS, None, "t0")
    assert planned(FACTS, status, "t1") is None
    assert planned(FACTS, {**(status or {}), "drops": 3}, "t1") is None  # a field of another version


def test_the_time_of_a_condition_is_that_of_its_change() -> None:
    before = planned(FACTS, None, "t0")
    after = planned(replace(FACTS, problem="no worker is ready"), before, "t1")
    assert after is not None
    assert [one["lastTransitionTime"] for one in after["conditions"]] == ["t1", "t0", "t0"]
    assert said(after)["Ready"] == ("False", "NotReady", "no worker is ready")


def test_what_is_in_force_is_written_when_it_changes() -> None:
    before = planned(FACTS, None, "t0")
    after = planned(replace(FACTS, in_force={"HTTPRoute": InForce(3, "cd")}), before, "t1")
    assert digests_of(after) == {"HTTPRoute": "cd"}


def test_bypass_is_attached_and_detached_is_not() -> None:
    for mode, attached in ((BYPASSED, "True"), (DETACHED, "False")):
        status = planned(replace(FACTS, mode=mode), None, "t")
        assert status is not None
        assert said(status)["BPFLoaded"][0] == attached


def test_a_configuration_that_could_not_be_put_in_force_is_told() -> None:
    status = planned(replace(FACTS, sync=PENDING, sync_problem="the map is full"), None, "t")
    assert status is not None
    assert said(status)["ConfigSynced"] == ("False", "Pending", "the map is full")


def test_a_mesh_node_goes_with_its_node() -> None:
    assert mesh_node("n1", "u1")["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}
    ]
    assert mesh_node("n1", "")["metadata"] == {"name": "n1"}


def test_a_status_of_nobody_has_no_digests() -> None:
    assert digests_of(None) == {}
