"""Timeouts of a route's rule on the data path: when they come, what the client sees, what becomes of the upstream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.model import Backend, Endpoint, PathKind, Rule
from nodeagent.core.route_timeouts import RouteTimeouts
from tests.proxy.harness import Client, Connection, Proxy, run, settle

GET = b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 10\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
T = 0.13
"""No multiple of the engine's tick, which must not be what ends a request."""
LATE = 0.05


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def limit(proxy: Proxy, timeouts: RouteTimeouts | None, *endpoints: Endpoint) -> None:
    """Put a route with these timeouts in force."""
    backend = Backend("shop/cart:80", 1, endpoints or (proxy.upstream.endpoint,))
    rule = Rule("shop/r", "slow", PathKind.PREFIX, "/", "", (), (), (backend,), timeouts=timeouts)
    proxy.apply(replace(proxy.destination, producer_rules=(rule,), has_producer_route=True))


def now() -> float:
    return asyncio.get_running_loop().time()


async def refused(client: Client, request: bytes = GET) -> tuple[int, str, float]:
    """(status, reason, seconds) of a request's answer."""
    started = now()
    await client.send(request)
    status, _ = await client.response()
    return status, client.reason, now() - started


async def truncated(client: Client, started: float) -> tuple[bytes, float]:
    """(what came before the reset, seconds to it)."""
    data = b""
    try:
        while more := await client.recv():
            data += more
    except ConnectionResetError:
        return data, now() - started
    raise AssertionError(f"a clean end after {data!r}")


async def trickle(connection: Connection, head: bytes, rest: bytes) -> None:
    """Some bytes, then one more each 10 ms."""
    await connection.send(head)
    for byte in rest:
        await asyncio.sleep(0.01)
        await connection.send(bytes([byte]))


def counted(proxy: Proxy) -> list[tuple[str, str, str]]:
    return [(row["response_code"], row["response_flags"], row["reason"]) for row in proxy.rows()]


# ---- before the head ----


def test_a_silent_upstream_gets_504_in_time_and_the_client_goes_on() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(ms(T)))
            client = await p.connect()
            answers = [await refused(client) for _ in range(8)]
            assert {answer[:2] for answer in answers} == {(504, "request-timeout")}
            assert all(T - 0.002 <= seconds <= T + LATE for _, _, seconds in answers)
            assert counted(p) == [("504", "UT", "request-timeout")]
            assert len(p.upstream.connections) == 8

    run(conversation())


def test_the_answer_names_the_field_and_the_rule() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(100))
            client = await p.connect()
            await client.send(GET)
            detail = b"no response came within 100ms, timeouts.request of rule slow of HTTPRoute shop/r\n"
            assert await client.response() == (504, detail)

    run(conversation())


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
def test_a_head_that_trickles_is_not_waited_for(interim: bytes) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(ms(T)))
            client = await p.connect()
            started = now()
            await client.send(GET)
            upstream = await p.upstream.accept()
            slow = asyncio.ensure_future(trickle(upstream, interim + b"HTTP/1.1 200 OK\r\n", b"x" * 500))
            if interim:
                assert (await client.response(head_only=True))[0] == 103
            assert (await client.response())[0] == 504
            assert T - 0.002 <= now() - started <= T + 2 * LATE
            assert client.reason == "request-timeout"
            with pytest.raises(OSError, match=r"(?i)reset|pipe"):
                await slow

    run(conversation())


@pytest.mark.parametrize("timeouts", [RouteTimeouts(100), RouteTimeouts(0, 100)])
def test_the_connection_of_a_timed_out_request_is_closed_and_not_pooled(timeouts: RouteTimeouts) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, timeouts)
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            assert (await client.response())[0] == 504
            assert await upstream.recv() == b""
            assert p.engine.pool.size == 0
            await client.send(GET)
            await (await p.upstream.accept()).send(OK)
            assert await client.response() == (200, b"ok")
            assert p.engine.pool.size == 1

    run(conversation())


def test_a_body_that_comes_slowly_counts_too() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(ms(T)))
            client = await p.connect()
            await client.send(POST + b"01")
            started = now()
            upstream = await p.upstream.accept()
            await upstream.read_until(b"01")
            assert await client.response()
            assert (client.reason, b"connection: close" in client.head) == ("request-timeout", True)
            assert now() - started <= T + 2 * LATE
            assert await client.closed()
            with pytest.raises(ConnectionResetError):  # it must not take two bytes for a whole request
                await upstream.recv()

    run(conversation())


def test_a_socket_that_never_comes_is_not_waited_for() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(ms(T)))
            sockets = LateSockets(OSError(), 0.3)
            p.engine.sockets = sockets
            client = await p.connect()
            status, reason, seconds = await refused(client)
            assert (status, reason) == (504, "request-timeout")
            assert seconds <= T + 2 * LATE
            await asyncio.sleep(0.3)
            assert p.upstream.connections == []

    run(conversation())


# ---- after the head ----


