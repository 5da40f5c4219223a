"""A real agent on a node whose pods nothing but their cgroups tell of: enrolled, restarted, relabelled, ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pytest

from tests.testbed import Agent, Pod, Testbed, manifests
from tests.testbed.kubelet import NODE, Kubelet, KubePod

LABEL = f"{manifests.GROUP}/dataplane"
FLIPS = 20


@dataclass
class Node:
    """`shop` is enrolled, `plain` is not; the server is a pod of a manifest, which listens on 8080."""

    bed: Testbed
    kubelet: Kubelet
    agent: Agent
    server: Pod

    def write_pods(self) -> None:
        self.bed.manifests.write("10-pods.yaml", *self.bed.pod_documents(), *self.kubelet.documents())

    def start(self, namespace: str, name: str, **fields: Any) -> KubePod:
        """A pod as it comes in Kubernetes: the API server's object first, then cgroup and sandbox."""
        pod = self.kubelet.add_pod(namespace, name, **fields)
        self.write_pods()
        self.kubelet.start_sandbox(pod)
        return pod

    def rows(self) -> dict[str, dict[str, Any]]:
        status, body = self.agent.admin("/v1/objects/workloads")
        assert status == 200, body
        return {f"{row['namespace']}/{row['name']}": row for row in json.loads(body)["items"]}

    def state(self, pod: KubePod) -> str:
        return str(self.rows()[pod.pod.key]["state"]) if pod.pod.key in self.rows() else ""

    def get(self, container: Pod, path: str = "/") -> int:
        url = f"http://{self.bed.vip(1)}{path}"
        argv = ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
        return int(self.bed.run(container, argv).stdout or "0")


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Testbed(62) as bed:
        server = bed.add_pod("plain", "server")
        bed.serve(server)
        made = Node(bed, Kubelet(bed), bed.agent("--node-name", NODE), server)
        bed.manifests.write(
            "00-namespaces.yaml", manifests.namespace("shop"), manifests.namespace("plain", enrolled=False)
        )
        bed.manifests.write(
            "20-service.yaml",
            manifests.service("plain", "server", [bed.vip(1)]),
            manifests.endpoint_slice("plain", "server", [server.ipv4]),
        )
        made.write_pods()
        made.agent.start()
        yield made
        made.agent.stop()


def test_a_new_pod_is_enrolled_and_reaches_services(node: Node) -> None:
    pod = node.start("shop", "web")
    until(lambda: node.state(pod) == "enrolled")
    assert node.get(node.kubelet.container(pod)) == 200


def test_a_pod_without_the_label_and_one_in_the_nodes_namespace_are_left_out(node: Node) -> None:
    plain = node.start("plain", "client")
    host = node.start("shop", "host", host_network=True)
    time.sleep(0.5)
    assert node.state(plain) == "not enrolled"
    row = node.rows()[host.pod.key]
    assert (row["state"], "hostNetwork" in row["message"]) == ("host network", True)
    assert host.pod.key in node.agent.cli("status").stdout
    why = node.agent.cli("explain", "--from", host.pod.key, "--to", "server.plain:80").stdout
    assert "hostNetwork" in why


def test_a_pod_restarted_in_place_is_enrolled_in_its_new_namespace(node: Node) -> None:
    pod = node.start("shop", "restarted")
    until(lambda: node.state(pod) == "enrolled")
    before = node.rows()[pod.pod.key]["cookie"]
    node.kubelet.restart_sandbox(pod)
    until(lambda: node.rows()[pod.pod.key]["cookie"] not in (0, before))
    assert node.state(pod) == "enrolled"
    assert node.get(node.kubelet.container(pod)) == 200


def test_a_pod_that_ended_leaves_nothing(node: Node) -> None:
    pod = node.start("shop", "ended")
    until(lambda: node.state(pod) == "enrolled")
    enrolled = len(node.agent.cli_json("status")["pods"]["enrolled"])
    node.kubelet.stop_sandbox(pod)
    node.kubelet.remove(pod)
    until(lambda: len(node.agent.cli_json("status")["pods"]["enrolled"]) == enrolled - 1)
    assert node.state(pod) == "pending", "its object is still there"
    node.write_pods()
    until(lambda: pod.pod.key not in node.rows())


def test_a_change_of_the_label_resets_no_connection_in_either_direction(node: Node) -> None:
    """Through a route, so that the connections of the enrolled pod are proxied ones."""
    route = manifests.http_route("plain", "all", "server", [{"backendRefs": [manifests.backend("server", 1)]}])
    node.agent.apply(lambda: node.bed.manifests.write("30-route.yaml", route))
    pod = node.start("shop", "turncoat")
    until(lambda: node.state(pod) == "enrolled")
    container = node.kubelet.container(pod)
    node.bed.serve(container)
    with ExitStack() as stack:
        streams = [stack.enter_context(stream(node, node.server, pod.pod.ipv4, 8080))]
        for wish, state in (("disabled", "not enrolled"), ("enabled", "enrolled"), ("disabled", "not enrolled")):
            direct = node.server.ipv4 if wish == "enabled" else ""
            streams.append(stack.enter_context(stream(node, container, node.bed.vip(1), 80, direct)))
            assert [one.ask() for one in streams] == ["same"] * len(streams), f"before {wish}"
            pod.pod.document["metadata"]["labels"] = {LABEL: wish}
            node.write_pods()
            until(lambda state=state: node.state(pod) == state)  # type: ignore[misc]  # the default binds it
            assert [one.ask() for one in streams] == ["same"] * len(streams), f"after {wish}"
    (node.bed.manifests.path / "30-route.yaml").unlink()


