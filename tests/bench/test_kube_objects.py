"""What a big cluster is filled with: as much as promised, valid, and another object in every turn."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import kube_objects
from bench.cluster import EACH
from bench.kubernetes import KINDS, quantiles
from nodeagent.config.schema import violations
from nodeagent.config.schemas import SCHEMAS
from tests.testbed.manifests import Document

SERVICES = 1000


def test_there_are_two_routes_or_policies_for_each_service() -> None:
    found = Counter(document["kind"] for document in kube_objects.rules(SERVICES))
    expected = {"HTTPRoute": 800, "AuthorizationPolicy": 500, "TrafficPolicy": 400, "RateLimitPolicy": 300}
    assert found == expected
    assert found.total() == 2 * SERVICES


def test_pods_share_nodes_and_have_addresses_of_their_own() -> None:
    pods = [kube_objects.pod(number, one, "uid") for number in range(SERVICES) for one in range(EACH)]
    nodes = Counter(pod["spec"]["nodeName"] for pod in pods)
    assert set(nodes) == {node["metadata"]["name"] for node in kube_objects.nodes(SERVICES)}
    assert set(nodes.values()) == {kube_objects.PODS_OF_NODE}
    addresses = {kube_objects.status(number, one)["podIP"] for number in range(SERVICES) for one in range(EACH)}
    assert len(addresses) == len(pods)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_valid_and_in_each_turn_another_than_when_it_had_its_turn_before(kind: str) -> None:
    made, digit = KINDS[kind]
    last: dict[int, Document] = {}
    for turn in range(1, 401):
        number = turn * 370 % SERVICES + digit
        document = made(number, turn)
        assert not violations(SCHEMAS[document["apiVersion"], kind], document)
        assert last.get(number) != document
        last[number] = document


def test_what_is_changed_was_there_before() -> None:
    there = {(one["kind"], one["metadata"]["name"]) for one in kube_objects.rules(SERVICES)}
    for kind in KINDS.keys() - {"EndpointSlice"}:
        made, digit = KINDS[kind]
        numbers = {turn * 370 % SERVICES + digit for turn in range(100)}
        assert {(kind, made(number, 1)["metadata"]["name"]) for number in numbers} <= there


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 201)]
    assert quantiles(values) == {"p50": 101.0, "p99": 198.0, "max": 200.0}
    assert quantiles([]) == {"p50": 0.0, "p99": 0.0, "max": 0.0}
