"""A connect that failed is tried at the backend's other endpoints, since nothing of the request was sent."""

from __future__ import annotations

import socket

from nodeagent.core.bounds import Bounds
from nodeagent.core.model import Endpoint
from tests.proxy.harness import Proxy, run

POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def dead_endpoint() -> Endpoint:
    """A port where nothing listens (any more)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Endpoint("127.0.0.1", listener.getsockname()[1])


def test_a_request_meets_the_endpoint_that_lives() -> None:
    async def conversation() -> None:
        async with Proxy(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as proxy:
            proxy.set_endpoints(dead_endpoint(), proxy.upstream.endpoint)
            for _ in range(30):
                client = await proxy.connect()
                await client.send(POST)
                assert (await client.response())[0] == 200
            assert proxy.engine.stats.connect_retries > 0
            assert proxy.upstream.received.count(b"POST /a ") == 30

    run(conversation())


def test_no_more_endpoints_are_tried_than_the_bound_and_the_answer_says_so() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            proxy.set_endpoints(*(dead_endpoint() for _ in range(6)))
            client = await proxy.connect()
            await client.send(POST)
            assert (await client.response())[0] == 503
            assert client.reason == "upstream-connect-failed"
            assert proxy.engine.stats.connect_retries == 2

    run(conversation())


def test_a_socket_that_never_comes_is_a_connect_that_failed() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds(connect_seconds=0.3)) as proxy:

            class Silent:
                def take(self, cookie: int, family: int) -> None:
                    return None

                def wait(self, cookie: int, family: int, ready: object) -> None:
                    """A broker that hangs."""

            proxy.engine.sockets = Silent()
            client = await proxy.connect()
            await client.send(POST)
            assert (await client.response())[0] == 503

    run(conversation())