@pytest.mark.parametrize(
    ("head", "timeouts", "reason"),
    [
        (b"Content-Length: 900\r\n", RouteTimeouts(ms(T)), "request-timeout-aborted"),
        (b"Transfer-Encoding: chunked\r\n", RouteTimeouts(ms(T)), "request-timeout-aborted"),
        (b"", RouteTimeouts(ms(T)), "request-timeout-aborted"),
        (b"Content-Length: 900\r\n", RouteTimeouts(0, ms(T)), "backend-request-timeout-aborted"),
        (b"", RouteTimeouts(9000, ms(T)), "backend-request-timeout-aborted"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_response_under_way_is_cut_by_a_reset(
    head: bytes, timeouts: RouteTimeouts, reason: str, version: bytes
) -> None:
    """Data that still moves does not help."""

    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, timeouts)
            client = await p.connect()
            started = now()
            await client.send(GET.replace(b"1.1", version))
            upstream = await p.upstream.accept()
            await upstream.message()
            chunk = b"1f4\r\n" if b"chunked" in head else b""
            start = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + chunk
            slow = asyncio.ensure_future(trickle(upstream, start, b"x" * 500))
            data, seconds = await truncated(client, started)
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"x" in data
            assert b"504" not in data
            assert T - 0.002 <= seconds <= T + 2 * LATE
            assert counted(p) == [("200", "UT", reason)]
            assert p.engine.pool.size == 0
            with pytest.raises(OSError, match=r"(?i)reset|pipe"):
                await slow

    run(conversation())


def test_a_response_that_is_whole_before_its_request_ends_in_good_order() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(ms(T), ms(T) // 2))
            client = await p.connect()
            started = now()
            await client.send(POST + b"01")
            upstream = await p.upstream.accept()
            await upstream.read_until(b"01")
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")
            assert await client.recv() == b""
            assert T - 0.002 <= now() - started <= T + 2 * LATE
            assert counted(p) == [("200", "", "")]
            assert p.engine.pool.size == 0

    run(conversation())


# ---- each try ----


class LateSockets:
    """A broker that gives each of its answers after some time, and none when there are no more."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(zip(answers[::2], answers[1::2], strict=True))

    def take(self, _cookie: int, _family: int) -> None:
        return None

    def wait(self, _cookie: int, _family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        if self._answers:
            answer, seconds = self._answers.pop(0)
            asyncio.get_running_loop().call_later(seconds, ready, answer)


@pytest.mark.parametrize(
    ("timeouts", "reason", "seconds"),
    [
        (RouteTimeouts(0, 130), "backend-request-timeout", 0.23),
        (RouteTimeouts(400, 130), "backend-request-timeout", 0.23),
        (RouteTimeouts(170, 130), "request-timeout", 0.17),
        (RouteTimeouts(130, 130), "request-timeout", 0.13),
    ],
)
def test_a_second_connect_is_a_try_of_its_own_within_the_requests_time(
    timeouts: RouteTimeouts, reason: str, seconds: float
) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, timeouts, p.upstream.endpoint, Endpoint("127.0.0.2", 9))
            p.engine.sockets = LateSockets(OSError("no socket"), 0.1)
            client = await p.connect()
            status, said, took = await refused(client)
            assert (status, said) == (504, reason)
            assert seconds - 0.005 <= took <= seconds + 2 * LATE
            assert p.engine.stats.connect_retries == 1

    run(conversation())


@pytest.mark.parametrize(
    ("timeouts", "reason", "seconds"),
    [(RouteTimeouts(170), "request-timeout", 0.17), (RouteTimeouts(0, 130), "backend-request-timeout", 0.23)],
)
def test_a_request_sent_again_is_a_try_of_its_own_within_the_requests_time(
    timeouts: RouteTimeouts, reason: str, seconds: float
) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, timeouts)
            client = await p.connect()
            await client.send(GET)
            first = await p.upstream.accept()
            await first.message()
            await first.send(OK)
            assert await client.response() == (200, b"ok")
            asyncio.get_running_loop().call_later(0.1, first.close)
            status, said, took = await refused(client)
            assert (status, said) == (504, reason)
            assert seconds - 0.005 <= took <= seconds + 2 * LATE
            assert p.engine.stats.replays == 1

    run(conversation())


# ---- no limit, and nothing left ----


@pytest.mark.parametrize("timeouts", [None, RouteTimeouts(), RouteTimeouts(0, 9000), RouteTimeouts(9000, 0)])
def test_without_a_limit_an_answer_is_waited_for(timeouts: RouteTimeouts | None) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, timeouts)
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await asyncio.sleep(0.3)
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


def running(proxy: Proxy) -> tuple[int, int]:
    """Deadlines of requests and of tries that are waited for."""
    return len(proxy.engine.request_deadlines), len(proxy.engine.try_deadlines)


async def answered(proxy: Proxy, client: Client) -> None:
    await (await proxy.upstream.accept()).send(OK)
    assert await client.response() == (200, b"ok")


async def left(_proxy: Proxy, client: Client) -> None:
    client.reset()
    await settle()


async def broken(proxy: Proxy, client: Client) -> None:
    await (await proxy.upstream.accept()).send(b"nonsense\r\n\r\n")
    assert (await client.response())[0] == 502


@pytest.mark.parametrize("end", [answered, left, broken])
def test_no_timer_outlives_its_exchange(end: Callable[[Proxy, Client], Any]) -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(9000, 8000))
            client = await p.connect()
            await client.send(GET)
            await settle()
            assert running(p) == (1, 1)
            await end(p, client)
            assert running(p) == (0, 0)

    run(conversation())


def test_an_exchange_without_timeouts_makes_no_timer() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            limit(p, None)
            client = await p.connect()
            await client.send(GET)
            assert await client.response() == (200, b"ok")
            assert running(p) == (0, 0)
            assert p.engine.request_deadlines.lengths == p.engine.try_deadlines.lengths == ()

    run(conversation())


def test_an_upgraded_connection_outlives_the_timeouts() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            limit(p, RouteTimeouts(100, 100))
            client = await p.connect()
            await client.send(GET[:-2] + b"Connection: upgrade\r\nUpgrade: chat\r\n\r\n")
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
            assert (await client.response(head_only=True))[0] == 101
            assert running(p) == (0, 0)
            await asyncio.sleep(0.3)
            await client.send(b"ping")
            assert await upstream.recv() == b"ping"

    run(conversation())
