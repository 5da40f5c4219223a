"""Line 5: the DaemonSet is rolled over under load: what lived, what failed, what passed unpoliced."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.acceptance.on_cluster import objects, watched
from tests.acceptance.on_cluster.mesh import DAEMONSET, ENABLED, NAMESPACE, Mesh
from tests.acceptance.on_cluster.shop import NODES
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.testbed.manifests import Document

NAME = "held"
HELD = 20  # connections that each of two pods keeps open
PORT = 7000
# Answers each byte with a byte.
ECHO = f"""
import socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", {PORT}), Handler).serve_forever()
"""
# Uses every connection five times a second, and prints how many of them still live when one more has ended.
HOLD = f"""
import socket, time
while True:  # DNS and kube-proxy hear of a new Service and its endpoint a moment later
    try:
        socket.create_connection(("echo", {PORT}), 5).close()
        break
    except OSError:
        time.sleep(0.5)
held = [socket.create_connection(("echo", {PORT}), 5) for _ in range({HELD})]
print(time.time(), len(held), flush=True)
while True:
    for one in list(held):
        try:
            one.sendall(b"x")
            alive = one.recv(1) == b"x"
        except OSError:
            alive = False
        if not alive:
            held.remove(one)
            print(time.time(), len(held), flush=True)
    time.sleep(0.2)
"""


@dataclass(frozen=True)
class Update:
    seconds: float
    held: list[int]  # direct connections of each pod that lived through it
    closed: dict[str, Counter[str]]  # what callers whose namespace is Closed got, by what they asked for
    open: dict[str, Counter[str]]
    bypassed: int  # connections of the namespace Open that the kernel counted as bypass

    def __str__(self) -> str:
        kinds = {"Closed": self.closed, "Open": self.open}
        asked = "; ".join(f"{kind}: { {name: dict(one) for name, one in got.items()} }" for kind, got in kinds.items())
        held = f"direct connections alive {self.held} of {HELD} each"
        return f"{self.seconds:.1f} s; {held}; {asked}; {self.bypassed} bypassed"


def _documents() -> list[Document]:
    echo = objects.pod(NAME, "echo-1", NODES[1], ["python3", "-c", ECHO])
    echo["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    service = objects.service(NAME, "echo", app="echo")
    service["spec"]["ports"] = [{"name": "tcp", "port": PORT, "targetPort": PORT}]
    return [service, echo]


@contextmanager
def open_held(cluster: Cluster) -> Iterator[None]:
    """Pods on both nodes that hold direct connections to one of them."""
    space = objects.namespace(NAME)
    space["metadata"]["labels"] = {ENABLED: "enabled"}
    objects.create_namespace(cluster, space)
    try:
        objects.apply(cluster, *_documents())
        objects.wait_pods(cluster, *_documents())
        command = ["python3", "-c", HOLD]
        holders = [objects.pod(NAME, f"hold-{number}", node, command) for number, node in enumerate(NODES, 1)]
        objects.apply(cluster, *holders)
        objects.wait_pods(cluster, *holders)
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAME, "--timeout=60s")


def roll(mesh: Mesh) -> Update:
    """`kubectl rollout restart`, while pods on both nodes ask and hold."""
    cluster = mesh.cluster
    with (
        open_held(cluster),
        watched.open_watched(cluster, "Closed", name="closed") as closed,
        watched.open_watched(cluster, "Open", ("denied",), name="open") as opened,
    ):
        until(lambda: _held(cluster) == [HELD, HELD], 60, "all connections are open")
        time.sleep(3)
        before, began = _bypassed(mesh), time.time()
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", DAEMONSET)
        mesh.wait_ready()
        seconds = time.time() - began
        time.sleep(3)
        opened.stop()
        bypassed = _bypassed(mesh) - before
        return Update(seconds, _held(cluster), _by_name(closed, began), _by_name(opened, began), bypassed)


def _bypassed(mesh: Mesh) -> int:
    return round(mesh.metric("bypass_connections_total", source_workload_namespace="open"))


def _held(cluster: Cluster) -> list[int]:
    texts = [cluster.kubectl("-n", NAME, "logs", f"hold-{number}") for number in (1, 2)]
    return [int(text.split()[-1]) if text else 0 for text in texts]


def _by_name(seen: watched.Watched, began: float) -> dict[str, Counter[str]]:
    found = seen.seen(began)
    return {name: watched.outcomes(found, name) for name in sorted({one.name for one in found})}
