"""Gateway API's own suite runs here.  MeshBasic passes without a mesh: it shows that the suite works, no more."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import gateway_api
from tests.cluster.cluster import Cluster

SAID = ["-organization=nodeagent", "-project=nodeagent", "-url=https://nodeagent.dev", "-version=test", "-contact=none"]


def test_the_suite_passes_what_needs_no_mesh(cluster: Cluster, tmp_path: Path) -> None:
    gateway_api.install(cluster)
    report = tmp_path / "report.yaml"
    outcome = gateway_api.run_suite(cluster, report, ["-run-test=MeshBasic", *SAID])
    assert (outcome.passed, outcome.failed) == ({"MeshBasic"}, set()), outcome.printed
    assert "MESH-HTTP" in report.read_text(encoding="utf-8")
