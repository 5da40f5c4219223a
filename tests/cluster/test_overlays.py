"""What users apply, as the API server judges it; and what the overlay `strict` refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster import paths
from tests.cluster.cluster import Cluster
from tests.testbed.manifests import Document
from tests.testbed.shell import CommandError

FOLDER = paths.REPOSITORY / "daemonset"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
LABEL, MODE = "mesh.nodeagent.dev/dataplane", "mesh.nodeagent.dev/fail-mode"
ENABLED, CLOSED = {LABEL: "enabled"}, {MODE: "Closed"}
DENIED = "this cluster uses the overlay"
SEEN_SECONDS = 20.0  # until the API server knows a new admission policy


def would_take(cluster: Cluster, *objects: Document) -> str:
    """What the API server says against `objects`; "" = it takes them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    try:
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text)
    except CommandError as refused:
        return str(refused)
    return ""


def a_namespace(name: str, labels: dict[str, str], annotations: dict[str, str]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    }


def a_pod(namespace: str, labels: dict[str, str]) -> Document:
    containers = [{"name": "main", "image": "localhost/tools:1"}]
    metadata = {"name": "web", "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_taken_by_the_api_server(cluster: Cluster, namespace: str, overlay: str) -> None:
    """All but the PodMonitor, whose kind is another project's; in a namespace that is there already."""
    rendered = cluster.kubectl("kustomize", str(FOLDER / "overlays" / overlay))
    documents = [one for one in yaml.safe_load_all(rendered) if one["kind"] not in ("Namespace", "PodMonitor")]
    for one in documents:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = namespace
    assert "DaemonSet" in {one["kind"] for one in documents}
    assert would_take(cluster, *documents) == ""


@pytest.fixture
def strict(cluster: Cluster) -> Iterator[None]:
    policies = str(FOLDER / "overlays" / "strict" / "closed.yaml")
    cluster.kubectl("apply", "-f", policies)
    end = time.monotonic() + SEEN_SECONDS
    denied = (a_namespace("some", ENABLED, {}), a_pod("default", ENABLED))
    while any(DENIED not in would_take(cluster, one) for one in denied) and time.monotonic() < end:
        time.sleep(0.2)
    yield
    cluster.kubectl("delete", "-f", policies)


def test_strict_lets_nobody_be_enrolled_whose_fail_mode_is_not_closed(
    cluster: Cluster, strict: None, namespace: str
) -> None:
    assert DENIED in would_take(cluster, a_namespace("some", ENABLED, {}))
    assert DENIED in would_take(cluster, a_namespace("some", ENABLED, {MODE: "Open"}))
    assert would_take(cluster, a_namespace("some", ENABLED, CLOSED)) == ""
    assert would_take(cluster, a_namespace("some", {LABEL: "disabled"}, {})) == ""
    assert DENIED in would_take(cluster, a_pod(namespace, ENABLED))
    assert would_take(cluster, a_pod(namespace, {LABEL: "disabled"})) == ""
    cluster.kubectl("annotate", "namespace", namespace, f"{MODE}=Closed")
    assert would_take(cluster, a_pod(namespace, ENABLED)) == ""
