"""A node without an agent: the hooks attached to a testbed's cgroup, and maps that tests fill themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nodeagent.core.kernel_state import LocalPod
from nodeagent.core.model import Destination, Snapshot, Workload
from nodeagent.kernel import layout, netns
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.bytecode import Bytecode, compile_in_child
from nodeagent.kernel.instance import Instance
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.sync import KernelSync
from tests.kernel.remote import Remote
from tests.testbed import Pod, Testbed

SUBNET = 41
FAR_FUTURE_NS = 2**62


@dataclass
class Node:
    """One testbed with hooks, an enrolled pod `web`, and a pod `server` that is not enrolled."""

    bed: Testbed
    instance: Instance
    maps: Maps
    kernel: KernelSync
    web: Pod
    server: Pod
    client: Remote  # in web, hooked
    backend: Remote  # in server, hooked
    worker: Remote  # in web's namespace, not hooked
    local: dict[str, LocalPod]
    workloads: dict[str, Workload]
    destinations: dict[tuple[str, int], Destination] = field(default_factory=dict)
    generation: int = 0
    passing: dict[int, tuple[str, ...]] = field(default_factory=dict)  # known, and left alone
    _vips: int = 0

    def vip(self) -> str:
        """A service address that no other test uses."""
        self._vips += 1
        return self.bed.vip(self._vips)

    def vip6(self) -> str:
        self._vips += 1
        return self.bed.vip6(self._vips)

    def configure(self, *destinations: Destination) -> None:
        """Add destinations to the configuration and write it."""
        self.destinations |= {(d.address, d.port): d for d in destinations}
        self.sync()

    def remove(self, *destinations: Destination) -> None:
        for destination in destinations:
            del self.destinations[destination.address, destination.port]
        self.sync()

    def sync(self) -> None:
        self.generation += 1
        self.kernel.sync(Snapshot(self.generation, dict(self.destinations), self.workloads), self.local, self.passing)

    def pass_by(self, pod: Pod) -> None:
        """From now on this pod is one that is not enrolled, and known as such."""
        found = netns.inspect([str(pod.netns)])[str(pod.netns)]
        self.passing[found.cookie] = (pod.ipv4, pod.ipv6)
        self.sync()

    def change_pod(self, **fields: object) -> None:
        """Change the workload of `web`, e.g. fail_mode."""
        key = self.web.key
        self.workloads[key] = replace(self.workloads[key], **fields)  # type: ignore[arg-type]
        self.sync()

    @property
    def cookie(self) -> int:
        return self.local[self.web.key].cookie

    def counts(self, destination: str = "") -> Counter[Outcome]:
        """opened by outcome, of one destination ("" = the rows without one)."""
        found: Counter[Outcome] = Counter()
        for row in self.maps.connections():
            if row.destination == destination:
                found[row.outcome] += row.opened
        return found

    def beat(self, worker: int = 0, age_s: float = 0.0) -> None:
        table = self.maps.map(layout.HEARTBEATS)
        beat = time.monotonic_ns() - int(age_s * 1e9)
        table.update(worker.to_bytes(4, "little"), beat.to_bytes(8, "little"))

    def start_worker(self, worker: int = 0, family: int = 4) -> int:
        """A listener in web's namespace, entered in the maps, with a fresh heartbeat: its port."""
        address = "127.0.0.1" if family == 4 else "::1"
        port = int(self.worker(f"listen({address!r})"))
        self.maps.set_listener(self.cookie, worker, family, port)
        self.beat(worker)
        return port

    def stop_workers(self) -> None:
        for row in self.maps.listeners():
            self.maps.delete_listener(row.netns, row.worker, row.family)
        for worker in range(16):
            self.maps.clear_heartbeat(worker)
        self.worker("[l.close() for l in held.values()]")
        self.worker("held.clear()")


@pytest.fixture(scope="session")
def bytecode() -> Bytecode:
    return compile_in_child()


@pytest.fixture(scope="session")
def _node(bytecode: Bytecode) -> Iterator[Node]:
    with Testbed(SUBNET) as bed:
        instance = Instance(bed.cgroup, bed.bpffs)
        instance.attach(bytecode=bytecode)
        node = _make_node(bed, instance)
        try:
            yield node
        finally:
            for remote in (node.client, node.backend, node.worker):
                remote.close()
            node.maps.close()
            instance.detach()


def _make_node(bed: Testbed, instance: Instance) -> Node:
    web, server = bed.add_pod("shop", "web"), bed.add_pod("shop", "server")
    found = netns.inspect([str(web.netns)])[str(web.netns)]
    workload = Workload("shop", "web", "web-sa", "web", (web.ipv4, web.ipv6), str(web.netns), enrolled=True)
    maps = instance.open_maps()
    node = Node(
        bed=bed,
        instance=instance,
        maps=maps,
        kernel=KernelSync(maps),
        web=web,
        server=server,
        client=Remote(bed, web),
        backend=Remote(bed, server),
        worker=Remote(bed, web, hooked=False),
        local={web.key: LocalPod(found.cookie, found.addresses)},
        workloads={workload.key: workload},
    )
    node.sync()
    return node


@pytest.fixture
def node(_node: Node) -> Iterator[Node]:
    """The node with nothing configured and no worker; whatever a test leaves is taken away."""
    yield _node
    for remote in (_node.client, _node.backend):
        remote("[s.close() for s in held.values()]")
        remote("held.clear()")
    _node.stop_workers()
    _node.maps.set_bypass(False)
    _node.maps.sweep_originals(FAR_FUTURE_NS)
    _node.destinations.clear()
    _node.sync()


@pytest.fixture
def wait() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that the kernel does a moment later (a socket's end)."""

    def until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)

    return until


@pytest.fixture(scope="session")
def sources() -> Path:
    return layout.sources()
