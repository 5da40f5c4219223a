from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nodeagent.agent import settling
from nodeagent.agent.bystanders import Bystanders
from nodeagent.agent.enrolment import EnrolledPod, Enrolment, release
from nodeagent.agent.programming import Programmer
from nodeagent.core.coverage import Coverage, Target
from nodeagent.core.kernel_state import Passing
from nodeagent.core.model import Snapshot, Workload
from nodeagent.kernel.netns import NetlinkError
from nodeagent.kernel.syscall import BpfError
from tests.agent import samples
from tests.agent.fakes import Namespaces, workloads

FULL = BpfError(errno.E2BIG, "cannot update verdicts: Argument list too long")


@dataclass
class Node:
    """Everything around a Programmer: what it was told, and what is to go wrong."""

    directory: Path
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    ended: list[tuple[str, frozenset[Target]]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    full: bool = False
    serving: set[str] | None = field(default_factory=set)
    passing: dict[int, tuple[str, ...]] = field(default_factory=dict)
    looks_fail: int = 0
    look_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.namespaces = Namespaces(self.directory)
        self.enrolment: Enrolment = self.namespaces.enrolment()
        self.bystanders = Bystanders(self.namespaces.inspect)
        self.programmer = Programmer(self, self, self, self.enrolment, self.bystanders, self._permitted)

    async def _permitted(self) -> None:
        return

    # ---- Workers ----

    def publish(self, snapshot: Snapshot) -> None: ...

    def add_pods(self, pods: list[EnrolledPod]) -> None:
        self.added += [pod.key for pod in pods]

    def remove_pods(self, pods: list[EnrolledPod]) -> None:
        self.removed += [pod.key for pod in pods]

    async def wait_settled(self, cookies: set[int], seconds: float) -> bool:
        return True

    # ---- Kernel ----

    async def serving_pods(self) -> set[str] | None:
        return self.serving

    def sync(self, snapshot: Snapshot, pods: Collection[EnrolledPod], passing: Passing) -> None:
        self.passing = dict(passing)
        if self.full:
            raise FULL

    def known_cookies(self) -> set[int]:
        return set()

    def coverage(self, pods: Collection[EnrolledPod]) -> Coverage:
        return Coverage()

    # ---- Connections ----

    async def end_covered(self, targets: Mapping[EnrolledPod, frozenset[Target]], known: Collection[Target]) -> int:
        await self._look()
        self.ended += [(pod.key, covered) for pod, covered in targets.items()]
        return 0

    async def note_unpoliced(self, pods: Collection[EnrolledPod], cut: Collection[str]) -> int:
        await self._look()
        self.noted += [pod.key for pod in pods]
        return 0

    def forget(self, pods: Collection[EnrolledPod]) -> None:
        self.forgotten += [pod.key for pod in pods]

    async def _look(self) -> None:
        await asyncio.sleep(self.look_seconds)
        if self.looks_fail:
            self.looks_fail -= 1
            raise NetlinkError("the netlink child ended")

    # ---- configuration ----

    def snapshot(self, generation: int, wanted: dict[str, Workload], *, denied: bool = False) -> Snapshot:
        made = samples.snapshot(generation)
        destinations = made.destinations if denied else {}
        return replace(made, destinations=destinations, workloads=wanted)


@asynccontextmanager
async def _settling(node: Node) -> AsyncIterator[None]:
    task = asyncio.create_task(node.programmer.settler.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        release(node.enrolment.pods.values())


def run(directory: Path, scenario: Callable[[Node], Awaitable[None]]) -> Node:
    node = Node(directory)

    async def main() -> None:
        async with _settling(node):
            await scenario(node)

    asyncio.run(main())
    return node


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


def test_changes_of_pods_outlive_an_apply_that_failed(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        old, new = node.namespaces.make("old", "1"), node.namespaces.make("new", "2")
        await node.programmer.apply(node.snapshot(1, workloads(old=old)))
        wanted = workloads(new=new)
        node.full = True
        with pytest.raises(BpfError):
            await node.programmer.apply(node.snapshot(2, wanted))
        assert node.removed == []  # the maps still send its connections to the listeners
        node.full = False
        await node.programmer.apply(node.snapshot(3, wanted))
        await node.programmer.settler.attempted()

    node = run(tmp_path, scenario)
    assert node.added == ["shop/old", "shop/new"]
    assert node.noted == ["shop/old", "shop/new"]
    assert node.removed == ["shop/old"]
    assert set(node.forgotten) == {"shop/old"}


def test_the_next_snapshot_does_not_wait_for_connections_to_be_looked_at(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        wanted = workloads(web=node.namespaces.make("web", "1"))
        await node.programmer.apply(node.snapshot(1, wanted))
        node.look_seconds = 0.5
        began = time.monotonic()
        await node.programmer.apply(node.snapshot(2, wanted, denied=True))
        await node.programmer.apply(node.snapshot(3, wanted, denied=True))
        assert time.monotonic() - began < 0.25
        assert node.programmer.progress.synced == 3
        assert node.ended == []
        await node.programmer.settler.attempted()

    node = run(tmp_path, scenario)
    assert [key for key, _ in node.ended] == ["shop/web"]


@pytest.mark.parametrize(("took", "pause"), [(0.001, 0.004), (0.1, 0.4), (5.0, settling.LONGEST_PAUSE)])
def test_a_look_at_what_is_covered_takes_a_fifth_of_the_time_at_most_but_does_not_wait_long(
    took: float, pause: float
) -> None:
    assert settling.pause_after(took) == pytest.approx(pause)


def test_what_is_covered_soon_after_a_look_is_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "pause_after", lambda _seconds: 0.2)

    async def scenario(node: Node) -> None:
        web = workloads(web=node.namespaces.make("web", "1"))
        for generation in range(1, 9):
            await node.programmer.apply(node.snapshot(generation, web, denied=generation % 2 == 0))
            await asyncio.sleep(0.01)
        assert len(node.ended) == 1, "the first is looked at at once, and the others wait"
        await _until(lambda: len(node.ended) > 1)
        assert len(node.ended) == 2

    run(tmp_path, scenario)


def test_a_new_pods_old_connections_do_not_wait_for_the_end_of_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "pause_after", lambda _seconds: 60.0)

    async def scenario(node: Node) -> None:
        web, job = node.namespaces.make("web", "1"), node.namespaces.make("job", "2")
        await node.programmer.apply(node.snapshot(1, workloads(web=web)))
        await node.programmer.apply(node.snapshot(2, workloads(web=web), denied=True))
        await _until(lambda: bool(node.ended))
        await node.programmer.apply(node.snapshot(3, workloads(web=web, job=job), denied=True))
        await _until(lambda: "shop/job" in node.noted)

    run(tmp_path, scenario)


def test_connections_that_cannot_be_looked_at_are_told_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "RETRY_SECONDS", 0.05)

    async def scenario(node: Node) -> None:
        wanted = workloads(web=node.namespaces.make("web", "1"))
        node.looks_fail = 2
        await node.programmer.apply(node.snapshot(1, wanted))
        assert any("the netlink child ended" in text for text in node.programmer.errors())
        await _until(lambda: node.noted == ["shop/web"])
        await node.programmer.settler.attempted()
        assert node.programmer.errors() == []

    node = run(tmp_path, scenario)
    assert node.programmer.settler.errors == 2


def test_what_a_failed_look_left_to_do_is_done_with_what_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "RETRY_SECONDS", 0.05)

    async def scenario(node: Node) -> None:
        web, job = node.namespaces.make("web", "1"), node.namespaces.make("job", "2")
        await node.programmer.apply(node.snapshot(1, workloads(web=web, job=job)))
        node.looks_fail = 1
        await node.programmer.apply(node.snapshot(2, workloads(web=web, job=job), denied=True))
        await node.programmer.settler.attempted()
        await node.programmer.apply(node.snapshot(3, workloads(web=web), denied=True))
        await _until(lambda: bool(node.ended))

    node = run(tmp_path, scenario)
    assert [key for key, _ in node.ended] == ["shop/web"]  # job left the mesh: its connections are its own
    assert set(node.forgotten) == {"shop/job"}


