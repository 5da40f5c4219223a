"""Upstream connections that are kept for the next request."""

from __future__ import annotations

from dataclasses import replace

from nodeagent.core.bounds import Bounds
from tests.proxy.harness import (
    COOKIE,
    Client,
    Connection,
    FixedOriginals,
    Proxy,
    ScriptedUpstream,
    SecondPod,
    run,
    settle,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AT_ONCE = 100


def test_a_burst_of_requests_finds_the_connections_of_the_burst_before() -> None:
    """Closed ones would hold their ports for a minute, and connect() searches long when most are held."""

    async def conversation() -> None:
        async with Proxy(answer=None) as p:
            clients = [await p.connect() for _ in range(AT_ONCE)]
            upstreams: list[Connection] = []
            for _ in range(2):
                for client in clients:
                    await client.send(GET)
                upstreams = upstreams or [await p.upstream.accept() for _ in range(AT_ONCE)]
                for upstream in upstreams:
                    await upstream.message()
                    await upstream.send(OK)
                for client in clients:
                    assert (await client.response())[0] == 200
                assert p.engine.pool.size == AT_ONCE
            assert p.engine.stats.upstream_opened == AT_ONCE

    run(conversation())


async def at_once(clients: list[Client]) -> None:
    """A request on each, and all answers."""
    for client in clients:
        await client.send(GET)
    for client in clients:
        assert await client.response() == (200, b"ok")


def test_a_pod_that_fills_the_pool_with_connections_to_many_endpoints_gives_way_to_one_that_has_fewer() -> None:
    async def conversation() -> None:
        originals = FixedOriginals(("198.18.0.10", 80))
        bounds = Bounds(upstream_idle_total=8, upstream_idle_per_endpoint=4)
        async with Proxy(answer=OK, bounds=bounds, originals=originals) as p:
            pod, other = SecondPod(p), ScriptedUpstream(OK, "127.0.0.2")
            carts = replace(p.destination, name="shop/carts:80", address="198.18.0.11", endpoints=(other.endpoint,))
            p.apply(p.destination, carts)
            await at_once([await p.connect() for _ in range(4)])
            originals.original = ("198.18.0.11", 80)
            await at_once([await p.connect() for _ in range(4)])
            stats, gauges = p.engine.stats, p.engine.gauges
            assert (gauges()["upstream_idle"], gauges()["upstream_idle_per_pod_max"]) == (8, 8)
            clients = [await p.connect(pod.port) for _ in range(2)]
            for _ in range(5):
                await at_once(clients)
            assert stats.upstream_opened == 8 + 2, "a pod with few connections had to open them again"
            assert (gauges()["upstream_idle"], gauges()["upstream_idle_per_pod_max"]) == (8, 6)
            assert stats.upstream_gave_way == 2
            await at_once(p.clients[4:8])
            assert stats.upstream_opened == 10 + 1, "not each endpoint gave way in its turn"
            assert stats.upstream_not_kept == 1, "the pod that has most gets no more"
            await other.close()

    run(conversation())


def test_pods_that_have_the_same_part_of_the_pool_take_nothing_from_each_other() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, bounds=Bounds(upstream_idle_total=4)) as p:
            pod = SecondPod(p)
            pairs = [[await p.connect(port) for _ in range(3)] for port in (0, pod.port)]
            for clients in pairs * 3:
                await at_once(clients)
            stats = p.engine.stats
            assert p.engine.gauges()["upstream_idle_per_pod_max"] == 2
            assert stats.upstream_gave_way == 1  # of the first pod's three
            assert stats.upstream_not_kept == 1 + 4  # the third connection of each burst since then

    run(conversation())


def test_connections_that_end_or_are_taken_leave_room_to_all_pods() -> None:
    """What is counted for a pod is what is there, however it goes."""

    async def conversation() -> None:
        async with Proxy(answer=OK, bounds=Bounds(upstream_idle_total=4)) as p:
            pod = SecondPod(p)
            await at_once([await p.connect() for _ in range(3)])
            await at_once([await p.connect(pod.port)])
            assert [tenant.idle for tenant in p.engine.tenants] == [3, 1]
            p.upstream.connections[0].close()
            while p.engine.pool.size > 3:
                await settle()
            p.engine.pool.expire(p.engine.tick + 5, 1)
            p.engine.pool.forget_pod(COOKIE + 1)
            assert [tenant.idle for tenant in p.engine.tenants] == [1, 0]
            p.engine.pool.close()
            assert [tenant.idle for tenant in p.engine.tenants] == [0, 0]
            assert p.engine.pool.size == 0

    run(conversation())
