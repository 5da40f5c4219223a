"""What the tests of Services stand on: servers and callers on both nodes, a caller in the mesh beside one that is not.

The caller outside the mesh meets kube-proxy alone, and so shows what the other should meet.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.cluster import workloads
from tests.cluster.cluster import Cluster
from tests.cluster.workloads import PORT, Document

LABEL = "mesh.nodeagent.dev/dataplane"
INSIDE, OUTSIDE = "inside", "outside"
DIRECT, PROXIED = "direct", "proxied"
SETTLE_SECONDS = 20.0

# Each of N connections: the body that it was answered, a status that is not 200, or why there was no answer.
ASK = """\
import errno, http.client, json, random, socket, sys
address, port, count, path, timeout = json.loads(sys.argv[1])
found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)  # in an order that knows no chance
for number in range(count):
    connection = http.client.HTTPConnection(random.choice(found)[4][0], port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        print(body if answer.status == 200 else answer.status)
    except TimeoutError:
        print("timeout")
    except OSError as problem:
        print(errno.errorcode.get(problem.errno, repr(problem)))
    finally:
        connection.close()
"""


@dataclass(frozen=True)
class Stand:
    """`namespace` is not enrolled; the pod INSIDE is, by its own label.  Callers are on node 1."""

    cluster: Cluster
    namespace: str

    # ---- calls ----

    def ask(
        self, caller: str, address: str, port: int = 80, *, count: int = 20, path: str = "/", timeout: float = 1.5
    ) -> Counter[str]:
        """How often each outcome came."""
        asked = json.dumps([address, port, count, path, timeout])
        return Counter(workloads.run(self.cluster, self.namespace, caller, "python3", "-c", ASK, asked).splitlines())

    def finds(self, caller: str, address: str, port: int = 80, **asked: Any) -> set[str]:
        return set(self.ask(caller, address, port, **asked))

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while not condition():
            assert time.monotonic() < until, f"not within {SETTLE_SECONDS:.0f} s: {what}"
            time.sleep(0.2)

    def find(self, expected: set[str], callers: tuple[str, ...], address: str, port: int = 80, **asked: Any) -> None:
        """Every caller comes to exactly these outcomes, once changes have reached kube-proxy and agents."""
        for caller in callers:
            until = time.monotonic() + SETTLE_SECONDS
            while (found := self.finds(caller, address, port, **asked)) != expected:
                assert time.monotonic() < until, f"{caller} at {address}:{port} found {found}, not {expected}"
                time.sleep(0.2)

    # ---- objects ----

    def apply(self, *documents: Document) -> None:
        workloads.apply(self.cluster, self.namespace, *documents)

    def delete(self, *names: str) -> None:
        self.cluster.kubectl("-n", self.namespace, "delete", "--wait=false", *names)

    def patch(self, name: str, change: Document, *more: str) -> None:
        self.cluster.kubectl("-n", self.namespace, "patch", name, "--type=merge", "-p", json.dumps(change), *more)

    def get(self, name: str, path: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, "get", name, "-o", f"jsonpath={{{path}}}")

    def pod_address(self, name: str) -> str:
        return self.get(f"pod/{name}", ".status.podIP")

    def services(self, name: str, app: str = "cart", **spec: Any) -> dict[str, str]:
        """One Service for each rung, with all else alike: rung -> its cluster IP, once the agent of node 1 has it."""
        names = {rung: f"{name}-{rung}" for rung in (DIRECT, PROXIED)}
        self.apply(*(service(one, app, **spec) for one in names.values()), managed(names[PROXIED]))
        for rung, one in names.items():
            self.eventually(partial(self.is_on, one, rung), f"Service {one} on rung {rung}")
        return {rung: self.get(f"service/{one}", ".spec.clusterIP") for rung, one in names.items()}

    def is_on(self, name: str, rung: str) -> bool:
        words = {DIRECT: "direct", PROXIED: "proxy"}
        return {row["rung"] for row in self.rows("services") if row["name"] == name} == {words[rung]}

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """What the agent of node 1 has of this namespace."""
        shown: list[dict[str, Any]] = json.loads(self.agent("get", kind, "-n", self.namespace, "-o", "json"))["items"]
        return shown

    def agent(self, *command: str) -> str:
        """What the command line prints in the agent's pod on node 1."""
        where = ["-n", "nodeagent", "get", "pods", "--field-selector=spec.nodeName=node1", "-o", "name"]
        pod = self.cluster.kubectl(*where).split()[0]
        return self.cluster.kubectl("-n", "nodeagent", "exec", pod, "-c", "agent", "--", "nodeagent", *command)


def server(name: str, node: str, app: str = "cart", **spec: Any) -> Document:
    """A pod that answers with its name, of the Services for `app`."""
    made = workloads.server(name, node)
    made["metadata"]["labels"] = {"app": app}
    made["spec"].update(spec)
    return made


def caller(name: str) -> Document:
    made = workloads.client(name, "node1")
    made["metadata"]["labels"][LABEL] = "enabled" if name == INSIDE else "disabled"
    return made


def service(name: str, app: str = "cart", **spec: Any) -> Document:
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    selector = {"app": app} if app else None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports, **spec},
    }


def managed(name: str) -> Document:
    """A policy that changes nothing, but that requests of the Service pass the proxy for."""
    target = {"group": "", "kind": "Service", "name": name}
    return ours("TrafficPolicy", name, targetRefs=[target], timeouts={"request": "30s"})


def denying(name: str, services: list[str], *, path: str = "") -> Document:
    """Nobody may call: not at all, or a path of it."""
    targets = [{"group": "", "kind": "Service", "name": one} for one in services]
    rule = {"http": {"paths": [{"type": "Exact", "value": path}]}} if path else {}
    level = "Application" if path else "Network"
    return ours(
        "AuthorizationPolicy", name, targetRefs=targets, enforcementLevel=level, action="DENY", rules=[rule]
    )


def ours(kind: str, name: str, **spec: Any) -> Document:
    return {"apiVersion": "mesh.nodeagent.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def endpoint_slice(
    name: str, service_name: str, endpoints: list[Document], *, kind: str = "IPv4", port: int = PORT
) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": kind,
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
