"""A connection that ended goes at once, by reference counts: the worker keeps the collector off what lives long."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.bounds import Bounds
from nodeagent.core.model import Backend, Endpoint, Mirror, PathKind, Protocol, Rule
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import Balancing, LoadBalancer, OutlierDetection, Retry, RetryBudget, TrafficPolicy
from tests.proxy.harness import Client, Proxy, run, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
Talk = Callable[[Proxy, Client], Awaitable[None]]


async def keep_alive(_proxy: Proxy, client: Client) -> None:
    for _ in range(3):
        await client.send(GET)
        assert (await client.response())[0] == 200
    client.close()


async def post(_proxy: Proxy, client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.send(b"0\r\n\r\n")
    assert (await client.response())[0] == 200
    client.close()


async def last(_proxy: Proxy, client: Client) -> None:
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.response())[0] == 200
    assert await client.closed()


async def refused(_proxy: Proxy, client: Client) -> None:
    await client.send(b"GET nowhere HTTP/1.1\r\n\r\n")
    assert (await client.response())[0] == 400
    client.close()


async def reset_while_answered(_proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    client.reset()


async def slow_head(_proxy: Proxy, client: Client) -> None:
    await client.send(b"GET / HT")
    assert (await client.response())[0] == 408
    client.close()


async def upgraded(_proxy: Proxy, client: Client) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    await settle()
    await client.send(b"hello")
    await settle()
    client.reset()


async def relayed(_proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    await settle()
    client.reset()


async def relayed_to_the_end(proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    client.half_close()
    upstream = await proxy.upstream.accept()
    await settle()
    upstream.close()
    assert await client.closed()


async def unreachable(_proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    assert (await client.response())[0] == 503
    client.close()


async def stopped_half_way(proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    assert (await client.response())[0] == 200
    for connection in list(proxy.engine.connections):
        connection.discard()


async def failing(_proxy: Proxy, client: Client) -> None:
    await client.send(GET)
    assert (await client.response())[0] == 503
    client.close()


async def with_everything(proxy: Proxy, client: Client) -> None:
    """A rule with timeouts and a mirror, met under a TrafficPolicy."""
    behind = Backend("shop/b:80", 1, (proxy.upstream.endpoint,))
    rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (behind,), timeouts=RouteTimeouts(900, 500))
    rule = replace(rule, mirrors=(Mirror(behind),))
    proxy.apply(replace(proxy.destination, producer_rules=(rule,), has_producer_route=True))
    await keep_alive(proxy, client)
    await settle()


TRAFFIC = TrafficPolicy(
    "shop/p",
    retry=Retry(attempts=2, backoff=1, budget=RetryBudget(percent=100, floor=100)),
    load_balancer=LoadBalancer(Balancing.LEAST_REQUEST),
    outlier_detection=OutlierDetection(),
)
UNAVAILABLE = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
CASES: list[tuple[Talk, bytes | None, dict[str, Any]]] = [
    (keep_alive, OK, {}),
    (keep_alive, CHUNKED, {}),
    (post, OK, {}),
    (last, OK, {}),
    (refused, OK, {}),
    (reset_while_answered, OK, {}),
    (slow_head, OK, {}),
    (upgraded, SWITCH, {}),
    (relayed, OK, {"protocol": Protocol.OPAQUE}),
    (relayed_to_the_end, None, {"protocol": Protocol.OPAQUE}),
    (unreachable, OK, {"endpoints": (Endpoint("127.0.0.1", 1),)}),
    (stopped_half_way, OK, {}),
    (keep_alive, OK, {"traffic": TRAFFIC}),
    (failing, UNAVAILABLE, {"traffic": TRAFFIC}),
    (reset_while_answered, OK, {"traffic": TRAFFIC}),
    (with_everything, OK, {"traffic": TRAFFIC}),
    (with_everything, OK, {}),
]


def made_by_us(garbage: list[object]) -> set[str]:
    return {type(one).__qualname__ for one in garbage if type(one).__module__.startswith("nodeagent.")}


@pytest.mark.parametrize(("talk", "answer", "fields"), CASES)
def test_nothing_of_an_ended_connection_is_left_to_the_collector(
    talk: Talk, answer: bytes | None, fields: dict[str, Any]
) -> None:
    async def conversation() -> None:
        bounds = Bounds(head_seconds=0.3, linger_seconds=0.3, upstream_idle_seconds=0.1)
        async with Proxy(answer=answer, bounds=bounds, **fields) as proxy:
            gc.collect()
            for _ in range(3):
                await talk(proxy, await proxy.connect())
            async with asyncio.timeout(5):
                while proxy.engine.pool.size or proxy.engine.connections:
                    await settle()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert not made_by_us(gc.garbage)

    gc.disable()
    try:
        run(conversation())
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
