"""`limits` of a TrafficPolicy in DryRun: what is over a cap is counted, served all the same, and takes no place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from nodeagent.core.bounds import Bounds
from nodeagent.core.traffic import Limit, Mode, PodLimits, RateLimitPolicy, RateLimitRule
from tests.proxy.harness import CALLER, Client, Proxy, run, settle
from tests.proxy.test_caps import GET, busy

POLICY = "shop/trial"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
"""So each request has an upstream connection of its own."""


def trial(action: Callable[[Proxy], Awaitable[None]], bounds: Bounds | None = None, **caps: int) -> None:
    async def conversation() -> None:
        async with Proxy(bounds=bounds or Bounds()) as proxy:
            under(proxy, **caps)
            await action(proxy)

    run(conversation())


def under(proxy: Proxy, **caps: int) -> None:
    proxy.caller = replace(CALLER, shadow_limits=PodLimits(POLICY, **caps) if caps else None)
    proxy.apply(proxy.destination)


def counted(proxy: Proxy) -> int:
    found = (row for row in proxy.rows() if (row["reason"], row["policy"]) == ("would-overflow", POLICY))
    return sum(int(row["requests"]) for row in found)


async def end(proxy: Proxy, *numbers: int) -> None:
    """Answer the requests with these numbers."""
    for number in numbers:
        await proxy.upstream.connections[number].send(LAST)
    await settle()


async def ask(proxy: Proxy, client: Client, number: int) -> None:
    await client.send(GET)
    await settle()
    await end(proxy, number)
    assert await client.response() == (200, b"ok")


def test_requests_over_the_cap_are_counted_and_served() -> None:
    async def action(proxy: Proxy) -> None:
        clients = await busy(proxy, 3)
        await end(proxy, 0, 1, 2)
        assert [await client.response() for client in clients] == [(200, b"ok")] * 3
        assert counted(proxy) == 1
        again = await busy(proxy, 2)
        await end(proxy, 3, 4)
        assert [await client.response() for client in again] == [(200, b"ok")] * 2
        assert counted(proxy) == 1  # all places were given back, and none twice

    trial(action, max_parallel_requests=2)


def test_what_would_have_been_refused_takes_no_place() -> None:
    async def action(proxy: Proxy) -> None:
        first, *_ = await busy(proxy, 3)  # two of them would have been refused
        await end(proxy, 0)
        await first.response()
        await busy(proxy, 1)  # the one place is free
        await end(proxy, 1, 2, 3)
        assert counted(proxy) == 2

    trial(action, max_parallel_requests=1)


def test_what_a_limit_in_dry_run_would_have_refused_takes_no_place() -> None:
    async def conversation() -> None:
        one = RateLimitPolicy("shop/l", (RateLimitRule("all", Limit(1, 3_600_000, 1)),), Mode.DRY_RUN)
        async with Proxy(rate_limits=(one,)) as proxy:
            under(proxy, max_parallel_requests=1)
            first, *_ = await busy(proxy, 1)
            await end(proxy, 0)
            await first.response()
            await busy(proxy, 2)  # over the rate limit, both
            await end(proxy, 1, 2)
            assert counted(proxy) == 0
            (limited,) = [row for row in proxy.rows() if row["reason"] == "would-limit"]
            assert limited["requests"] == 2

    run(conversation())


def test_requests_of_a_connection_that_would_have_been_reset_are_counted() -> None:
    async def action(proxy: Proxy) -> None:
        kept, over = await busy(proxy, 2)
        await end(proxy, 0, 1)
        await kept.response()
        await over.response()
        assert counted(proxy) == 1
        await ask(proxy, kept, 2)
        assert counted(proxy) == 1
        await ask(proxy, over, 3)
        assert counted(proxy) == 2
        kept.close()
        await settle()
        await ask(proxy, await proxy.connect(), 4)  # in the place of the one that was kept
        assert counted(proxy) == 2
        assert proxy.engine.stats.reset_over_pod_limit == 0

    trial(action, max_connections=1)


def test_the_cap_is_the_workers_part_of_the_nodes_and_goes_with_its_policy() -> None:
    async def action(proxy: Proxy) -> None:
        clients: list[Client] = await busy(proxy, 2)
        under(proxy)
        clients += await busy(proxy, 1)
        await end(proxy, 0, 1, 2)
        assert [await client.response() for client in clients] == [(200, b"ok")] * 3
        assert counted(proxy) == 1

    trial(action, Bounds(workers=2), max_parallel_requests=2)
