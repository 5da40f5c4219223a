"""List and watch of one kind: whatever is dropped, refused, compacted or garbled, the table comes to the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.kube import list_watch as module
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.reflection import Wait
from nodeagent.kube.reflector import Reflector, Shared
from nodeagent.kube.relay import Relay
from nodeagent.kube.table import Change, Table
from tests.kube import samples
from tests.kube.memory_api import Fault, MemoryApi
from tests.kube.model import Server

POD = BY_NAME["Pod"]
NAMES = tuple("abcdefgh")

faults = st.lists(
    st.one_of(
        st.builds(Fault, st.sampled_from((0, 404, 401, 403, 410, 429, 500, 503, 400))),
        st.builds(
            Fault,
            after=st.integers(0, 4),
            end=st.sampled_from(("drop", "close", "error 410", "error 500", "error 0", "garbage")),
        ),
        st.just(Fault()),
    ),
    max_size=12,
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(1, 3)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("compact"), st.just(""), st.just(0)),
        st.tuples(st.just("run"), st.just(""), st.integers(1, 4)),
    ),
    min_size=5,
    max_size=40,
)


class Impatient(Shared):
    """Nobody waits; what was waited for is kept."""

    def __init__(self, api: MemoryApi, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__(api, "n1", changed, Relay(), lambda: 0.5)
        self.waits: list[Wait] = []

    async def wait(self, step: Wait) -> None:
        self.waits.append(step)
        await asyncio.sleep(0)


class Scene:
    def __init__(self, *plan: Fault, kind: str = "Pod", there: bool = True) -> None:
        self.kind = BY_NAME[kind]
        self.server = Server(*([self.kind.path] if there else []))
        self.api = MemoryApi(self.server, iter(plan))
        self.noted: list[Change] = []
        self.changes = 0
        self.table = Table(self.noted.append)
        self.shared = Impatient(self.api, self._changed)
        self.reflector = Reflector(self.kind, self.table, self.shared)

    def _changed(self) -> None:
        self.changes += 1

    def put(self, name: str, last: int = 1) -> None:
        self.server.put(self.kind.path, samples.pod("shop", name, f"10.0.0.{last}"))

    def same(self) -> bool:
        there = self.server.collections[self.kind.path].objects
        wanted = {f"{namespace}/{name}": value["status"]["podIP"] for (namespace, name), value in there.items()}
        return wanted == {key: pod.addresses[0] for key, pod in self.table.view.items()}

    async def until(self, what: Callable[[], bool], rounds: int = 3000) -> None:
        for _ in range(rounds):
            if what():
                return
            await asyncio.sleep(0.0001)
        raise AssertionError(f"did not come true: {self.reflector.state()}, asked {self.api.asked[-20:]}")

    def run(self, script: Callable[[], Awaitable[Any]]) -> None:
        async def all_of_it() -> None:
            task = asyncio.create_task(self.reflector.run())
            try:
                await script()
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(all_of_it())


@given(plan=faults, script=operations, page=st.integers(1, 4))
def test_whatever_happens_the_table_comes_to_what_the_server_has(
    plan: list[Fault], script: list[tuple[str, str, int]], page: int
) -> None:
    scene = Scene(*plan)

    async def play() -> None:
        for what, name, number in script:
            if what == "put":
                scene.put(name, number)
            elif what == "delete":
                scene.server.delete(POD.path, "shop", name)
            elif what == "compact":
                scene.server.compact()
            else:
                await asyncio.sleep(number * 0.0005)  # a list is judged in a thread
        await scene.until(lambda: scene.reflector.state().state == "synced" and scene.same(), 1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", page)
        scene.run(play)
    kept: dict[str, bool] = {}
    for change in scene.noted:
        kept[change.identity.key] = change.good is not None
    assert {key for key, there in kept.items() if there} == set(scene.table.view)  # as the disk has it


def test_a_list_of_several_pages_is_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    scene = Scene()
    for name in NAMES:
        scene.put(name)
    scene.run(lambda: scene.until(lambda: scene.reflector.confirmed))
    assert scene.same()
    assert scene.api.asked[:5] == [f"list {POD.path}"] * 4 + [f"watch {POD.path}"]


def test_an_event_that_changes_nothing_that_is_read_tells_nobody() -> None:
    scene = Scene()
    scene.put("a")

    async def play() -> None:
        await scene.until(lambda: scene.reflector.confirmed)
        view, told = scene.table.view, scene.changes
        for _ in range(5):
            scene.put("a")  # another resourceVersion, as of a probe's condition
        scene.put("b")
        await scene.until(lambda: "shop/b" in scene.table.view)
        assert scene.changes == told + 1
        assert scene.table.view["shop/a"] is view["shop/a"]

    scene.run(play)


def test_a_version_that_is_gone_is_listed_again_after_a_spread() -> None:
    scene = Scene(Fault(), Fault(after=0, end="error 410"))
    scene.put("a")
    scene.run(lambda: scene.until(lambda: scene.api.asked.count(f"list {POD.path}") == 2 and scene.same()))
    assert scene.reflector.state().relists == 1
    assert scene.shared.waits[0] == Wait(1.0)


def test_a_watch_that_was_dropped_goes_on_from_where_it_was_without_a_list() -> None:
    scene = Scene(Fault(), Fault(after=1, end="drop"), Fault(0), Fault(503))
    scene.put("a")

    async def play() -> None:
        await scene.until(lambda: scene.reflector.confirmed)
        scene.put("b")
        await scene.until(scene.same)

    scene.run(play)
    assert scene.api.asked.count(f"list {POD.path}") == 1
    assert all(wait.for_contact for wait in scene.shared.waits)
    assert [round(wait.seconds, 3) for wait in scene.shared.waits[:3]] == [0.075, 0.15, 0.3]


def test_of_two_events_the_one_that_a_drop_swallowed_comes_with_the_next_watch() -> None:
    scene = Scene(Fault(), Fault(after=2, end="drop"))

    async def play() -> None:
        await scene.until(lambda: scene.reflector.confirmed)
        for name in "abc":
            scene.put(name)
        await scene.until(scene.same)

    scene.run(play)
    assert scene.api.asked.count(f"list {POD.path}") == 1


def test_a_kind_that_is_not_installed_is_synced_and_found_when_it_is_installed_later() -> None:
    scene = Scene(there=False)

    async def play() -> None:
        await scene.until(lambda: scene.reflector.confirmed)
        state = scene.reflector.state()
        assert state.state == "absent"
        assert "pods is not installed" in state.message
        assert scene.reflector.stale == 0
        scene.server.collections[POD.path] = Server(POD.path).collections[POD.path]
        scene.put("a")
        await scene.until(lambda: scene.same() and scene.reflector.state().state == "synced")

    scene.run(play)


def test_objects_are_given_up_only_when_a_second_look_finds_no_such_kind() -> None:
    """An API server that has just started may not know its CRDs yet."""
    for plan, left in (((404,), 1), ((404, 404), 0)):
        scene = Scene(Fault(), Fault(after=0, end="drop"), *map(Fault, plan), *[Fault(0)] * 1000)
        scene.put("a")

        async def play(scene: Scene = scene, count: int = len(plan)) -> None:
            await scene.until(lambda: len(scene.shared.waits) > count + 2)

        scene.run(play)
        assert len(scene.table) == left


def test_what_may_not_be_listed_says_which_rule_is_missing() -> None:
    scene = Scene(*[Fault(403)] * 1000, kind="AuthorizationPolicy")
    scene.run(lambda: scene.until(lambda: scene.reflector.state().state == "forbidden"))
    message = scene.reflector.state().message
    assert "ClusterRole must allow get, list and watch authorizationpolicies.mesh.nodeagent.dev" in message
    assert not scene.reflector.confirmed


def test_a_server_that_has_just_started_forbids_everything_for_a_moment_and_is_asked_again_soon() -> None:
    scene = Scene(*[Fault(0)] * 20, *[Fault(403)] * 20)
    scene.run(lambda: scene.until(lambda: scene.reflector.confirmed))
    first, second, *_, last = [wait.seconds for wait in scene.shared.waits if not wait.for_contact]
    assert first <= 2
    assert first < second == last <= 4


def test_staleness_begins_when_contact_is_lost_and_ends_with_the_next_watch() -> None:
    scene = Scene(Fault(), Fault(after=0, end="drop"), *[Fault(0)] * 20)
    scene.put("a")

    async def play() -> None:
        await scene.until(lambda: scene.reflector.confirmed)
        await scene.until(lambda: scene.reflector.state().state == "away")
        assert scene.reflector.stale > 0
        await scene.until(lambda: scene.reflector.state().state == "synced")
        assert scene.reflector.stale == 0

    scene.run(play)


def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_tight_loop() -> None:
    scene = Scene(Fault(), *[Fault(after=0, end="close")] * 5)
    scene.run(lambda: scene.until(lambda: len(scene.shared.waits) == 5))
    assert [round(wait.seconds, 3) for wait in scene.shared.waits] == [0.075, 0.15, 0.3, 0.6, 1.2]
