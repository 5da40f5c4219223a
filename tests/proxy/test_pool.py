"""Upstream connections that are kept for the next request."""

from __future__ import annotations

from tests.proxy.harness import Connection, Proxy, run

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