def test_no_request_fails_while_a_namespace_is_enrolled_and_un_enrolled_again_and_again(node: Node) -> None:
    """By new connections and by kept ones, proxied while it is enrolled: an L7 rule protects the server."""
    rule = {"sources": [{"namespace": "shop"}], "http": {"methods": ["DELETE"]}}
    deny = manifests.authorization_policy(
        "plain", "no-delete", "server", action="DENY", level="Application", rules=[rule]
    )
    node.agent.apply(lambda: node.bed.manifests.write("40-deny.yaml", deny))
    pod = node.start("shop", "busy")
    until(lambda: node.state(pod) == "enrolled")
    proxied = node.agent.metrics().total("nodeagent_requests_total", source_workload="busy")
    argv = [sys.executable, "-S", "-c", _LOADER, node.server.ipv4]
    with node.bed.popen(node.kubelet.container(pod), argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loader:
        for number in range(FLIPS):
            wish, state = (("disabled", "not enrolled"), ("enabled", "enrolled"))[number % 2]
            pod.pod.document["metadata"]["labels"] = {LABEL: wish}
            node.write_pods()
            until(lambda state=state: node.state(pod) == state)  # type: ignore[misc]  # the default binds it
            time.sleep(0.1)
        text, _ = loader.communicate(b"", 10)
    counts = json.loads(text)
    print(f"\n{FLIPS} changes of the label under load: {counts}")
    assert counts["failed"] == []
    assert counts["new"] > 50
    assert counts["kept"] > 50
    assert node.agent.metrics().total("nodeagent_requests_total", source_workload="busy") > proxied + 50
    (node.bed.manifests.path / "40-deny.yaml").unlink()


def test_listeners_of_a_pod_that_left_go_once_nothing_is_proxied_for_it(node: Node) -> None:
    pod = node.start("shop", "leaver")
    until(lambda: node.state(pod) == "enrolled")
    listening = ["nsenter", f"--net={pod.pod.netns}", "ss", "-Hltn"]
    assert subprocess.run(listening, capture_output=True, check=True).stdout
    pod.pod.document["metadata"]["labels"] = {LABEL: "disabled"}
    node.write_pods()
    until(lambda: not subprocess.run(listening, capture_output=True, check=True).stdout, seconds=20)


def test_pods_that_run_when_the_agent_starts_are_enrolled_before_it_is_ready(node: Node) -> None:
    pod = node.start("shop", "early")
    until(lambda: node.state(pod) == "enrolled")
    node.agent.stop()
    with stream(node, node.kubelet.container(pod), node.bed.vip(1), 80, direct=node.server.ipv4) as old:
        node.agent.start()
        assert node.state(pod) == "enrolled"
        assert node.agent.metrics().total("nodeagent_connections_unpoliced_total", source_workload="early") == 1
        assert old.ask() == "same"
        rows = node.agent.cli_json("get", "connections", "-n", "shop", "early")["items"]
        assert [row["path"] for row in rows] == ["unpoliced"]


def test_after_a_reboot_what_started_before_the_agent_is_enrolled_and_listed(node: Node) -> None:
    """bpffs is empty, and a pod has connected before any hook was there."""
    node.agent.kill()
    shutil.rmtree(node.agent.bpffs)
    pod = node.start("shop", "first")
    with stream(node, node.kubelet.container(pod), node.bed.vip(1), 80, direct=node.server.ipv4) as old:
        node.agent.start()
        assert node.state(pod) == "enrolled"
        assert node.agent.metrics().total("nodeagent_connections_unpoliced_total", source_workload="first") == 1
        assert old.ask() == "same"
    assert node.get(node.kubelet.container(pod)) == 200


_LOADER = """
import http.client, json, select, sys
counts = {"new": 0, "kept": 0, "failed": []}
def ask(c, kind):
    try:
        c.request("GET", "/")
        r = c.getresponse()
        r.read()
        if r.status != 200:
            raise OSError(f"status {r.status}")
        counts[kind] += 1
    except (OSError, http.client.HTTPException) as error:
        counts["failed"].append(f"{kind}: {error!r}")
kept = [http.client.HTTPConnection(sys.argv[1], 8080, timeout=5) for _ in range(4)]
for c in kept:
    c.connect()
number = 0
while not select.select([sys.stdin], [], [], 0.001)[0]:
    c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5)
    ask(c, "new")
    number += 1
    if number % 10 == 0:  # one that is kept from here on, whatever the pod is now
        kept.append(c)
        kept.pop(0).close()
    else:
        c.close()
    for c in kept:
        c.auto_open = 0
        ask(c, "kept")
print(json.dumps(counts))
"""

_STREAM = """
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
c.connect()
own = c.sock.getsockname()
print("ready", flush=True)
for line in sys.stdin:
    try:
        c.request("GET", "/")
        r = c.getresponse()
        r.read()
        print("same" if r.status == 200 and c.sock and own == c.sock.getsockname() else "another", flush=True)
    except OSError as error:
        print(error, flush=True)
"""


@dataclass
class Stream:
    """One keep-alive connection of a process in a pod."""

    stdin: IO[str]
    stdout: IO[str]

    def ask(self) -> str:
        """ "same": a response came on the connection that was there at the beginning."""
        print(file=self.stdin, flush=True)
        return self.stdout.readline().strip()


@contextmanager
def stream(node: Node, container: Pod, address: str, port: int, direct: str = "") -> Iterator[Stream]:
    """`direct`: the address of the only endpoint, for when no agent does what kube-proxy would."""
    argv = [sys.executable, "-S", "-c", _STREAM, direct or address, "8080" if direct else str(port)]
    with node.bed.popen(container, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        made = Stream(process.stdin, process.stdout)
        assert made.stdout.readline() == "ready\n"
        assert made.ask() == "same"
        yield made
        process.stdin.close()
        process.wait(5)
