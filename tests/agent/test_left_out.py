"""Pods that ask for the mesh and are not in it are told so, once."""

from __future__ import annotations

import pytest

from nodeagent.agent.left_out import LASTING, LeftOut
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import NamespaceObject, PodObject
from nodeagent.status.occurrences import NORMAL, WARNING, Regarding

LABEL = "mesh.nodeagent.dev/dataplane"


def pod(name: str, *, label: str = "", host: bool = False, node: str = "n1", uid: str = "") -> PodObject:
    uid = uid or (f"uid-{name}" if node == "n1" else "")
    return PodObject("shop", name, "default", "", ("10.0.0.1",), label, "", node, host, uid)


def objects(*pods: PodObject, enrolled: bool = True) -> ObjectSet:
    labels = {LABEL: "enabled"} if enrolled else {}
    return ObjectSet({"shop": NamespaceObject("shop", labels=labels)}, {f"shop/{one.name}": one for one in pods})


def test_a_refused_pod_is_told_once_with_what_happened_and_what_to_do() -> None:
    left_out, there, why = LeftOut("n1"), objects(pod("web")), {"shop/web": "its namespace is another pod's"}
    assert left_out.news(there, why, 0.0) == []
    [one] = left_out.news(there, why, LASTING)
    assert one.regarding == Regarding("v1", "Pod", "shop", "web", "uid-web")
    assert (one.type, one.reason) == (WARNING, "NotEnrolled")
    assert one.note.startswith("not in the mesh: its namespace is another pod's. ")
    assert "no policy applies" in one.note
    assert "delete the pod, and see the log of the agent on node n1" in one.note
    assert [left_out.news(there, why, now) for now in (4.0, 1000.0)] == [[], []]


def test_a_problem_that_is_soon_over_is_no_news() -> None:
    left_out, there, why = LeftOut("n1"), objects(pod("web")), {"shop/web": "it is looked for again"}
    assert left_out.news(there, why, 0.0) == []
    assert left_out.news(there, {}, 2.0) == []
    assert left_out.news(there, why, LASTING) == []  # it began anew


def test_another_reason_and_another_pod_of_the_same_name_are_news() -> None:
    left_out, there = LeftOut("n1"), objects(pod("web"))
    left_out.news(there, {"shop/web": "a"}, 0.0)
    assert len(left_out.news(there, {"shop/web": "a"}, 10.0)) == 1
    assert len(left_out.news(there, {"shop/web": "b"}, 11.0)) == 1
    again = objects(pod("web", uid="uid-2"))
    assert left_out.news(again, {"shop/web": "b"}, 12.0) == []
    assert len(left_out.news(again, {"shop/web": "b"}, 12.0 + LASTING)) == 1


@pytest.mark.parametrize(
    ("label", "enrolled", "expected"),
    [("", True, [NORMAL]), ("enabled", False, [WARNING]), ("disabled", True, []), ("", False, [])],
)
def test_a_pod_on_the_nodes_network_is_told_when_it_asks_for_the_mesh(
    label: str, enrolled: bool, expected: list[str]
) -> None:
    """A warning if the pod itself does, not where its whole namespace is in the mesh."""
    left_out, there = LeftOut("n1"), objects(pod("web", label=label, host=True), enrolled=enrolled)
    left_out.news(there, {}, 0.0)
    found = left_out.news(there, {}, LASTING)
    assert [one.type for one in found] == expected
    assert all(one.reason == "HostNetwork" and "Take hostNetwork away" in one.note for one in found)
    assert len(left_out.host_network(there)) == len(expected)


def test_pods_of_other_nodes_are_their_agents_to_tell() -> None:
    left_out = LeftOut("n1")
    there = objects(pod("web", host=True, node="n2"), pod("cart", node="n2"))
    left_out.news(there, {"shop/cart": "a", "shop/gone": "b"}, 0.0)
    assert left_out.news(there, {"shop/cart": "a", "shop/gone": "b"}, 10.0) == []
