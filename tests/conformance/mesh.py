"""The node that conformance tests run on: the pods and Services of the upstream's mesh, and one agent.

Services echo (VIP 1, both backends), echo-v1 (VIP 2) and echo-v2 (VIP 3) with the upstream's ports; pods echo-v1 and
echo-v2, and a second echo-v1 in the consumers' namespace.  The clients run in the pods echo-v1, as upstream, so a
call of echo may well lead back to its own pod.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests import peers
from tests.conformance.cases import CONSUMER, MESH, UnmetError
from tests.testbed import Pod, Testbed, manifests


class Port(NamedTuple):
    name: str
    port: int
    target: int
    app_protocol: str | None


PORTS = (
    Port("http", 80, 8080, "http"),
    Port("http-alt", 8080, 8080, "http"),
    Port("https", 443, 8443, None),  # nothing listens there, nor at tcp: no mesh test calls them
    Port("tcp", 9090, 9090, None),
    Port("grpc", 7070, 7070, "kubernetes.io/h2c"),
)
VIPS = {"echo": 1, "echo-v1": 2, "echo-v2": 3}
ROUTES = "50-routes.yaml"


class Mesh:
    """`bed` must be open; pods serve HTTP, the agent runs and is ready."""

    def __init__(self, bed: Testbed) -> None:
        self.bed = bed
        self.v1 = bed.add_pod(MESH, "echo-v1", labels={"app": "echo", "version": "v1"})
        self.v2 = bed.add_pod(MESH, "echo-v2", labels={"app": "echo", "version": "v2"})
        self.consumer = bed.add_pod(CONSUMER, "echo-v1", labels={"app": "echo", "version": "v1"})
        for pod in (self.v1, self.v2):
            bed.serve(pod, 8080)
        bed.manifests.write("00-namespaces.yaml", manifests.namespace(MESH), manifests.namespace(CONSUMER))
        bed.manifests.write("10-pods.yaml", *bed.pod_documents())
        backends = {"echo": [self.v1, self.v2], "echo-v1": [self.v1], "echo-v2": [self.v2]}
        for name, pods in backends.items():
            bed.manifests.write(f"20-{name}.yaml", *_service(bed, name, pods))
        self.agent = bed.start_agent()
        self._serves_grpc = False
        self._routes: Sequence[manifests.Document] = ()

    # -- configuration ------------------------------------------------------------------------------------
    def configure(self, routes: Sequence[manifests.Document]) -> None:
        """Replaces the routes of the test before, and waits until every worker has them."""
        if routes == self._routes:
            return  # no new generation would come of it
        before = self._status()["generation"]
        self.bed.manifests.write(ROUTES, *routes)
        self._routes = routes
        deadline = time.monotonic() + 10
        while (status := self._status())["generation"] <= before or status["in_force"] < status["generation"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"routes not in force after 10 s: {status}{self.agent.tail()}")
            time.sleep(0.005)

    def _status(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.agent.admin("/v1/status")[1])["config"]
        return config

    # -- addresses and programs ---------------------------------------------------------------------------
    def client(self, namespace: str) -> Pod:
        return self.v1 if namespace == MESH else self.consumer

    def address(self, host: str, *, ipv6: bool) -> str:
        """Of a Service by its name, with or without the namespace, or of a pod: NAME.pod."""
        name, _, rest = host.partition(".")
        if rest == "pod":
            pod = self.v1 if name == "echo-v1" else self.v2
            return pod.ipv6 if ipv6 else pod.ipv4
        return self.bed.vip6(VIPS[name]) if ipv6 else self.bed.vip(VIPS[name])

    def serve_grpc(self) -> None:
        """Starts gRPC servers in both backends, once; UnmetError where the Go here is too old for them."""
        if self._serves_grpc:
            return
        program = str(peers.build("grpcecho"))
        for pod in (self.v1, self.v2):
            argv = [program, "-listen", ":7070", "-pod", pod.name, "-namespace", pod.namespace]
            process = self.bed.popen(pod, argv, stdout=subprocess.DEVNULL)
            try:
                self.bed.wait_listening(pod, 7070)
            except TimeoutError:
                raise UnmetError(
                    f"the gRPC server does not run: exit {process.poll()}; it needs Go 1.24 or newer"
                ) from None
        self._serves_grpc = True


def _service(bed: Testbed, name: str, pods: Sequence[Pod]) -> list[manifests.Document]:
    document = manifests.service(MESH, name, [bed.vip(VIPS[name]), bed.vip6(VIPS[name])])
    document["spec"]["ports"] = [_port(port) for port in PORTS]
    slices = []
    for suffix, hosts in (("4", [pod.ipv4 for pod in pods]), ("6", [pod.ipv6 for pod in pods])):
        slices.append(manifests.endpoint_slice(MESH, name, hosts, suffix=suffix))
        slices[-1]["ports"] = [{"name": port.name, "port": port.target, "protocol": "TCP"} for port in PORTS]
    return [document, *slices]


def _port(port: Port) -> manifests.Document:
    document = {"name": port.name, "port": port.port, "targetPort": port.target, "protocol": "TCP"}
    return {**document, "appProtocol": port.app_protocol} if port.app_protocol else document
