"""Caps of pods inside a worker, as client and as server: refused at once and with a reason; others go on."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.bounds import KIB, MIB, Bounds
from nodeagent.core.model import Destination, Endpoint, Protocol, Workload
from nodeagent.core.traffic import Limit, PodLimits, RateLimitPolicy, RateLimitRule, Retry, TrafficPolicy
from nodeagent.proxy.budgets import LAST_READ_BYTES, READ_BYTES
from nodeagent.proxy.tenants import IDLE_SERVERS
from nodeagent.proxy.upstream import Upstream
from tests.proxy.harness import CALLER, Client, FixedOriginals, Proxy, ScriptedUpstream, run, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHER = ("198.18.0.11", 80)


def row(proxy: Proxy, reason: str) -> dict[str, Any]:
    (found,) = [one for one in proxy.rows() if reason in one.values()]
    return found


async def busy(proxy: Proxy, count: int, request: bytes = GET) -> list[Client]:
    """Clients with one request each that nobody answers."""
    clients = [await proxy.connect() for _ in range(count)]
    for client in clients:
        await client.send(request)
    await settle()
    return clients


def test_a_pod_over_its_cap_of_requests_is_answered_at_once_and_may_go_on_when_one_ends() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(requests_per_client=3)) as proxy:
            first, *_ = await busy(proxy, 3)
            client = await proxy.connect()
            await client.send(GET)
            status, body = await client.response()
            assert (status, client.reason) == (503, "client-overloaded")
            assert b"in flight" in body
            assert "UO" in row(proxy, "client-overloaded").values()
            await proxy.upstream.connections[0].send(OK)
            assert await first.response() == (200, b"ok")
            await client.send(GET)  # the connection was kept
            await settle()
            assert proxy.engine.tenants.requests == 3

    run(conversation())


def test_the_body_of_a_refused_request_is_skipped() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(requests_per_client=1)) as proxy:
            (first,) = await busy(proxy, 1)
            client = await proxy.connect()
            await client.send(POST % (64 * KIB) + b"x" * 1000)
            assert (await client.response())[0] == 503
            await client.send(b"x" * (64 * KIB - 1000))
            await proxy.upstream.connections[0].send(OK)
            await first.response()
            await client.send(GET)
            await settle()
            assert proxy.engine.tenants.requests == 1

    run(conversation())


def test_a_stalled_upstream_fills_its_own_cap_while_requests_to_another_go_on() -> None:
    async def conversation() -> None:
        originals = FixedOriginals(("198.18.0.10", 80))
        async with Proxy(bounds=Bounds(requests_per_server=4), originals=originals) as proxy:
            other = ScriptedUpstream(OK, "127.0.0.2")
            proxy.apply(proxy.destination, _other(other.endpoint))
            await busy(proxy, 4)
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "server-overloaded"
            originals.original = OTHER
            for _ in range(10):
                lucky = await proxy.connect()
                await lucky.send(GET)
                assert await lucky.response() == (200, b"ok")
            await other.close()

    run(conversation())


def _other(*endpoints: Endpoint) -> Destination:
    return Destination(
        "shop/carts:80", *OTHER, Protocol.HTTP1, is_frontend=True, services=("shop/carts",), endpoints=endpoints
    )


def test_where_one_endpoint_has_no_room_another_of_the_backend_is_taken() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, bounds=Bounds(requests_per_server=4)) as proxy:
            stuck = ScriptedUpstream(None, "127.0.0.2")
            proxy.set_endpoints(stuck.endpoint)
            await busy(proxy, 4)
            proxy.set_endpoints(stuck.endpoint, proxy.upstream.endpoint)
            for _ in range(20):
                client = await proxy.connect()
                await client.send(GET)
                assert await client.response() == (200, b"ok")
            await stuck.close()

    run(conversation())


def test_a_rate_limit_alone_takes_no_request_past_the_cap_of_its_server() -> None:
    async def conversation() -> None:
        limits = RateLimitPolicy("shop/limit", (RateLimitRule("all", Limit(1000, 1000, 1000)),))
        async with Proxy(bounds=Bounds(requests_per_server=2), rate_limits=(limits,)) as proxy:
            await busy(proxy, 2)
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "server-overloaded"
            assert "UO" in row(proxy, "server-overloaded").values()

    run(conversation())


def test_a_namespace_may_have_caps_of_its_own_and_they_are_the_nodes() -> None:
    """Two workers: each keeps half."""

    async def conversation() -> None:
        async with Proxy(bounds=Bounds(workers=2)) as proxy:
            limits = PodLimits("shop/caps", max_connections=8, max_parallel_requests=5, max_buffered_bytes=2 * MIB)
            proxy.caller = replace(CALLER, limits=limits)
            proxy.apply(proxy.destination)
            clients = await busy(proxy, 4)
            assert (await clients[3].response())[0] == 503
            assert clients[3].reason == "client-overloaded"
            with contextlib.suppress(ConnectionResetError):
                assert await (await proxy.connect()).closed()
            assert proxy.engine.stats.reset_over_pod_limit == 1
            (tenant,) = proxy.engine.tenants
            assert tenant.budget.limit == MIB

    run(conversation())


@pytest.mark.parametrize("policy", ["", "shop/caps"])
def test_a_connection_over_its_pods_cap_is_counted_for_pod_and_destination_and_observed(policy: str) -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(connections_per_pod=1)) as proxy:
            if policy:
                proxy.caller = replace(CALLER, limits=PodLimits(policy, max_connections=1))
                proxy.apply(proxy.destination)
            proxy.engine.observing = True
            (first,) = await busy(proxy, 1)
            with contextlib.suppress(ConnectionResetError):
                assert await (await proxy.connect()).closed()
            (event,) = proxy.events
            counted = row(proxy, "client-connections")
            assert (counted["source_workload"], counted["destination_service"]) == ("web", "shop/payments:80")
            assert (counted["policy"], counted["response_code"], counted["response_flags"]) == (policy, "0", "UO")
            assert (event["source"], event["destination"], event["policy"]) == (CALLER.key, "shop/payments:80", policy)
            assert (event["reason"], event["status"], event["verdict"]) == ("client-connections", 0, "error")
            assert "connections" in event["detail"]
            await proxy.upstream.connections[0].send(OK)
            assert await first.response() == (200, b"ok")

    run(conversation())


def test_a_server_that_may_have_no_request_gets_none_not_even_the_first() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            (endpoint,) = proxy.destination.endpoints
            server = Workload("shop", "v1", "v1", "v1", (endpoint.address,), "/run/netns/v1", enrolled=True)
            limits = PodLimits("shop/caps", max_parallel_requests=0)
            proxy.engine.tenants.set_limits({9: replace(server, limits=limits)})
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "server-overloaded"
            assert proxy.upstream.connections == []

    run(conversation())


def test_a_cap_that_is_lowered_ends_nothing_and_refuses_what_comes() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            first, *_ = await busy(proxy, 3)
            proxy.caller = replace(CALLER, limits=PodLimits("shop/caps", max_parallel_requests=1))
            proxy.apply(proxy.destination)
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            await proxy.upstream.connections[0].send(OK)
            assert await first.response() == (200, b"ok")

    run(conversation())


async def stuffed(proxy: Proxy, count: int) -> None:
    """Upstreams that take nothing, and clients that send all they can."""
    size = 2 * MIB
    for _ in range(count):
        client = await proxy.connect()
        await client.send(POST % size)
        sending = asyncio.ensure_future(_send(client, b"x" * size))
        proxy.engine.loop.call_later(5, sending.cancel)
    await settle(0.3)


async def _send(client: Client, data: bytes) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await client.send(data)


def test_a_pod_whose_buffers_are_full_gets_no_more_requests_in() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(buffered_per_pod=100 * KIB)) as proxy:
            await stuffed(proxy, 8)
            (tenant,) = proxy.engine.tenants
            assert tenant.budget.full
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "pod-buffers-full"

    run(conversation())


def test_what_200_connections_send_at_once_stays_within_the_budget_and_a_last_read_each() -> None:
    async def conversation() -> None:
        bounds = Bounds(buffered=MIB, buffered_per_pod=8 * MIB, requests_per_server=1000)
        async with Proxy(bounds=bounds) as proxy:
            await stuffed(proxy, 200)
            budget = proxy.engine.budget
            assert budget.full
            assert budget.peak <= MIB + READ_BYTES + 200 * LAST_READ_BYTES
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "overloaded"

    run(conversation())


def test_a_request_that_is_kept_for_resending_is_in_the_budget_until_its_end() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            client = await proxy.connect()
            await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000)
            upstream = await proxy.upstream.accept()
            await upstream.message()
            assert proxy.engine.budget.held > 30_000
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")
            assert not proxy.engine.budget.held

    run(conversation())


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("traffic", [None, TrafficPolicy("shop/p", retry=Retry())])
def test_a_request_that_is_kept_is_counted_once(
    traffic: TrafficPolicy | None, connected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what is unsent, what a dead connection's request is repeated from, and what a retry sends."""

    async def conversation() -> None:
        async with Proxy(traffic=traffic) as proxy:
            if not connected:
                monkeypatch.setattr(Upstream, "connect", lambda _upstream: None)
            client = await proxy.connect()
            await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000)
            await settle()
            assert 30_000 < proxy.engine.budget.held < 31_000

    run(conversation())


