"""Whoever does not read stops whoever sends, in every state, and nothing is held beyond the bounds."""

from __future__ import annotations

import asyncio

import pytest

from nodeagent.core.bounds import KIB, MIB, Bounds
from nodeagent.core.fields import host_of, tokens
from nodeagent.core.model import Action, EnforcementLevel, HttpOperation, PathKind, Policy, PolicyRule
from nodeagent.core.refusals import Refused
from nodeagent.proxy.downstream import Downstream, State
from tests.proxy.harness import Client, Connection, Proxy, run, settle

BOUNDS = Bounds(buffered=4 * MIB)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DENY_ALL = Policy(
    "shop/deny",
    Action.DENY,
    EnforcementLevel.APPLICATION,
    (PolicyRule((), (), (HttpOperation(paths=((PathKind.PREFIX, "/"),)),)),),
)


def chunk(size: int) -> bytes:
    return b"%x\r\n%b\r\n" % (size, b"x" * size)


def only_connection(proxy: Proxy) -> Downstream:
    (connection,) = proxy.engine.connections
    assert isinstance(connection, Downstream)
    return connection


async def flood(connection: Connection, data: bytes, times: int) -> int:
    """How many of `times` pieces the proxy took within three seconds."""
    sent = 0
    try:
        async with asyncio.timeout(3):
            for _ in range(times):
                await connection.send(data)
                sent += 1
    except TimeoutError:
        pass
    return sent


async def fill(proxy: Proxy, upstream: Connection) -> None:
    """Send until the client's side holds something, but not so much that it asked for a pause."""
    down = only_connection(proxy)
    while not 10_000 < down.stream.unsent < 60_000:
        await upstream.send(chunk(30_000))
        await settle(0.002)


async def answer_while_unread(proxy: Proxy, client: Client, second: bytes) -> Connection:
    """A first response that ends while its client is not reading, and a second request behind it."""
    await client.send(GET + second)
    upstream = await proxy.upstream.accept()
    await upstream.message()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    await fill(proxy, upstream)
    await upstream.send(chunk(60_000) + b"0\r\n\r\n")
    await settle()
    return upstream


def test_a_pipelined_request_is_not_served_to_a_client_that_takes_nothing() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=BOUNDS) as proxy:
            client = await proxy.connect()
            await answer_while_unread(proxy, client, GET)
            down = only_connection(proxy)
            assert down.state is State.HEAD
            assert down.stream.backed_up
            assert proxy.engine.budget.held < 2 * MIB
            status, body = await client.response()
            assert status == 200
            assert len(body) > 60_000
            await proxy.upstream.connection.message()
            assert only_connection(proxy).state is State.BUSY

    run(conversation())


def test_an_upgrade_behind_an_unread_response_keeps_the_pause() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=BOUNDS) as proxy:
            client = await proxy.connect()
            second = b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            upstream = await answer_while_unread(proxy, client, second)
            await client.response()
            await upstream.message()
            await upstream.send(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert await flood(upstream, b"y" * MIB, 60) < 60
            assert proxy.engine.budget.held < 2 * MIB

    run(conversation())


def test_a_client_that_pipelines_denied_requests_and_reads_nothing_is_stopped() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=BOUNDS, policies=(DENY_ALL,)) as proxy:
            client = await proxy.connect()
            assert await flood(client, GET * 2000, 2000) < 2000
            assert proxy.engine.budget.held < 2 * MIB

    run(conversation())


def test_an_upstream_that_has_not_taken_an_early_answered_request_is_not_used_again() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=BOUNDS) as proxy:
            client = await proxy.connect()
            size = 40 * MIB
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            upstream = await proxy.upstream.accept()
            await upstream.read_until(b"\r\n\r\n")
            sending = asyncio.ensure_future(client.send(b"z" * size))
            await settle(0.3)
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert await client.response() == (200, b"ok")
            while not sending.done():
                await asyncio.wait_for(upstream.recv(1 << 20), 5)
            await settle(0.3)
            assert proxy.engine.pool.size <= 1
            assert proxy.engine.budget.held < 2 * MIB

    run(conversation(), 40)


def test_bytes_of_pipelined_requests_are_in_the_budget_and_leave_it() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            client = await proxy.connect()
            await client.send(GET + b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            upstream = await proxy.upstream.accept()
            await upstream.message()
            await settle()
            assert proxy.engine.budget.held > 20_000
            client.reset()
            await settle()
            assert proxy.engine.budget.held == 0

    run(conversation())


def test_a_reset_is_seen_while_reading_is_paused() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            client = await proxy.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            await proxy.upstream.accept()
            sending = asyncio.ensure_future(client.send(b"z" * 50_000_000))
            await settle(0.5)
            sending.cancel()
            await settle()
            client.reset()
            await settle(0.3)
            assert not proxy.engine.connections
            assert proxy.engine.budget.held == 0

    run(conversation())


def test_what_peers_send_is_not_kept_outside_of_the_budget() -> None:
    before = tokens(b"a" * 300)
    assert tokens(b"a" * 300) is not before  # too long to be remembered
    with pytest.raises(Refused):
        host_of(b"a" * 60 * KIB)
