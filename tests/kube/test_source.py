"""The whole source against an API server on loopback: starts, changes, outages, restarts without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nodeagent.config.objects import ObjectSet
from nodeagent.kube import source as module
from nodeagent.kube.client import Client
from nodeagent.kube.kinds import KINDS
from nodeagent.kube.relay import Relay
from nodeagent.kube.source import KubernetesSource
from tests.kube import samples
from tests.kube.http_server import HttpServer, serving
from tests.kube.model import Server

POD, SERVICE, POLICY = (samples.path(kind) for kind in ("Pod", "Service", "AuthorizationPolicy"))
PATHS = [kind.path for kind in KINDS]


def model() -> Server:
    server = Server(*PATHS)
    server.put(samples.path("Namespace"), samples.namespace("shop"))
    server.put(POD, samples.pod("shop", "web-1", "10.0.0.1"))
    server.put(SERVICE, samples.service("shop", "cart"))
    server.put(samples.path("EndpointSlice"), samples.endpoint_slice("shop", "cart", "10.0.0.2"))
    server.put(POLICY, samples.policy("shop", "p"))
    return server


class Following:
    """A source that is read like the agent does."""

    def __init__(self, client: Client, state: Path) -> None:
        self.client = client
        self.source = KubernetesSource(client, state, "n1", Relay())
        self.objects = ObjectSet()
        self.count = 0
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.objects = await self.source.start()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for objects in self.source.watch():
            self.objects = objects
            self.count += 1
            self._came.set()

    async def until(self, what: Callable[[ObjectSet], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not what(self.objects):
                self._came.clear()
                with suppress(TimeoutError):  # what is waited for may be no object
                    await asyncio.wait_for(self._came.wait(), 0.05)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.source.close()
        await self.client.close()


@asynccontextmanager
async def following(server: HttpServer, state: Path, token: str = "") -> AsyncIterator[Following]:
    one = Following(Client(server.kubeconfig(state, token)), state)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


def play(script: Callable[[HttpServer], Awaitable[None]], server: Server | None = None) -> None:
    async def run() -> None:
        async with serving(server or model()) as one:
            await script(one)

    asyncio.run(run())


def test_the_first_object_set_has_everything_of_every_kind(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            objects = one.objects
            found = (objects.namespaces, objects.pods, objects.services, objects.slices, objects.policies)
            assert [list(table) for table in found] == [
                ["shop"],
                ["shop/web-1"],
                ["shop/cart"],
                ["shop/cart-x1"],
                ["shop/p"],
            ]
            assert one.source.freshness().stale == 0
            assert {state.state for state in one.source.freshness().kinds} == {"synced"}

    play(script)


@pytest.mark.parametrize("when", ["while it starts", "later"])
def test_a_fault_of_our_own_ends_who_follows_instead_of_what_is_in_force_growing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    broken = asyncio.Event()
    save = KubernetesSource._save

    async def fail(source: KubernetesSource) -> None:
        if broken.is_set():
            raise ZeroDivisionError("a bug")
        await save(source)

    async def script(server: HttpServer) -> None:
        monkeypatch.setattr(module, "LISTED_SECONDS", 0.05)
        monkeypatch.setattr(module, "SAVE_SECONDS", 0.05)
        monkeypatch.setattr(KubernetesSource, "_save", fail)
        one = Following(Client(server.kubeconfig(tmp_path)), tmp_path)
        if when == "later":
            await one.start()
        else:
            server.slow = 10.0
        broken.set()
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(5):
                await (one._task or one.source.start())
        broken.clear()
        server.slow = 0.0
        await one.stop()

    play(script)


def test_a_change_of_one_object_leaves_every_other_table_the_same_object(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            before = one.objects
            began = time.monotonic()
            server.put(POLICY, samples.policy("shop", "q", action="ALLOW"))
            await one.until(lambda objects: "shop/q" in objects.policies)
            assert one.source.noticed >= began
            assert one.objects.policies["shop/p"] is before.policies["shop/p"]
            assert one.objects.pods is before.pods
            assert "shop/q" not in before.policies
            server.delete(POLICY, "shop", "q")
            await one.until(lambda objects: "shop/q" not in objects.policies)
            count = one.count
            server.put(POD, samples.pod("shop", "web-1", "10.0.0.1"))  # as before, but for its version
            server.put(POD, samples.pod("shop", "web-2", "10.0.0.3"))
            await one.until(lambda objects: "shop/web-2" in objects.pods)
            assert one.count <= count + 1

    play(script)


def test_a_change_that_comes_alone_is_given_at_once_and_what_follows_it_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(module, "ALONE_SECONDS", 0.7)

    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            await asyncio.sleep(module.ALONE_SECONDS)
            server.put(POLICY, samples.policy("shop", "q"))
            await one.until(lambda objects: "shop/q" in objects.policies, 0.6)
            count = one.count
            for name in ("r", "s"):
                server.put(POLICY, samples.policy("shop", name))
                await asyncio.sleep(0.05)
            assert "shop/r" not in one.objects.policies
            await one.until(lambda objects: {"shop/r", "shop/s"} <= objects.policies.keys())
            assert one.count == count + 1

    play(script)


def test_a_broken_object_is_told_with_its_field_and_its_last_good_state_stays(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            server.put(POLICY, samples.policy("shop", "p", action="MAYBE"))
            await one.until(lambda objects: objects.broken)
            (broken,) = one.objects.broken
            assert broken.last_good
            assert "shop/p" in one.objects.policies
            (text,) = map(str, one.objects.problems)
            assert text.startswith("AuthorizationPolicy shop/p: spec.action: unsupported value 'MAYBE'")
            server.put(POLICY, samples.policy("shop", "p", action="ALLOW"))
            await one.until(lambda objects: not objects.broken)
            server.put(POLICY, samples.policy("shop", "new", action="MAYBE"))
            await one.until(lambda objects: objects.broken)
            assert not one.objects.broken[0].last_good

    play(script)


def test_a_node_that_restarts_without_an_api_server_enforces_what_was_last_good(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            server.put(POLICY, samples.policy("shop", "p", action="MAYBE"))
            server.put(POLICY, samples.policy("shop", "never", action="MAYBE"))
            server.delete(SERVICE, "shop", "cart")
            await one.until(lambda objects: len(objects.broken) == 2 and not objects.services)
            before = one.objects
        await server.stop()
        async with asyncio.timeout(3), following(server, tmp_path) as one:
            assert one.objects == before
            assert {broken.identity.name: broken.last_good for broken in one.objects.broken} == {
                "p": True,
                "never": False,
            }
            fresh = one.source.freshness()
            assert fresh.restored
            assert "Cannot connect to host 127.0.0.1" in fresh.problem
            server.put(POLICY, samples.policy("shop", "p", action="ALLOW"))
            server.model.compact()
            await server.start()
            await one.until(lambda _: not one.source.freshness().stale)
            assert not one.source.freshness().restored
            await one.until(lambda objects: [broken.identity.name for broken in objects.broken] == ["never"])

    play(script)


def test_staleness_counts_from_when_the_last_good_state_was_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path):
            pass
        await server.stop()
        later = time.time() + 1000
        monkeypatch.setattr(time, "time", lambda: later)
        async with following(server, tmp_path) as one:
            assert 999 < one.source.freshness().stale < 1010

    play(script)


def test_an_outage_changes_nothing_and_what_was_missed_comes_after_it(tmp_path: Path) -> None:
    for compacted in (False, True):

        async def script(server: HttpServer, compacted: bool = compacted) -> None:
            async with following(server, tmp_path) as one:
                before, count = one.objects, one.count
                await server.stop()
                await one.until(lambda _: one.source.freshness().stale > 0.2)
                assert one.objects is before
                assert one.count == count
                server.put(POD, samples.pod("shop", "web-9", "10.0.0.9"))
                server.delete(POLICY, "shop", "p")
                if compacted:
                    server.model.compact()
                await server.start()
                await one.until(lambda objects: "shop/web-9" in objects.pods and not objects.policies)
                await one.until(lambda _: not one.source.freshness().stale)
                assert any(state.relists for state in one.source.freshness().kinds) == compacted

        play(script)


def test_crds_that_are_not_installed_are_a_state_and_no_fault(tmp_path: Path) -> None:
    server = model()
    for kind in KINDS:
        if kind.custom:
            del server.collections[kind.path]

    async def script(server: HttpServer) -> None:
        async with following(server, tmp_path) as one:
            fresh = one.source.freshness()
            assert (fresh.stale, one.objects.problems) == (0, ())
            assert [state.kind for state in fresh.kinds if state.state == "absent"] == [
                kind.name for kind in KINDS if kind.custom
            ]

    play(script, server)


def test_without_a_last_good_state_nothing_is_in_force_until_every_kind_is_known(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        server.refuse = lambda path: 403 if path == POLICY else 0
        one = Following(Client(server.kubeconfig(tmp_path)), tmp_path)
        starting = asyncio.create_task(one.start())
        try:
            await one.until(lambda _: any(kind.state == "forbidden" for kind in one.source.freshness().kinds))
            await asyncio.sleep(0.3)
            assert not starting.done()
            assert "ClusterRole must allow" in one.source.freshness().problem
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await one.stop()

    play(script)


def test_a_token_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        server.tokens = {"first"}
        async with following(server, tmp_path, "first") as one:
            server.tokens = {"second"}
            server.kubeconfig(tmp_path, "second")
            server.drop_watches()
            server.put(POD, samples.pod("shop", "web-2", "10.0.0.2"))
            await one.until(lambda objects: "shop/web-2" in objects.pods)
            await one.until(lambda _: not one.source.freshness().stale)
            server.tokens = {"third"}  # and one that is refused is not asked with in a loop
            server.drop_watches()
            await one.until(lambda _: {kind.state for kind in one.source.freshness().kinds} == {"forbidden"})
            asked = len(server.asked)
            await asyncio.sleep(0.5)
            assert len(server.asked) < asked + 9

    play(script)


def test_a_slow_api_server_is_waited_for_and_a_last_good_state_is_not(tmp_path: Path) -> None:
    async def script(server: HttpServer) -> None:
        server.slow = 0.5
        async with following(server, tmp_path) as one:
            assert one.objects.pods
            assert one.source.freshness().stale == 0

    play(script)


def test_a_disk_that_refuses_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.05)

    async def script(server: HttpServer) -> None:
        database = tmp_path / "last-good" / "cluster.db"
        database.mkdir(parents=True)
        async with following(server, tmp_path) as one:
            await one.until(lambda objects: objects.problems)
            assert "last good state is not written" in str(one.objects.problems[0])
            server.put(POD, samples.pod("shop", "web-2", "10.0.0.2"))
            await one.until(lambda objects: "shop/web-2" in objects.pods)
            database.rmdir()
            await one.until(lambda objects: not objects.problems)
        await server.stop()
        async with following(server, tmp_path) as one:
            assert set(one.objects.pods) == {"shop/web-1", "shop/web-2"}

    play(script)


def test_in_a_pod_the_service_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without KUBECONFIG; and it says what it tried where there is none."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)

    async def script() -> None:
        one = KubernetesSource(Client(None), tmp_path, "n1", Relay())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.start(), 0.3)
        assert "from the service account of a pod, and $KUBECONFIG is not set" in one.freshness().problem
        await one.close()

    asyncio.run(script())
