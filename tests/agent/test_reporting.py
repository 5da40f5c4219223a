"""What an agent tells the API server of its node, and when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from nodeagent.agent import left_out
from nodeagent.agent import reporting as reporting_module
from nodeagent.agent.membership import InDaemonSet, membership
from nodeagent.agent.object_source import api_client
from nodeagent.agent.readings import Facts, NodeState
from nodeagent.agent.reporting import GENERATIONS, Reporting, Steady, own_namespace, reporting_of
from nodeagent.agent.settings import Settings
from nodeagent.config.conditions import Conditions
from nodeagent.config.objects import Contents, ObjectSet
from nodeagent.config.resources import PodObject
from nodeagent.config.source import Freshness
from nodeagent.kernel import abi
from nodeagent.kube.relay import Relay
from nodeagent.kube.telling import Telling
from nodeagent.status.mesh_node import SYNCED, Counted, NodeFacts
from nodeagent.status.occurrences import Occurrence
from nodeagent.status.pace import Slowly

FACTS = Facts("1", 1, 1, 0, 0, 0, True, False, 0, 0, 0, 0, 0, {})


@dataclass
class FakeView:
    facts_: Facts = FACTS
    problem: str = ""
    said: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def ready(self) -> str:
        return self.problem

    def workers(self) -> tuple[int, int]:
        return 1, 2

    def left_out(self) -> dict[str, str]:
        return self.refused

    def in_force(self) -> int:
        return self.facts_.in_force

    def state(self) -> NodeState:
        one = self.facts_
        return NodeState(
            one.attached, one.bypass, one.pods, one.pods_failed, one.generation, one.in_force, one.source
        )

    def errors(self) -> list[str]:
        return self.said


@dataclass
class FakeConfiguration:
    compiled: ObjectSet
    conditions: Conditions = field(default_factory=Conditions)


@dataclass
class FakeTelling:
    told: list[tuple[NodeFacts, ObjectSet]] = field(default_factory=list)
    compiled_: list[ObjectSet] = field(default_factory=list)
    happened_: list[Occurrence] = field(default_factory=list)
    running: bool = False

    def happened(self, occurrences: list[Occurrence]) -> None:
        self.happened_ += occurrences

    def compiled(self, objects: ObjectSet, conditions: Any) -> None:
        self.compiled_.append(objects)

    def node(self, facts: NodeFacts, in_force: ObjectSet) -> None:
        self.told.append((facts, in_force))

    async def run(self) -> None:
        self.running = True
        await asyncio.Event().wait()

    @property
    def last(self) -> NodeFacts:
        return self.told[-1][0]


def objects(digest: str) -> ObjectSet:
    return ObjectSet(contents={"HTTPRoute": Contents(1, digest)})


def reporting() -> tuple[Reporting, FakeTelling]:
    telling = FakeTelling()
    return Reporting(cast("Telling", telling), "n1"), telling


async def started(one: Reporting, view: FakeView) -> asyncio.Task[None]:
    ours = asyncio.Event()
    ours.set()
    task = asyncio.create_task(one.run(view, ours))
    await asyncio.sleep(0.05)
    return task


def test_what_is_in_force_is_told_and_not_what_is_on_its_way() -> None:
    async def story() -> None:
        one, telling = reporting()
        view = FakeView()
        one.compiled(1, FakeConfiguration(objects("a")))
        task = await started(one, view)
        one.compiled(2, FakeConfiguration(objects("b")))
        await asyncio.sleep(0.1)
        assert telling.told[-1][1] == objects("a")
        view.facts_ = replace(FACTS, generation=2, in_force=2)
        one.applied()
        await asyncio.sleep(0.1)
        assert telling.told[-1][1] == objects("b")
        assert telling.compiled_ == [objects("a"), objects("b")]
        task.cancel()

    asyncio.run(story())


def test_a_generation_that_was_skipped_leaves_the_one_before_in_force() -> None:
    async def story() -> None:
        one, telling = reporting()
        for generation in range(1, 2 * GENERATIONS):
            one.compiled(generation, FakeConfiguration(objects(str(generation))))
        newest = 2 * GENERATIONS - 3
        task = await started(one, FakeView(replace(FACTS, in_force=newest)))
        assert telling.told[-1][1] == objects(str(newest))
        task.cancel()

    asyncio.run(story())


def test_nothing_is_told_while_another_agent_speaks_for_the_node() -> None:
    async def story() -> None:
        one, telling = reporting()
        ours = asyncio.Event()
        task = asyncio.create_task(one.run(FakeView(), ours))
        await asyncio.sleep(0.05)
        before = telling.running, len(telling.told)
        ours.set()
        await asyncio.sleep(0.05)
        assert (before, telling.running, len(telling.told)) == ((False, 0), True, 1)
        task.cancel()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        (FACTS, "Enforcing"),
        (replace(FACTS, bypass=True), "Bypassed"),
        (replace(FACTS, attached=False, bypass=True), "Detached"),
    ],
)
def test_the_mode_is_what_the_hooks_do(facts: Facts, mode: str) -> None:
    async def story() -> None:
        one, telling = reporting()
        task = await started(one, FakeView(facts))
        assert telling.last.mode == mode
        task.cancel()

    asyncio.run(story())


def test_a_source_that_is_not_followed_makes_the_node_stale() -> None:
    async def story() -> None:
        one, telling = reporting()
        away = Freshness(stale=60.0, problem="httproutes: forbidden")
        task = await started(one, FakeView(replace(FACTS, source=away)))
        assert (telling.last.sync, telling.last.sync_problem) == ("Stale", "httproutes: forbidden")
        task.cancel()

    asyncio.run(story())


def test_a_problem_is_news_once_it_has_lasted_and_over_at_once() -> None:
    steady = Steady(3.0)
    assert steady("", 9.0) == ""
    assert [steady("x", now) for now in (10.0, 12.9)] == ["", ""]
    assert steady("y", 13.0) == "y"
    assert steady("", 13.1) == ""
    assert steady("x", 13.2) == ""


def test_a_node_that_was_never_ready_says_at_once_that_it_is_not() -> None:
    steady = Steady(3.0)
    assert [steady("x", 10.0), steady("", 10.1), steady("x", 10.2)] == ["x", "", ""]


def test_numbers_that_move_with_every_pod_are_told_once_in_a_while() -> None:
    slowly: Slowly[Counted] = Slowly(10.0)
    one, two, three = (Counted(enrolled=number) for number in (1, 2, 3))
    assert [slowly(value, now) for value, now in ((one, 0.0), (two, 1.0), (three, 9.9))] == [one, one, one]
    assert slowly(three, 10.0) == three
    assert slowly(one, 300.0) == one
    assert slowly.at_once(two, 301.0) == two
    assert [slowly(three, now) for now in (310.0, 311.0)] == [two, three]


def test_pods_and_workers_are_counted_and_a_refused_pod_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_out, "LASTING", 0.0)
    web = PodObject("shop", "web", "default", "", ("10.0.0.1",), "enabled", "", "n1", host_network=False, uid="u")
    host = replace(web, name="host", host_network=True, uid="v")

    async def story() -> None:
        one, telling = reporting()
        one.compiled(1, FakeConfiguration(ObjectSet(pods={"shop/web": web, "shop/host": host})))
        view = FakeView(replace(FACTS, pods=5, pods_failed=1), refused={"shop/web": "its namespace is another pod's"})
        task = await started(one, view)
        assert telling.last.counted == Counted(5, 1, 1, 1, 2)
        assert telling.last.layout == abi.LAYOUT_VERSION
        assert {(told.regarding.uid, told.reason) for told in telling.happened_} == {
            ("u", "NotEnrolled"),
            ("v", "HostNetwork"),
        }
        task.cancel()

    asyncio.run(story())


def test_the_namespace_is_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    file = tmp_path / "namespace"
    assert own_namespace(file) == "nodeagent"
    file.write_text("mesh\n")
    assert own_namespace(file) == "mesh"
    monkeypatch.setenv("POD_NAMESPACE", "other")
    assert own_namespace(file) == "other"


def test_a_directory_of_manifests_has_nobody_to_tell(tmp_path: Path) -> None:
    there, here = Settings(manifests=None, node_name="n1"), Settings(manifests=tmp_path)
    assert api_client(here) is None
    assert reporting_of(here, None, Relay()) is None
    assert reporting_of(there, api_client(there), Relay()) is not None


def test_a_directory_of_manifests_in_a_daemonset_has_an_api_server_and_no_status(tmp_path: Path) -> None:
    settings = Settings(manifests=tmp_path, daemonset="mesh/nodeagent", node_name="n1")
    client = api_client(settings)
    assert client is not None
    assert reporting_of(settings, client, Relay()) is None
    assert isinstance(membership(settings, client, lambda: True), InDaemonSet)


def test_changes_that_are_on_their_way_at_each_look_are_no_lasting_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting_module, "LOOK_SECONDS", 0.1)

    async def story() -> None:
        one, telling = reporting()
        one._behind = Steady(0.35)
        one.compiled(1, FakeConfiguration(objects("1")))
        view = FakeView()
        task = await started(one, view)
        for generation in range(2, 12):
            await asyncio.sleep(max(0.0, 0.08 - time.monotonic() % 0.1))
            one.compiled(generation, FakeConfiguration(objects(str(generation))))
            view.facts_ = replace(FACTS, generation=generation, in_force=generation - 1)
            await asyncio.sleep(0.04)  # a look comes
            view.facts_ = replace(FACTS, generation=generation, in_force=generation)
            one.applied()
        assert {facts.sync for facts, _ in telling.told[1:]} == {SYNCED}
        task.cancel()

    asyncio.run(story())
