"""The case with policies measures what it says: every policy applies to its requests, on both sides alike."""

from __future__ import annotations

from pathlib import Path

from bench import envoy, mesh
from bench.cases import CASES
from bench.children import Place
from bench.paths import DIRECT, ENVOY, RUNG1, Way
from nodeagent.config.compile import compile as compile_objects
from nodeagent.core.traffic import Per
from tests.config import builders as some

CASE = next(case for case in CASES if case.policies)


def test_the_agents_route_has_every_policy() -> None:
    objects = some.load({"bench.yaml": mesh.manifests()})[1]
    assert not objects.problems
    snapshot, conditions = compile_objects(objects, 1)
    assert {one.status for one in conditions if one.type == "Accepted"} == {"True"}
    destination = snapshot.destinations[mesh.POLICIED_VIP, 80]
    assert destination.has_http_policy
    for rule in destination.producer_rules:
        [backend] = rule.backends
        traffic = backend.traffic
        assert traffic is not None
        assert traffic.timeouts.request == 15_000
        assert traffic.retry is not None
        assert None not in (traffic.circuit_breaker, traffic.outlier_detection)
        assert traffic.outlier_detection is not None
        assert traffic.outlier_detection.success_rate is not None
        [limits] = {*destination.rate_limits, *backend.rate_limits}
        assert [limit.per for limit in limits.rules] == [Per.TOTAL, Per.SERVICE_ACCOUNT]


def test_envoys_second_listener_has_them_too() -> None:
    resources = envoy.configuration()["static_resources"]
    chains = [listener["filter_chains"][0] for listener in resources["listeners"]]
    plain, policied = (chain["filters"][0]["typed_config"] for chain in chains)
    names = [[one["name"].rpartition(".")[2] for one in each["http_filters"]] for each in (plain, policied)]
    assert names == [["rbac", "router"], ["rbac", "local_ratelimit", "router"]]
    routes = [each["route_config"]["virtual_hosts"][0]["routes"] for each in (plain, policied)]
    assert [one["match"] for one in routes[0]] == [one["match"] for one in routes[1]]
    assert all({"timeout", "retry_policy", "rate_limits"} <= set(one["route"]) for one in routes[1])
    [cluster] = [each for each in resources["clusters"] if each["name"] == routes[1][0]["route"]["cluster"]]
    assert {"circuit_breakers", "outlier_detection"} <= set(cluster)


def test_only_proxies_take_another_way_for_it() -> None:
    place = Place("", Path("/"))
    proxy, direct = Way(ENVOY, place, "http://a", 1, "http://b"), Way(DIRECT, place, "http://a")
    assert (proxy.url_of(CASE), proxy.url_of(CASES[0]), direct.url_of(CASE)) == ("http://b/", "http://a/", "http://a/")
    assert not Way(RUNG1, place, "http://a").serves(CASE)
