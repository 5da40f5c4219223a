"""One watch for two: what a Reflector's says reaches whoever follows the same collection, and nothing is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.kube import list_watch, reflection
from nodeagent.kube.api import Failure, Reason
from nodeagent.kube.follower import RelayedFollower, Value, name_of
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.reflector import Reflector, Shared
from nodeagent.kube.relay import Relay
from nodeagent.kube.table import Table
from tests.kube import samples
from tests.kube.meanwhile import running
from tests.kube.memory_api import HEALTHY, Fault, MemoryApi
from tests.kube.model import Server

ROUTE = BY_NAME["HTTPRoute"]
NAMES = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete", "events"]), NAMES), max_size=6)


class Held:
    """As a Book takes objects in: an older version never replaces a newer one."""

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}  # name -> version
        self.lists = 0

    def see(self, value: Value) -> None:
        name, version = name_of(value), int(value["metadata"]["resourceVersion"])
        self.objects[name] = max(version, self.objects.get(name, 0))

    def gone(self, value: Value) -> None:
        self.objects.pop(name_of(value), None)

    def listed(self, names: set[str]) -> None:
        self.lists += 1
        self.objects = {name: version for name, version in self.objects.items() if name in names}


def there(model: Server) -> dict[str, int]:
    objects = model.collections[ROUTE.path].objects.values()
    return {name_of(value): int(value["metadata"]["resourceVersion"]) for value in objects}


def put(model: Server, name: str) -> None:
    model.put(ROUTE.path, {"metadata": samples.metadata("shop", name)})


class Busy(MemoryApi):
    """Before and after each page somebody works, and the watch that is shared delivers some of it, late."""

    def __init__(self, model: Server, relay: Relay, turns: Iterator[list[tuple[str, str]]]) -> None:
        super().__init__(model, iter(()))
        self._relay, self._turns = relay, turns
        self.delivered = model.version

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        self._work()
        page = await super().get(path, query)
        self._work()
        return page

    def _work(self) -> None:
        for what, name in next(self._turns, []):
            if what == "put":
                put(self.model, name)
            elif what == "delete":
                self.model.delete(ROUTE.path, "shop", name)
            else:
                self.deliver(all_but="cba".index(name))

    def deliver(self, all_but: int = 0) -> None:
        found = list(self.model.events(ROUTE.path, self.delivered))
        for version, line in found[: len(found) - all_but]:
            self._relay.event(ROUTE.path, line)
            self.delivered = version


@given(before=STEPS, turns=st.lists(STEPS, max_size=8))
def test_whatever_happens_while_a_list_is_read_what_is_held_is_what_there_is(
    before: list[tuple[str, str]], turns: list[list[tuple[str, str]]]
) -> None:
    model, relay, held = Server(ROUTE.path), Relay(), Held()
    for name in "abc":
        put(model, name)
    api = Busy(model, relay, iter([before, *turns]))

    async def story() -> None:
        with mock.patch.object(list_watch, "PAGE", 1):
            async with running(RelayedFollower(api, relay, ROUTE, held, lambda: 0.0)):
                await until(lambda: held.lists)
                api.deliver()

    asyncio.run(story())
    assert held.objects == there(model)


async def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0)


def reflector_of(model: Server, relay: Relay, *faults: Fault) -> Reflector:
    shared = Shared(MemoryApi(model, iter(faults)), "n1", lambda: None, relay, lambda: 0.0)
    return Reflector(ROUTE, Table(lambda _change: None), shared)


def follower_of(model: Server, relay: Relay, held: Held) -> RelayedFollower:
    return RelayedFollower(MemoryApi(model, iter(())), relay, ROUTE, held, lambda: 0.0)


@pytest.mark.parametrize("ends", [[], ["close"], ["drop"], ["error 410"], ["garbage"] * 3], ids=str)
def test_what_follows_a_relayed_watch_holds_what_there_is_however_that_watch_ends(ends: list[str]) -> None:
    model, relay, held = Server(ROUTE.path), Relay(), Held()
    put(model, "a")
    faults = [HEALTHY, *(Fault(after=1, end=end) for end in ends)]  # of the Reflector: a list, then watches
    reflector = reflector_of(model, relay, *faults)

    async def story() -> None:
        async with running(follower_of(model, relay, held)), running(reflector):
            for name in "bcd":
                await until(lambda: held.objects == there(model) and not reflector.stale)
                put(model, name)
                model.delete(ROUTE.path, "shop", chr(ord(name) - 1))
            await until(lambda: held.objects == there(model) and not reflector.stale)
            assert set(held.objects) == {"shop/d"}

    asyncio.run(story())


def test_events_that_came_while_the_reflector_listed_anew_are_listed_here_too() -> None:
    """They are in its list and in no watch."""
    model, relay, held = Server(ROUTE.path), Relay(), Held()
    put(model, "a")

    async def story() -> None:
        async with running(follower_of(model, relay, held)):
            await until(lambda: held.lists == 1)
            put(model, "b")
            async with running(reflector_of(model, relay)):
                await until(lambda: held.objects == there(model))
                assert held.lists == 2

    asyncio.run(story())


def test_an_event_that_cannot_be_read_is_one_that_was_missed_and_harms_no_other() -> None:
    model, relay, held = Server(ROUTE.path), Relay(), Held()
    put(model, "a")

    async def story() -> None:
        async with running(follower_of(model, relay, held)):
            await until(lambda: held.lists == 1)
            put(model, "b")
            relay.event(ROUTE.path, b'{"type": "MODIFIED"}')
            await until(lambda: held.objects == there(model))
        relay.event(ROUTE.path, b"nobody listens any more")

    asyncio.run(story())


def test_a_kind_that_is_gone_is_gone_for_who_follows_its_relayed_watch() -> None:
    model, relay, held = Server(ROUTE.path), Relay(), Held()
    put(model, "a")
    reflector = reflector_of(model, relay)

    async def story() -> None:
        async with running(follower_of(model, relay, held)):
            async with running(reflector):
                await until(lambda: held.objects and not reflector._table.is_empty and not reflector.stale)
            del model.collections[ROUTE.path]
            for _ in range(reflection.SURE_AFTER):
                reflector._failed(Failure(Reason.MISSING, "no such kind"))
            await until(lambda: not held.objects)

    asyncio.run(story())
