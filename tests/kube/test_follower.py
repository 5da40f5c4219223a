"""What the writer of statuses sees of a collection: whole objects, and when it has seen all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nodeagent.kube import list_watch
from nodeagent.kube.follower import Follower, Value, name_of
from tests.kube import samples
from tests.kube.memory_api import Fault, MemoryApi
from tests.kube.model import Server

PATH = "/apis/mesh.nodeagent.dev/v1alpha1/meshnodes"


class Seen:
    """In order: the names of objects that are there, "-" before those that are gone; and each complete list."""

    def __init__(self) -> None:
        self.follower: Follower | None = None
        self.told: list[str] = []
        self.complete: list[bool] = []  # whether it was said to be, at each of `told`
        self.lists: list[set[str]] = []

    def see(self, value: Value) -> None:
        assert (value["apiVersion"], value["kind"]) == ("mesh.nodeagent.dev/v1alpha1", "MeshNode")
        self._note(name_of(value))

    def gone(self, value: Value) -> None:
        self._note(f"-{name_of(value)}")

    def listed(self, names: set[str]) -> None:
        self.lists.append(names)

    def _note(self, what: str) -> None:
        assert self.follower is not None
        self.told.append(what)
        self.complete.append(self.follower.complete)


async def follow(model: Server, holds: Callable[[Seen], object], *plan: Fault) -> Seen:
    seen = Seen()
    api = MemoryApi(model, iter(plan))
    seen.follower = Follower(api, PATH, "mesh.nodeagent.dev/v1alpha1", "MeshNode", seen, lambda: 0.0)
    task = asyncio.create_task(seen.follower.run())
    end = asyncio.get_running_loop().time() + 10
    while not holds(seen):
        assert asyncio.get_running_loop().time() < end, f"it did not come to that: {seen.told}, {seen.lists}"
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return seen


def test_a_list_is_complete_with_its_last_page_and_events_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_watch, "PAGE", 1)
    model = Server(PATH)
    for name in ("n1", "n2", "n3"):
        model.put(PATH, {"metadata": samples.metadata("", name)})

    async def story() -> None:
        def changed(seen: Seen) -> bool:
            if len(seen.lists) == 1 and len(seen.told) == 3:
                model.delete(PATH, "", "n2")
            return len(seen.told) == 4

        seen = await follow(model, changed)
        assert seen.told == ["n1", "n2", "n3", "-n2"]
        assert seen.complete == [False, False, False, True]
        assert seen.lists == [{"n1", "n2", "n3"}]

    asyncio.run(story())


def test_a_kind_that_is_not_installed_is_complete_with_nothing() -> None:
    seen = asyncio.run(follow(Server(), lambda seen: seen.lists))
    assert (seen.told, seen.lists[0]) == ([], set())
    assert seen.follower is not None
    assert seen.follower.complete


def test_an_answer_that_cannot_be_read_is_asked_for_again() -> None:
    model = Server(PATH)
    model.put(PATH, {"metadata": samples.metadata("", "n1")})
    broken = Fault(after=0, end="garbage")
    seen = asyncio.run(follow(model, lambda seen: len(seen.lists) == 2, Fault(), *[broken] * 3))
    assert seen.told == ["n1", "n1"]
