"""kubectl delete -k: direct at once, and nothing stays on the node; where the agent could not know, `uninstall`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import paths
from tests.cluster.cluster import Cluster
from tests.cluster.remains import RIGHTS, is_hooked, left

AGENT = paths.HERE / "manifests" / "agent"
DIRECT_SECONDS = 2.0
END_SECONDS = 40.0  # --drain, and what Kubernetes takes for a namespace


def until(condition: Callable[[], bool], seconds: float) -> float:
    """How long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - start


def there_is_no_namespace(cluster: Cluster) -> bool:
    return not cluster.kubectl("get", "namespace", "nodeagent", "--ignore-not-found", "-o", "name").strip()


@pytest.fixture
def installed(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[None]:
    assert agent_images_loaded
    until(lambda: there_is_no_namespace(cluster), END_SECONDS)
    cluster.kubectl("apply", "-k", str(AGENT))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    assert all(is_hooked(node) for node in cluster.nodes)
    yield
    cluster.kubectl("delete", "-k", str(AGENT), "--ignore-not-found", "--timeout=60s")


def deleting(cluster: Cluster) -> subprocess.Popen[bytes]:
    command = [str(cluster.kubectl_program), "delete", "-k", str(AGENT), "--ignore-not-found"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("first", [(), RIGHTS], ids=["as it is", "its RBAC first"])
def test_deleting_it_makes_traffic_direct_and_leaves_nothing(
    cluster: Cluster, installed: None, first: tuple[tuple[str, ...], ...]
) -> None:
    for command in first:
        cluster.kubectl(*command)
    with deleting(cluster):
        took = until(lambda: not any(is_hooked(node) for node in cluster.nodes), DIRECT_SECONDS)
    print(f"hooks gone after {took:.2f} s")
    until(lambda: not any(left(node) for node in cluster.nodes), END_SECONDS)


def test_a_pod_that_is_replaced_leaves_its_hooks_for_the_next(cluster: Cluster, installed: None) -> None:
    cluster.kubectl("-n", "nodeagent", "delete", "pod", "--all", "--wait=true")
    assert all(is_hooked(node) for node in cluster.nodes)
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")


@pytest.fixture
def uninstall(tmp_path: Path) -> Path:
    """daemonset/uninstall with the image that was built here."""
    resources = Path("../" * (len(tmp_path.parts) - 1) + str(paths.REPOSITORY)[1:]) / "daemonset" / "uninstall"
    images = "[{name: nodeagent, newName: localhost/nodeagent, newTag: test}]"
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{resources}]\nimages: {images}\n")
    return tmp_path


def test_what_an_agent_without_rights_could_not_know_is_removed_by_uninstall(
    cluster: Cluster, installed: None, uninstall: Path
) -> None:
    """Its watch began without the right to: it never saw its DaemonSet."""
    for command in RIGHTS:
        cluster.kubectl(*command)
    cluster.kubectl("-n", "nodeagent", "delete", "pod", "--all", "--wait=true")
    ready = "--for=jsonpath={.status.phase}=Running"
    cluster.kubectl("-n", "nodeagent", "wait", "pod", "--all", ready, "--timeout=60s")
    with deleting(cluster):
        pass
    until(lambda: there_is_no_namespace(cluster), END_SECONDS)
    assert all(is_hooked(node) for node in cluster.nodes), "then this test shows nothing"
    cluster.kubectl("apply", "-k", str(uninstall))
    try:
        name = "daemonset/nodeagent-uninstall"
        cluster.kubectl("-n", "nodeagent-uninstall", "rollout", "status", name, "--timeout=60s")
        assert not any(is_hooked(node) for node in cluster.nodes)
        assert [left(node) for node in cluster.nodes] == [[] for _ in cluster.nodes]
    finally:
        cluster.kubectl("delete", "-k", str(uninstall), "--timeout=60s")
