"""Pods whose first act is a request, at every interval from their sandbox: a cluster needs 0.3 s and more."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.agent_kernel.test_found_pods import Node, until
from tests.testbed import Testbed, manifests
from tests.testbed.kubelet import NODE, Kubelet, KubePod

STARTS = 50
DENIED, ALLOWED = 1, 2  # vips

# The first thing that the process does is connect(): what came of it is its exit code.
_FIRST_ACT = """
import socket, sys
s = socket.socket()
s.settimeout(5)
try:
    s.connect((sys.argv[1], 8080))
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    answer = s.recv(12)
    sys.exit({b"HTTP/1.1 200": 10, b"HTTP/1.1 403": 11}.get(answer, 12))
except ConnectionRefusedError:
    sys.exit(13)
except PermissionError:
    sys.exit(14)
except OSError:
    sys.exit(15)
"""
WORDS = {10: "200", 11: "403", 13: "refused", 14: "denied"}


@pytest.fixture(scope="module", params=["refuse", "direct"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with Testbed(63) as bed:
        server, other = bed.add_pod("plain", "server"), bed.add_pod("plain", "other")
        for pod in (server, other):
            bed.serve(pod)
        made = Node(bed, Kubelet(bed), bed.agent("--node-name", NODE, "--unclassified", request.param), server)
        bed.manifests.write(
            "00-namespaces.yaml", manifests.namespace("shop"), manifests.namespace("plain", enrolled=False)
        )
        for number, (name, pod) in enumerate((("guarded", server), ("free", other)), 1):
            bed.manifests.write(
                f"2{number}-service.yaml",
                manifests.service("plain", name, [bed.vip(number)], port=8080),
                manifests.endpoint_slice("plain", name, [pod.ipv4]),
            )
        source = {"sources": [{"namespace": "shop"}], "http": {"methods": ["GET"]}}
        deny = manifests.authorization_policy(
            "plain", "no-get", "guarded", action="DENY", level="Application", rules=[source]
        )
        bed.manifests.write("30-deny.yaml", deny)
        made.write_pods()
        made.agent.start()
        yield made
        made.agent.stop()


@pytest.fixture
def mode(node: Node) -> str:
    return node.agent.options[-1]


def begin(node: Node, name: str, vary: float) -> tuple[KubePod, int]:
    """A pod from nothing to the end of its first act.  `vary`: seconds between its sandbox and its container."""
    pod = node.start("shop", name)
    time.sleep(vary)
    done = node.bed.run(node.kubelet.container(pod), [sys.executable, "-S", "-c", _FIRST_ACT, node.server.ipv4])
    return pod, done.returncode


@contextmanager
def held_up(node: Node) -> Iterator[None]:
    """The agent gets no CPU; its workers do."""
    assert node.agent.process
    os.kill(node.agent.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.agent.process.pid, signal.SIGCONT)


def end(node: Node, pod: KubePod) -> None:
    node.kubelet.stop_sandbox(pod)
    node.kubelet.remove(pod)


def counted(node: Node) -> dict[str, int]:
    metrics, name = node.agent.metrics(), "nodeagent_unclassified_connections_total"
    return {word: int(metrics.total(name, outcome=word)) for word in ("direct", "refused")}


def test_a_first_act_that_policy_denies_is_refused_or_exactly_counted(node: Node, mode: str) -> None:
    """At intervals from none up to what a container needs to start; in each fifth start nobody classifies in time."""
    before, seen = counted(node), Counter[str]()
    for number in range(STARTS):
        with held_up(node) if number % 5 == 0 else nullcontext():
            pod, code = begin(node, f"denied-{number}", vary=0.01 * number)
        seen[WORDS.get(code, str(code))] += 1
        end(node, pod)
    after = counted(node)
    print(f"\n--unclassified={mode}: {STARTS} starts whose first act is denied: {dict(seen)}")
    assert set(seen) <= {"200", "403", "refused"}
    assert after["refused"] - before["refused"] == seen["refused"]
    assert after["direct"] - before["direct"] == seen["200"]
    if mode == "refuse":
        assert seen["200"] == 0
    assert seen["403"] > STARTS / 4, "hardly one was classified in time"
    assert STARTS - seen["403"] >= STARTS / 5, "the agent was held up in so many"


def test_a_first_act_that_is_allowed_succeeds_at_the_first_try(node: Node, mode: str) -> None:
    """As in a cluster: a container needs a third of a second to start after its sandbox."""
    seen = Counter[str]()
    for number in range(STARTS):
        pod = node.start("shop", f"allowed-{number}")
        time.sleep(0.3)
        other = node.bed.pods[1].ipv4
        done = node.bed.run(node.kubelet.container(pod), [sys.executable, "-S", "-c", _FIRST_ACT, other])
        seen[WORDS.get(done.returncode, str(done.returncode))] += 1
        end(node, pod)
    print(f"\n--unclassified={mode}: {STARTS} allowed first acts: {dict(seen)}")
    assert seen == {"200": STARTS}


def test_the_node_and_pods_that_are_not_enrolled_are_not_met(node: Node, mode: str) -> None:
    plain = node.start("plain", "client")
    host = node.start("plain", "host", host_network=True)
    until(lambda: node.state(host) == "host network")
    time.sleep(1.0)
    before = counted(node)
    for pod in (plain, host):
        argv = [sys.executable, "-S", "-c", _FIRST_ACT, node.server.ipv4]
        assert node.bed.run(node.kubelet.container(pod), argv).returncode == 10
    assert counted(node) == before
