"""Gateway API's own conformance suite against the agent as users install it: all that the profile MESH-HTTP has.

tests/conformance has tests of our own that assert the same on one node without a cluster, in half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import __version__
from tests.acceptance.figures import show
from tests.cluster import gateway_api, paths, route_conditions
from tests.cluster.cluster import Cluster
from tests.cluster.route_conditions import Seen
from tests.conformance.features import BESIDE, CORE, EXTENDED
from tests.conformance.suite import TESTS

CRDS = paths.REPOSITORY / "daemonset" / "crds"
AGENT = paths.HERE / "manifests" / "agent"
ENROLLED = "-namespace-labels=mesh.nodeagent.dev/dataplane=enabled"
HOME = "https://nodeagent.dev"
SAID = ["-organization=nodeagent", "-project=nodeagent", f"-url={HOME}", f"-contact={HOME}", f"-version={__version__}"]
# 7 core, one for each of 9 extended features, 5 that need features beside the profile
HTTP_TESTS = {test.name for test in TESTS if not test.is_grpc}
KEPT = paths.REPOSITORY / "docs" / "conformance" / f"standard-{__version__}-default-report.yaml"  # the upstream's name
TOLD, PROGRAMMED = {"Accepted=True", "ResolvedRefs=True"}, {"Programmed=True"}
ALLOWED = {*TOLD, *PROGRAMMED, "Programmed=Unknown"}


@pytest.fixture
def mesh(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[None]:
    """CRDs and agents as daemonset/README.md says."""
    assert agent_images_loaded
    gateway_api.install(cluster)
    cluster.kubectl("apply", "--server-side", "-k", str(CRDS))
    cluster.kubectl("delete", "-k", str(AGENT), "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("apply", "-k", str(AGENT))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    cluster.kubectl("-n", "nodeagent", "wait", "--for=create", "lease/nodeagent-status", "--timeout=30s")
    yield
    cluster.kubectl("delete", "-k", str(AGENT), "--timeout=60s")


def test_gateway_apis_own_suite_passes_with_every_feature_of_mesh_http(
    cluster: Cluster, mesh: None, tmp_path: Path
) -> None:
    report, events = tmp_path / "report.yaml", tmp_path / "routes"
    with route_conditions.watched(cluster, events):
        outcome = gateway_api.run_suite(cluster, report, [ENROLLED, *SAID], (*CORE, *EXTENDED, *BESIDE))
    (tmp_path / "printed").write_text(outcome.printed, encoding="utf-8")
    show(f"Gateway API's conformance suite: {table(outcome)}")
    assert outcome.failed == set(), "\n".join(outcome.said_of(name)[-6000:] for name in sorted(outcome.failed))
    assert outcome.passed == HTTP_TESTS, outcome.printed[-6000:]
    check_profile(yaml.safe_load(report.read_text(encoding="utf-8")))
    check_conditions(route_conditions.seen(events))
    keep(report)


def table(outcome: gateway_api.Outcome) -> str:
    """The count, and a line for each test that ran."""
    ran = sorted(outcome.passed | outcome.failed)
    rows = [f"    {'passed' if name in outcome.passed else 'FAILED'} {name}" for name in ran]
    return "\n".join([f"{len(outcome.passed)} of {len(ran)} tests passed", *rows])


def check_profile(report: dict[str, Any]) -> None:
    """The suite's own summary: nothing failed, nothing was left out."""
    [profile] = report["profiles"]
    extended = profile["extended"]
    version = f"{report['gatewayAPIVersion']}, {report['gatewayAPIChannel']} channel"
    show(f"{profile['name']} of {version}: {profile['summary']}")
    assert (profile["core"]["result"], extended["result"]) == ("success", "success")
    assert sorted(extended["supportedFeatures"]) == sorted(EXTENDED)
    assert "unsupportedFeatures" not in extended


def check_conditions(routes: list[Seen]) -> None:
    """Of which the suite's mesh tests see nothing.  A test may be over, and its route gone, in a third of a second."""
    wrong = [f"{route.name}: {sorted(route.conditions)}" for route in routes if route.conditions - ALLOWED]
    told = [route for route in routes if route.conditions >= TOLD]
    programmed = [route for route in told if route.conditions >= PROGRAMMED]
    show(f"of {len(routes)} routes {len(told)} had Accepted and ResolvedRefs, {len(programmed)} Programmed in time")
    assert not wrong
    assert len(told) > len(routes) / 2
    assert programmed


def keep(report: Path) -> None:
    """Among the documents, if it says something new: another date alone is nothing new."""
    said = report.read_text(encoding="utf-8")
    if not KEPT.exists() or undated(KEPT.read_text(encoding="utf-8")) != undated(said):
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(said, encoding="utf-8")
        show(f"{KEPT} is new: commit it")


def undated(report: str) -> Any:
    return {**yaml.safe_load(report), "date": ""}
