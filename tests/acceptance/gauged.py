"""A Service whose pods run tests/peers/gauge, under policies, called by tests/peers/offer.

`greedy` and `polite` call catalog (VIP 1), which `pods` serve; what the pods do is told them over a unix socket.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests import peers
from tests.acceptance.shop import FAIL_MODE, PORT, service
from tests.testbed import Agent, Pod, Testbed, manifests
from tests.testbed.manifests import Document

NS = 1_000_000_000
NOBODY = 250  # of the hosts that pods may have
CATALOG: Document = {"group": "", "kind": "Service", "name": "catalog"}


class Answer(NamedTuple):
    """One line of offer: ns since 1970; status 0 = no answer, and `reason` is the error."""

    sent: int
    received: int
    status: int
    reason: str


def answers(text: str) -> list[Answer]:
    rows = (line.split() for line in text.splitlines())
    return [Answer(int(sent), int(received), int(status), reason) for sent, received, status, reason in rows]


def outcomes(found: Sequence[Answer]) -> Counter[str]:
    """How often each status and reason: "200 -"."""
    return Counter(f"{one.status} {one.reason}" for one in found)


@dataclass(frozen=True)
class State:
    """What a gauge counts (tests/peers/gauge)."""

    in_flight: int
    peak: int
    connections: int
    arrived: int
    abandoned: int
    area: float
    seconds: float


class Gauge:
    """The server in a pod, seen through its control socket."""

    def __init__(self, bed: Testbed, pod: Pod) -> None:
        self.pod = pod
        self._path = bed.home / f"{pod.name}.sock"
        argv = [str(peers.build("gauge")), "-listen", f":{PORT}", "-control", str(self._path)]
        bed.popen(pod, argv, stdin=subprocess.DEVNULL)
        bed.wait_listening(pod, PORT)

    def _ask(self, method: str, path: str) -> Any:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            body = reply.read()
            assert reply.status == 200, body
            return json.loads(body)
        finally:
            connection.close()

    def set(self, **values: object) -> None:
        self._ask("PUT", "/set?" + "&".join(f"{name}={value}" for name, value in values.items()))

    def release(self) -> None:
        self._ask("PUT", "/release")

    def reset(self) -> None:
        self._ask("PUT", "/reset")

    def state(self) -> State:
        return State(**self._ask("GET", "/state"))

    def arrivals(self) -> list[tuple[int, int]]:
        """(ns since 1970, status) of each request since `reset`."""
        return [(when, status) for when, status in self._ask("GET", "/arrivals") or []]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._socket_path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


@dataclass(frozen=True)
class Stand:
    bed: Testbed
    greedy: Pod
    polite: Pod
    gauges: tuple[Gauge, ...]
    agent: Agent

    @property
    def url(self) -> str:
        return f"http://{self.bed.vip(1)}/"

    def busy_workers(self) -> int:
        """How many have had requests."""
        return sum(sample.value > 0 for sample in self.agent.metrics().select("nodeagent_worker_requests"))

    def offer(self, pod: Pod, *options: object) -> subprocess.Popen[str]:
        argv = [str(peers.build("offer")), "-url", self.url, *map(str, options)]
        process: subprocess.Popen[str] = self.bed.popen(pod, argv, stdout=subprocess.PIPE, text=True)
        return process

    def offered(self, pod: Pod, *options: object, timeout: float = 120.0) -> list[Answer]:
        return finish(self.offer(pod, *options), timeout)


def finish(client: subprocess.Popen[str], timeout: float = 120.0) -> list[Answer]:
    text, _ = client.communicate(timeout=timeout)
    assert client.returncode == 0, f"offer: exit {client.returncode}"
    return answers(text)


@contextmanager
def open_stand(*policies: Document, pods: int = 1, silent: bool = False, workers: int = 2) -> Iterator[Stand]:
    """The agent running with all policies in force.  `silent`: the Service's endpoint is an address that nobody has."""
    with Testbed() as bed:
        greedy = bed.add_pod("shop", "greedy", service_account="greedy", workload="greedy")
        polite = bed.add_pod("shop", "polite", service_account="polite", workload="polite")
        servers = [bed.add_pod("shop", f"catalog-{number}", workload="catalog") for number in range(pods)]
        gauges = tuple(Gauge(bed, pod) for pod in servers)
        catalog = service(bed, 1, "catalog", servers)
        if silent:
            catalog[1:] = [manifests.endpoint_slice("shop", "catalog", [bed.network.ipv4(NOBODY)], port=PORT)]
        closed = {FAIL_MODE: "Closed"}  # never past the workers, whose deaths are part of it
        bed.manifests.write("00-namespaces.yaml", manifests.namespace("shop", annotations=closed))
        bed.manifests.write("10-pods.yaml", *bed.pod_documents())
        bed.manifests.write("20-services.yaml", *catalog)
        bed.manifests.write("30-policies.yaml", *policies)
        agent = bed.start_agent(workers=workers)
        yield Stand(bed, greedy, polite, gauges, agent)