def test_a_pod_that_left_the_mesh_keeps_its_listeners_while_its_proxied_connections_go_on(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        path = node.namespaces.make("web", "1")
        await node.programmer.apply(node.snapshot(1, workloads(web=path)))
        plain = {key: replace(pod, enrolled=False) for key, pod in workloads(web=path).items()}
        await node.programmer.apply(node.snapshot(2, plain))
        assert list(node.passing) == [1]
        assert node.removed == []
        for serving in ({"shop/web"}, set(), None, set[str]()):
            node.serving = serving
            assert node.removed == []
            await node.programmer.let_go()
        assert node.removed == ["shop/web"]

    run(tmp_path, scenario)


def test_a_pod_that_came_back_meanwhile_keeps_everything(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        path = node.namespaces.make("web", "1")
        wanted = workloads(web=path)
        plain = {key: replace(pod, enrolled=False) for key, pod in wanted.items()}
        for generation, pods in enumerate((wanted, plain, wanted), 1):
            await node.programmer.apply(node.snapshot(generation, pods))
        assert node.passing == {}
        await node.programmer.let_go()
        await node.programmer.let_go()
        assert node.added == ["shop/web", "shop/web"]
        assert len(node.enrolment.pods) == 1

    run(tmp_path, scenario)


def test_a_pod_that_left_and_is_gone_is_forgotten_at_once(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        wanted = workloads(web=node.namespaces.make("web", "1"))
        await node.programmer.apply(node.snapshot(1, wanted))
        await node.programmer.apply(
            node.snapshot(2, {key: replace(pod, enrolled=False) for key, pod in wanted.items()})
        )
        await node.programmer.apply(node.snapshot(3, {}))
        assert node.removed == ["shop/web"]
        assert node.passing == {}

    run(tmp_path, scenario)
