"""How connections end: no byte of a response lost, nothing hung, nothing forgotten by the accounts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.bounds import Bounds
from nodeagent.core.model import Action, EnforcementLevel, HttpOperation, Policy, PolicyRule, Snapshot, ValueMatch
from nodeagent.proxy.downstream import Downstream
from tests.proxy.harness import SERVICE, Proxy, run, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BIG = 4_000_000


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
def test_a_slow_client_gets_the_whole_of_a_last_response(head: bytes) -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(linger_seconds=0.3)) as proxy:
            client = await proxy.connect()
            await client.send(head)
            upstream = await proxy.upstream.accept()
            await upstream.message()
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"y" * BIG)
            await asyncio.sleep(1.5)
            status, body = await client.response()
            assert (status, len(body)) == (200, BIG)
            assert await client.closed()

    run(conversation())


@pytest.mark.parametrize(
    ("head", "body"),
    [(b"Content-Length: 10\r\n", b"0123456789"), (b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n0\r\n\r\n")],
)
def test_a_request_behind_the_rest_of_an_early_answered_one_is_served(head: bytes, body: bytes) -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            client = await proxy.connect()
            await client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n" + body[:4])
            upstream = await proxy.upstream.accept()
            await upstream.read_until(b"\r\n\r\n")
            await upstream.send(EMPTY)
            assert (await client.response())[0] == 200
            await client.send(body[4:] + GET)
            while GET.split(b"\r\n", maxsplit=1)[0] not in proxy.upstream.received:
                await asyncio.wait_for(proxy.upstream.connection.recv(), 5)
            await proxy.upstream.connection.send(EMPTY)
            assert (await client.response())[0] == 200

    run(conversation())


def test_a_half_closed_client_that_never_reads_stays_in_the_accounts() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(connections_per_pod=2, linger_seconds=0.3)) as proxy:
            client = await proxy.connect()
            await client.send(GET)
            client.half_close()
            upstream = await proxy.upstream.accept()
            await upstream.message()
            sending = asyncio.ensure_future(upstream.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * BIG))
            await settle(0.5)
            upstream.close()
            sending.cancel()
            await settle(1.0)
            assert len(proxy.engine.connections) == 1
            assert sum(tenant.connections for tenant in proxy.engine.tenants) == 1
            client.reset()
            await settle(0.5)
            assert not proxy.engine.connections
            assert proxy.engine.budget.held == 0

    run(conversation())


def test_an_exchange_that_goes_nowhere_ends() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(stall_seconds=0.5)) as proxy:
            proxy.engine._next_sweep = 0.0
            client = await proxy.connect()
            await client.send(GET)
            await proxy.upstream.accept()
            for _ in range(8):
                await asyncio.sleep(0.25)
                proxy.engine._next_sweep = 0.0
            assert await client.response() == (504, b"neither request nor response went on for too long\n")
            assert client.reason == "stalled"

    run(conversation())


def test_a_fault_of_ours_ends_its_own_connection_only() -> None:
    async def conversation() -> None:
        async with Proxy(answer=EMPTY) as proxy:
            client, other = await proxy.connect(), await proxy.connect()
            for one in (client, other):
                await one.send(GET)
                await one.response()
            errors: list[dict[str, Any]] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: errors.append(context))
            broken = next(iter(proxy.engine.connections))
            assert isinstance(broken, Downstream)
            broken.view = None  # type: ignore[assignment]  # what no code path does
            await client.send(GET)
            await settle()
            assert await client.closed()
            await other.send(GET)
            assert (await other.response())[0] == 200
            assert len(errors) == 1

    run(conversation())


def test_while_draining_a_promised_connection_takes_one_more_request() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            client = await proxy.connect()
            await client.send(GET + GET)
            upstream = await proxy.upstream.accept()
            await upstream.message()
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            await settle()
            proxy.engine.draining = True
            await upstream.send(b"cd")
            assert await client.response() == (200, b"abcd")
            await upstream.message()
            await upstream.send(EMPTY)
            assert (await client.response())[0] == 200
            assert b"Connection: close" in client.head
            assert await client.closed()

    run(conversation())


def test_a_live_connection_meets_a_rule_that_connect_judges_now() -> None:
    async def conversation() -> None:
        async with Proxy(answer=EMPTY, is_frontend=False, endpoints=()) as proxy:
            client = await proxy.connect()
            everybody = Policy("shop/all", Action.DENY, EnforcementLevel.NETWORK, (PolicyRule((), (), ()),))
            now = Snapshot(
                2,
                {SERVICE: replace(proxy.destination, policies=(everybody,))},
                dict(proxy.engine.snapshot.workloads),
            )
            assert now.destinations[SERVICE].is_met_by_workers
            proxy.engine.apply(now)
            await client.send(GET)
            assert (await client.response())[0] == 403

    run(conversation())


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("upgrade", "websocket", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("expect", "100-continue", b"Expect: 100-continue\r\n"),
        ("te", "trailers", b"Connection: TE\r\nTE: trailers\r\n"),
    ],
)
def test_a_deny_on_a_field_of_this_hop_is_met(name: str, value: str, line: bytes) -> None:
    operation = HttpOperation(headers=(ValueMatch(name, value),))
    deny = Policy("shop/deny", Action.DENY, EnforcementLevel.APPLICATION, (PolicyRule((), (), (operation,)),))

    async def conversation() -> None:
        async with Proxy(answer=EMPTY, policies=(deny,)) as proxy:
            client = await proxy.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + line + b"\r\n")
            assert (await client.response())[0] == 403
            assert not proxy.upstream.received

    run(conversation())
