"""Services of both address families: each address leads to endpoints of its own, a route to whichever there are."""

from __future__ import annotations

from nodeagent.core.authorization import network_verdict
from nodeagent.core.decide import NO_ENDPOINT
from nodeagent.core.kernel_state import LocalPod, build, needed_names
from nodeagent.core.model import Snapshot
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

VIP6, POD6 = "fd00::1", "fd00::11"
FOUR, SIX = (some.VIP, 80), (VIP6, 80)


def service(*addresses: str, name: str = "cart") -> list[Document]:
    """A dual-stack Service; endpoints at these addresses only, in a slice per family."""
    families = {"4": [one for one in addresses if ":" not in one], "6": [one for one in addresses if ":" in one]}
    slices = [manifests.endpoint_slice("shop", name, given, suffix=key) for key, given in families.items() if given]
    return [manifests.service("shop", name, [some.VIP, VIP6]), *slices]


def written(snapshot: Snapshot) -> dict[tuple[str, int], list[str]]:
    """Which endpoints the kernel has for each address of a Service."""
    pods = {"shop/web": LocalPod(1, (some.WEB,))}
    ids = {name: number for number, name in enumerate(sorted(needed_names(snapshot, pods)), 1)}
    found = build(snapshot, pods, ids).destinations
    return {at: [one.address for one in found[at].endpoints or ()] for at in (FOUR, SIX)}


def test_each_address_leads_to_endpoints_of_its_own_family() -> None:
    found = some.snapshot(*some.callers(), *service(some.POD, POD6))
    assert written(found) == {FOUR: [some.POD], SIX: [POD6]}


def test_an_address_without_endpoints_of_its_family_leads_nowhere() -> None:
    found = some.snapshot(*some.callers(), *service(some.POD))
    assert written(found) == {FOUR: [some.POD], SIX: []}
    assert some.ask(found, "shop/web", SIX).reason == NO_ENDPOINT


def test_a_route_leads_from_one_family_to_the_other_where_its_backend_has_no_other_endpoint() -> None:
    route = manifests.http_route("shop", "all", "cart", [{"backendRefs": [manifests.backend("cart", 1)]}])
    found = some.snapshot(*some.callers(), *service(some.POD), route)
    endpoint = some.ask(found, "shop/web", SIX).endpoint
    assert endpoint is not None
    assert endpoint.address == some.POD


def test_affinity_is_of_both_addresses() -> None:
    documents = service(some.POD, POD6)
    documents[0]["spec"] |= {"sessionAffinity": "ClientIP"}
    found = some.snapshot(*some.callers(), *documents)
    assert [found.destinations[at].affinity for at in (FOUR, SIX)] == [True, True]


def test_a_policy_holds_at_every_address_of_both_families() -> None:
    documents = service(some.POD, POD6)
    documents[0]["spec"] |= {"type": "NodePort", "externalIPs": ["198.51.100.7", "2001:db8::7"]}
    documents[0]["spec"]["ports"][0]["nodePort"] = 30080
    listed = [{"type": "InternalIP", "address": one} for one in ("203.0.113.4", "2001:db8::4")]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": listed}}
    deny = some.policy("no-jobs", "DENY", [{"sources": [{"namespace": "batch"}]}], level="Network")
    found = some.snapshot(*some.callers(), node, *documents, deny)
    doors = [("198.51.100.7", 80), ("2001:db8::7", 80), ("203.0.113.4", 30080), ("2001:db8::4", 30080)]
    for at in (FOUR, SIX, (some.POD, 8080), (POD6, 8080), *doors):
        destination = found.destination(*at)
        assert destination is not None
        assert network_verdict(destination, found.workloads["batch/job"]).denied
        assert not network_verdict(destination, found.workloads["shop/web"]).denied
