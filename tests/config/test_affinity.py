"""sessionAffinity: kube-proxy, where it is, chooses for direct connections; requests stay with an endpoint."""

from __future__ import annotations

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.core.kernel_state import DestFlag, destination_flags
from nodeagent.core.model import Destination
from tests.config import builders as some
from tests.testbed import manifests


def frontend(affinity: str, *, kube_proxy: bool, routed: bool = False) -> Destination:
    cart, slice_ = some.service("cart")
    cart["spec"]["sessionAffinity"] = affinity
    rule = {"backendRefs": [manifests.backend("cart", 1)]}
    documents = [cart, slice_, *([manifests.http_route("shop", "r", "cart", [rule])] if routed else [])]
    objects = some.objects(*some.callers(), *documents)
    return compile_objects(objects, 1, kube_proxy=kube_proxy)[0].destinations[some.VIP, 80]


def test_beside_kube_proxy_the_choice_of_an_endpoint_is_left_to_it() -> None:
    assert destination_flags(frontend("ClientIP", kube_proxy=True)) == DestFlag(0)
    assert destination_flags(frontend("ClientIP", kube_proxy=True, routed=True)) == DestFlag.PROXY


@pytest.mark.parametrize(("affinity", "kube_proxy"), [("ClientIP", False), ("None", True), ("", True)])
def test_without_it_or_without_affinity_connect_chooses(affinity: str, *, kube_proxy: bool) -> None:
    assert destination_flags(frontend(affinity, kube_proxy=kube_proxy)) == DestFlag.FRONTEND


def test_a_backend_has_the_affinity_of_its_own_service() -> None:
    assert [rule.backends[0].affinity for rule in frontend("ClientIP", kube_proxy=True, routed=True).rules] == [True]
    assert [rule.backends[0].affinity for rule in frontend("None", kube_proxy=True, routed=True).rules] == [False]
