"""The other addresses of a Service: policies hold there, and kube-proxy leads on."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.core.authorization import network_verdict
from nodeagent.core.model import NODES, Destination, Rung, Snapshot
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

EXTERNAL, BALANCER, NODE, GATEWAY = "198.51.100.7", "198.51.100.8", "203.0.113.4", "198.18.0.1"
NODE_PORT = 30080
DOORS = ((EXTERNAL, 80), (BALANCER, 80), (NODE, NODE_PORT), (GATEWAY, NODE_PORT))
NO_JOBS: Document = {"sources": [{"serviceAccount": {"namespace": "batch", "name": "job"}}]}


def node(name: str = "n1", *addresses: str, cidr: str = "") -> Document:
    listed = [{"type": "InternalIP", "address": one} for one in addresses] + [{"type": "Hostname", "address": name}]
    spec = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec, "status": {"addresses": listed}
    }  # fmt: skip


NODE_HERE = node("n1", NODE, cidr="198.18.0.0/24")


def exposed(name: str = "cart", vip: str = some.VIP, **spec: Any) -> list[Document]:
    """A Service with every kind of address."""
    found = some.service(name, vip)
    found[0]["spec"] |= {"type": "LoadBalancer", "externalIPs": [EXTERNAL], **spec}
    found[0]["spec"]["ports"][0]["nodePort"] = NODE_PORT
    found[0]["status"] = {"loadBalancer": {"ingress": [{"ip": BALANCER}, {"hostname": "lb.example"}]}}
    return found


def at(snapshot: Snapshot, target: tuple[str, int]) -> Destination:
    found = snapshot.destination(*target)
    assert found is not None, f"nothing is known of {target}"
    return found


@pytest.mark.parametrize("target", DOORS)
def test_a_policy_holds_at_every_address_of_its_service(target: tuple[str, int]) -> None:
    deny = some.policy("no-jobs", "DENY", [NO_JOBS], level="Network")
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed(), deny)
    door = at(found, target)
    assert network_verdict(door, found.workloads["batch/job"]).denied
    assert not network_verdict(door, found.workloads["shop/web"]).denied


@pytest.mark.parametrize("target", DOORS)
def test_requests_are_read_at_every_address_where_a_policy_needs_it_and_go_where_they_were_dialled(
    target: tuple[str, int],
) -> None:
    deny = some.policy("read-only", "DENY", [{"http": {"methods": ["DELETE"]}}])
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed(), deny)
    assert at(found, target).rung is Rung.PROXY
    assert some.ask(found, "shop/web", target, some.head(method="DELETE")).status == 403
    served = some.ask(found, "shop/web", target)
    assert (served.status, served.endpoint) == (0, target)


def test_a_policy_that_cannot_be_enforced_refuses_at_every_address() -> None:
    services = exposed()
    services[0]["spec"]["ports"][0]["appProtocol"] = "tcp"
    deny = some.policy("read-only", "DENY", [{"http": {"methods": ["DELETE"]}}])
    found = some.snapshot(*some.callers(), NODE_HERE, *services, deny)
    assert all(at(found, target).refuse for target in DOORS)


def test_a_policy_of_another_service_with_the_same_endpoints_holds_at_the_doors() -> None:
    deny = some.policy("no-jobs", "DENY", [NO_JOBS], level="Network", service="other")
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed(), *some.service("other", some.OTHER_VIP), deny)
    assert network_verdict(at(found, (NODE, NODE_PORT)), found.workloads["batch/job"]).denied


def test_routes_are_for_the_cluster_ip() -> None:
    route = manifests.http_route("shop", "all", "cart", [{"backendRefs": [manifests.backend("other", 1)]}])
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed(), *some.service("other", some.OTHER_VIP), route)
    assert at(found, (some.VIP, 80)).has_routes
    assert all(at(found, target).rung is Rung.DIRECT for target in DOORS)


def test_a_cluster_ip_is_no_others_external_ip() -> None:
    thief = exposed("a-thief", some.OTHER_VIP, externalIPs=[some.VIP])
    thief[0]["spec"]["ports"][0].pop("nodePort")
    found, conditions = some.compiled(*some.callers(), *thief, *some.service("cart"))
    assert at(found, (some.VIP, 80)).name == "shop/cart:80"
    assert some.condition(conditions, "Accepted", "shop/a-thief").reason == "Conflicted"


def test_a_port_of_a_node_that_is_no_node_port_is_unknown() -> None:
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed())
    assert found.destination(NODE, 22) is None
    assert found.destination(NODE, 80) is None
    assert found.destination(some.JOB, NODE_PORT) is None  # a pod's address, and no node's


def test_node_ports_come_before_the_other_ports_of_a_host_network_pod() -> None:
    pod = some.pod("batch", "daemon", NODE)
    pod["spec"]["hostNetwork"] = True
    shut = some.namespace_policy("batch", "shut", "DENY", [{}])
    found = some.snapshot(*some.callers(), pod, NODE_HERE, *exposed(), shut)
    assert at(found, (NODE, NODE_PORT)).name == "shop/cart:80"
    assert at(found, (NODE, 22)).policies
    assert at(found, (NODE, 0)).is_node


def test_a_pod_may_have_the_first_address_of_a_range() -> None:
    pod = some.pod("batch", "first", GATEWAY)
    found = some.snapshot(*some.callers(), pod, NODE_HERE, *exposed())
    assert found.destination(GATEWAY, NODE_PORT) is None
    assert found.destination(NODE, NODE_PORT) is not None


def test_every_node_has_the_node_ports_of_its_own_family() -> None:
    found = some.snapshot(*some.callers(), node("n1", "203.0.113.4"), node("n2", "2001:db8::4"), *exposed())
    assert at(found, ("203.0.113.4", NODE_PORT)).address == "203.0.113.4"
    assert at(found, ("2001:db8::4", NODE_PORT)).address == "2001:db8::4"
    assert found.destinations["203.0.113.4", 0].name == NODES


@pytest.mark.parametrize("spec", [{"clusterIP": "None", "clusterIPs": ["None"]}, {"type": "ExternalName"}])
def test_what_kube_proxy_does_not_look_at_has_no_doors(spec: dict[str, Any]) -> None:
    found = some.snapshot(*some.callers(), NODE_HERE, *exposed(**spec))
    assert all(found.destination(*target) is None for target in (*DOORS, (some.VIP, 80)))


def test_a_service_that_names_another_proxy_has_policies_and_nothing_else() -> None:
    services = exposed()
    services[0]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "somebody"}
    deny = some.policy("no-jobs", "DENY", [NO_JOBS], level="Network")
    found = some.snapshot(*some.callers(), NODE_HERE, *services, deny)
    for target in (*DOORS, (some.VIP, 80)):
        assert at(found, target).is_door
        assert network_verdict(at(found, target), found.workloads["batch/job"]).denied
