"""Real cgroups, namespaces and processes, as a kubelet and a runtime would make them; no agent."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.agent import pod_finder
from nodeagent.agent.pod_finder import PodFinder
from nodeagent.kernel import kubepods
from nodeagent.kernel.processes import inode_behind
from tests.testbed import Testbed
from tests.testbed.kubelet import Kubelet, KubePod


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed(61) as made:
        yield made


@pytest.fixture
def kubelet(bed: Testbed) -> Iterator[Kubelet]:
    made = Kubelet(bed, f"{secrets.token_hex(4)}/kubepods")
    yield made
    made.close()


@pytest.fixture
def finder(kubelet: Kubelet) -> Iterator[PodFinder]:
    made = PodFinder(kubelet.root.parent)
    yield made
    made.close()


def scan(finder: PodFinder) -> bool:
    """One whole round, without the waits."""
    changed = finder.list_pods()
    while finder._to_look:
        changed |= finder.look(pod_finder.LOOKS)
    return changed


def namespace_of(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_found(finder: PodFinder, pod: KubePod) -> bool:
    sandbox = finder.sandboxes.get(pod.uid)
    return sandbox is not None and sandbox.inode == namespace_of(pod.pod.netns) == inode_behind(sandbox.namespace)


def wait_found(finder: PodFinder, pod: KubePod) -> None:
    """A process that was just started may not have entered its cgroup and namespace yet."""
    deadline = time.monotonic() + 5
    while not is_found(finder, pod):
        assert time.monotonic() < deadline, (finder.refused, finder.waiting)
        scan(finder)
        time.sleep(0.01)


@pytest.mark.parametrize("qos", ["", "burstable", "besteffort"])
def test_a_pod_is_found_by_its_sandbox(kubelet: Kubelet, finder: PodFinder, qos: str) -> None:
    pod = kubelet.add_pod("shop", f"web{qos}", qos=qos)
    assert scan(finder), "it has seen where pods are"
    assert finder.sandboxes == {}
    kubelet.start_sandbox(pod)
    wait_found(finder, pod)
    assert not scan(finder), "nothing changed since"
    assert finder.waiting == {}
    assert namespace_of(Path(finder.paths()[pod.uid])) == namespace_of(pod.pod.netns)


def test_a_systemd_driver_below_a_root_of_its_own(bed: Testbed, kubelet: Kubelet) -> None:
    pod = kubelet.add_pod("shop", "slices")
    top = bed.cgroup / "n.slice"
    parts = ["n-kubepods.slice", "n-kubepods-burstable.slice"]
    parts.append(f"n-kubepods-burstable-pod{pod.uid.replace('-', '_')}.slice")
    scope = top.joinpath(*parts, f"cri-containerd-{'ab' * 32}.scope")
    scope.mkdir(parents=True)
    finder = PodFinder(top)
    try:
        pause = bed.popen(kubelet.container(pod), ["sleep", "infinity"])
        pod.sandboxes.append(pause)
        time.sleep(0.1)
        (scope / "cgroup.procs").write_text(str(pause.pid))
        wait_found(finder, pod)
        assert finder.kubepods == top / "n-kubepods.slice"
    finally:
        finder.close()


def test_the_oldest_process_decides_whatever_a_younger_one_enters(
    bed: Testbed, kubelet: Kubelet, finder: PodFinder
) -> None:
    pod, other = kubelet.add_pod("shop", "a"), kubelet.add_pod("shop", "b")
    for one in (pod, other):
        kubelet.start_sandbox(one)
        wait_found(finder, one)
    container = kubelet.container(pod)
    for place in (other.pod.netns, bed.network.node_path, Path("/proc/self/ns/net")):
        guest = bed.popen(container, ["nsenter", f"--net={place}", "sleep", "infinity"])
        pod.sandboxes.append(guest)
    time.sleep(0.1)
    finder.sandboxes.pop(pod.uid).close()  # forces a new look
    wait_found(finder, pod)
    assert is_found(finder, other)


def test_a_restart_in_place_is_another_namespace_and_what_was_there_is_held_until_then(
    kubelet: Kubelet, finder: PodFinder
) -> None:
    pod = kubelet.add_pod("shop", "restarted")
    kubelet.start_sandbox(pod)
    wait_found(finder, pod)
    before = finder.sandboxes[pod.uid].inode
    kubelet.stop_sandbox(pod)
    assert not scan(finder)
    assert finder.sandboxes[pod.uid].inode == before
    kubelet.restart_sandbox(pod)
    wait_found(finder, pod)
    assert finder.sandboxes[pod.uid].inode != before


def test_another_process_in_the_same_namespace_changes_nothing(
    bed: Testbed, kubelet: Kubelet, finder: PodFinder
) -> None:
    pod = kubelet.add_pod("shop", "no-pause")
    kubelet.start_sandbox(pod)
    wait_found(finder, pod)
    path = finder.paths()
    kubelet.stop_sandbox(pod)
    kubelet.start_sandbox(pod)
    time.sleep(0.1)
    assert not scan(finder)
    assert finder.paths() == path
    assert finder.sandboxes[pod.uid].process.is_alive()


def test_a_pod_in_the_nodes_namespace_is_refused_once_it_has_had_time_to_leave_it(
    bed: Testbed, kubelet: Kubelet, finder: PodFinder
) -> None:
    pod = kubelet.add_pod("kube-system", "proxy", host_network=True)
    bed.popen(replace(kubelet.container(pod), netns=Path("/proc/self/ns/net")), ["sleep", "infinity"])
    time.sleep(0.1)
    scan(finder)
    assert finder.refused == {}, "it may only have joined the cgroup"
    finder._clock = lambda: time.monotonic() + pod_finder.JOINING_SECONDS + 1
    assert scan(finder)
    assert "node's own" in finder.refused[pod.uid]
    assert finder.sandboxes == {}


def test_the_runtimes_namespace_is_the_nodes_also_where_it_is_not_ours(
    bed: Testbed, kubelet: Kubelet, finder: PodFinder
) -> None:
    """As where the whole node is in a namespace of its own, and the agent in another one."""
    pod = kubelet.add_pod("shop", "web")
    node = replace(kubelet.container(pod), netns=bed.network.node_path, cgroup=bed.cgroup)
    procs = kubelet.container(pod).cgroup / "cgroup.procs"
    bed.popen(node, ["sh", "-c", f"sleep infinity & echo $! >{procs}; wait"])
    time.sleep(0.2)
    finder._clock = lambda: time.monotonic() + pod_finder.JOINING_SECONDS + 1
    scan(finder)
    finder._clock = lambda: time.monotonic() + 2 * pod_finder.JOINING_SECONDS + 2
    scan(finder)
    assert "node's own" in finder.refused[pod.uid]


def test_two_pods_with_one_namespace_keep_the_first(bed: Testbed, kubelet: Kubelet, finder: PodFinder) -> None:
    first, second = kubelet.add_pod("shop", "first"), kubelet.add_pod("shop", "second")
    kubelet.start_sandbox(first)
    wait_found(finder, first)
    bed.popen(replace(kubelet.container(second), netns=first.pod.netns), ["sleep", "infinity"])
    time.sleep(0.1)
    scan(finder)
    finder._clock = lambda: time.monotonic() + pod_finder.JOINING_SECONDS + 1
    scan(finder)
    assert first.uid in finder.refused[second.uid]
    assert is_found(finder, first)
    kubelet.stop_sandbox(first)
    kubelet.remove(first)
    scan(finder)
    scan(finder)
    assert second.uid in finder.sandboxes
    assert finder.refused == {}


def test_a_pod_whose_cgroup_is_gone_is_forgotten_with_all_descriptors(kubelet: Kubelet, finder: PodFinder) -> None:
    scan(finder)
    before = len(os.listdir("/proc/self/fd"))
    pod = kubelet.add_pod("shop", "short")
    kubelet.start_sandbox(pod)
    wait_found(finder, pod)
    kubelet.stop_sandbox(pod)
    kubelet.remove(pod)
    assert scan(finder)
    assert finder.sandboxes == {}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("after", [0.0, 0.3])
def test_a_new_pod_is_found_within_milliseconds_of_its_sandbox(
    kubelet: Kubelet, finder: PodFinder, after: float
) -> None:
    """`after`: how long its cgroup is there before."""

    async def scenario() -> float:
        found = asyncio.Event()
        running = asyncio.create_task(finder.run(found.set))
        await asyncio.sleep(0.1)
        found.clear()  # that there are pods at all
        pod = await asyncio.to_thread(kubelet.add_pod, "shop", "quick")
        await asyncio.sleep(after)
        begin = time.monotonic()
        await asyncio.to_thread(kubelet.start_sandbox, pod)
        await asyncio.wait_for(found.wait(), 5)
        running.cancel()
        assert is_found(finder, pod)
        return time.monotonic() - begin

    taken = asyncio.run(scenario())
    assert taken < 0.2, taken


def scans_in(finder: PodFinder, seconds: float) -> int:
    """How many while it runs for so long."""
    scans = 0
    listed = finder.list_pods

    def list_pods() -> bool:
        nonlocal scans
        scans += 1
        return listed()

    async def idle() -> None:
        running = asyncio.create_task(finder.run(lambda: None))
        await asyncio.sleep(seconds)
        running.cancel()

    finder.list_pods = list_pods  # type: ignore[method-assign]  # counted, and done
    asyncio.run(idle())
    return scans


def test_a_node_where_every_pod_is_settled_and_watched_is_seldom_scanned(
    kubelet: Kubelet, finder: PodFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_finder, "SCAN_SECONDS", 0.02)
    pod = kubelet.add_pod("shop", "settled")
    kubelet.start_sandbox(pod)
    wait_found(finder, pod)
    assert scans_in(finder, 0.4) <= 2  # events of its start may be told late


@pytest.mark.parametrize("why", ["a pod waits for its sandbox", "inotify does not tell"])
def test_a_node_that_is_not_is_scanned_often(
    kubelet: Kubelet, finder: PodFinder, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(pod_finder, "SCAN_SECONDS", 0.02)
    monkeypatch.setattr(pod_finder, "YOUNG_SECONDS", 0.0)
    pod = kubelet.add_pod("shop", "settled")
    if why == "inotify does not tell":
        kubelet.start_sandbox(pod)
        wait_found(finder, pod)
        monkeypatch.setattr(finder._watch, "watch", lambda _path: False)
    assert scans_in(finder, 0.4) >= 5


@pytest.mark.parametrize("watched", [True, False])
def test_a_pod_that_comes_while_pods_are_listed_is_not_missed(
    kubelet: Kubelet, finder: PodFinder, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """`watched`: whether somebody looked there before."""
    (kubelet.root / "burstable").mkdir()
    if watched:
        scan(finder)
    listed, coming = kubepods.list_pods, ["late"]

    def list_pods(root: Path, most: int) -> kubepods.Listing:
        found = listed(root, most)
        if coming:
            kubelet.add_pod("shop", coming.pop(), qos="burstable")
        return found

    monkeypatch.setattr(kubepods, "list_pods", list_pods)

    async def scenario() -> None:
        there = asyncio.Event()
        running = asyncio.create_task(finder.run(lambda: None, there.set))
        await asyncio.wait_for(there.wait(), pod_finder.SCAN_SECONDS)
        running.cancel()

    asyncio.run(scenario())


def test_an_idle_node_costs_next_to_nothing(kubelet: Kubelet, finder: PodFinder) -> None:
    for number in range(20):
        kubelet.start_sandbox(kubelet.add_pod("shop", f"p{number}"))
    for pod in kubelet.pods:
        wait_found(finder, pod)

    async def idle() -> None:
        running = asyncio.create_task(finder.run(lambda: None))
        await asyncio.sleep(0.5)
        running.cancel()

    begin = time.process_time()
    asyncio.run(idle())
    assert time.process_time() - begin < 0.05
