"""Which pods are this node's: those that name a namespace, and those that the API server says run here."""

from __future__ import annotations

from nodeagent.config.groundwork import lay
from nodeagent.config.locality import Locality
from nodeagent.core.model import Workload
from tests.config import builders as some
from tests.testbed.manifests import Document

HERE = Locality("n1", "")


def kubernetes_pod(name: str, node: str, *, host_network: bool = False) -> Document:
    """As an API server has it: no annotation says where its namespace is."""
    document = some.pod("shop", name, some.WEB)
    document["metadata"]["annotations"] = {}
    document["metadata"]["uid"] = f"uid-of-{name}"
    document["spec"] |= {"nodeName": node, "hostNetwork": host_network}
    return document


def workload(document: Document, here: Locality = HERE) -> Workload:
    return lay(some.objects(document), here=here).pods["shop/web"]


def test_a_pod_of_this_node_is_found_by_its_uid() -> None:
    found = workload(kubernetes_pod("web", "n1"))
    assert (found.uid, found.netns, found.is_here) == ("uid-of-web", None, True)


def test_a_pod_of_another_node_is_not_looked_for() -> None:
    found = workload(kubernetes_pod("web", "n2"))
    assert (found.uid, found.is_here) == ("", False)


def test_without_a_name_of_this_node_no_pod_is_looked_for() -> None:
    assert not workload(kubernetes_pod("web", ""), Locality()).is_here


def test_a_pod_that_was_bound_to_this_node_later_is_looked_for_then() -> None:
    before = lay(some.objects(kubernetes_pod("web", "")), here=HERE)
    after = lay(some.objects(kubernetes_pod("web", "n1")), before, HERE)
    assert [ground.pods["shop/web"].is_here for ground in (before, after)] == [False, True]


def test_a_pod_in_the_nodes_own_namespace_is_known_as_such() -> None:
    found = workload(kubernetes_pod("web", "n1", host_network=True))
    assert (found.host_network, found.enrolled) == (True, False)
