"""A namespace of its own with a pod on each node that runs watcher.py, and what they saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.on_cluster import objects, watcher
from tests.acceptance.on_cluster.mesh import ENABLED
from tests.acceptance.on_cluster.shop import NODES
from tests.cluster.cluster import Cluster

FAIL_MODE = "mesh.nodeagent.dev/fail-mode"
PAUSE = "0.1"
SOURCE = Path(watcher.__file__).read_text(encoding="utf-8")
URLS = {"allowed": "http://catalog.shop/items", "denied": "http://catalog.shop/admin"}  # by the shop's policies


@dataclass(frozen=True)
class Seen:
    time: float
    name: str
    outcome: str


class Watched:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def seen(self, since: float = 0.0) -> list[Seen]:
        """What the pods have printed: kubelet keeps it while there is no API server."""
        texts = [self._cluster.kubectl("-n", self._namespace, "logs", f"watcher-{number}") for number in (1, 2)]
        rows = [line.split() for text in texts for line in text.splitlines()]
        found = [Seen(float(row[0]), row[1], row[2]) for row in rows if len(row) == 3]
        return sorted((one for one in found if one.time >= since), key=lambda one: one.time)

    def stop(self) -> None:
        """No more requests; what was printed stays."""
        for number in (1, 2):
            objects.run(self._cluster, self._namespace, f"watcher-{number}", "touch", watcher.STOP)


@contextmanager
def open_watched(
    cluster: Cluster, fail_mode: str, asked: Sequence[str] = ("allowed", "denied"), name: str = "watched"
) -> Iterator[Watched]:
    """Callers in the enrolled namespace `name`, whose fail mode this is."""
    command = ["python3", "-c", SOURCE, PAUSE, *(f"{one}={URLS[one]}" for one in asked)]
    pods = [objects.pod(name, f"watcher-{number}", node, command) for number, node in enumerate(NODES, 1)]
    space = objects.namespace(name, **{FAIL_MODE: fail_mode})
    space["metadata"]["labels"] = {ENABLED: "enabled"}
    objects.create_namespace(cluster, space)
    try:
        objects.apply(cluster, *pods)
        objects.wait_pods(cluster, *pods)
        yield Watched(cluster, name)
    finally:
        cluster.kubectl("delete", "namespace", name, "--timeout=60s")


def outcomes(seen: Sequence[Seen], name: str) -> Counter[str]:
    return Counter(one.outcome for one in seen if one.name == name)
