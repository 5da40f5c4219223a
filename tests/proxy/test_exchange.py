"""Whole exchanges through the data path, on loopback."""

from __future__ import annotations

from tests.proxy.harness import Proxy, run

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_request_and_response_pass() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            client = await p.connect()
            await client.send(GET)
            assert await p.upstream.request() == GET
            await p.upstream.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


def test_connections_stay_open_and_upstreams_are_reused() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            client = await p.connect()
            for _ in range(5):
                await client.send(GET)
                assert await client.response() == (200, b"ok")
            assert len(p.upstream.connections) == 1
            assert p.rows()[0]["requests"] == 5

    run(conversation())