def test_the_worker_as_a_whole_has_a_cap_of_requests() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(requests=2)) as proxy:
            await busy(proxy, 2)
            client = await proxy.connect()
            await client.send(GET)
            assert (await client.response())[0] == 503
            assert client.reason == "overloaded"

    run(conversation())


def test_a_relayed_connection_to_a_pod_without_room_is_reset() -> None:
    async def conversation() -> None:
        async with Proxy(protocol=Protocol.OPAQUE) as proxy:
            proxy.engine.tenants.server("127.0.0.1").max_connections = 2
            for _ in range(2):
                await (await proxy.connect()).send(b"hello")
            await settle()
            with pytest.raises(ConnectionResetError):
                await (await proxy.connect()).recv()
            assert proxy.engine.stats.reset_over_server_limit == 1

    run(conversation())


def test_endpoints_without_a_request_are_forgotten() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            tenants = proxy.engine.tenants
            for number in range(3 * IDLE_SERVERS):
                tenants.server(f"198.18.{number >> 8}.{number & 255}")
            assert len(tenants.servers) <= IDLE_SERVERS
            tenants.sweep()
            assert not tenants.servers

    run(conversation())


def test_bytes_that_an_endpoint_does_not_take_count_for_it_also_while_it_was_forgotten() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            (tenant,) = proxy.engine.tenants
            tenants = proxy.engine.tenants
            towards = tenants.towards(tenant, "198.18.0.9")
            tenants.sweep()
            towards.add(100)
            assert tenants.server("198.18.0.9").held == 100
            assert tenant.budget.held == proxy.engine.budget.held == 100
            towards.add(-100)

    run(conversation())


def test_a_pod_that_is_gone_is_forgotten_with_its_lane() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            proxy.engine.tenants.client(99)
            proxy.engine.tenants.forget_clients(proxy.engine.pods)
            assert [tenant.cookie for tenant in proxy.engine.tenants] == [7]

    run(conversation())
