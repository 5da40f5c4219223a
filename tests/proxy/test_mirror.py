"""Copies of requests on the data path: what the mirror gets, and that the request knows nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.bounds import Bounds
from nodeagent.core.filters import Filters, Rewrite, header_change
from nodeagent.core.model import Action, Backend, EnforcementLevel, Mirror, PathKind, Policy, PolicyRule, Rule
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import Retry
from tests.proxy.harness import CALLER, COOKIE, Answer, Client, Proxy, ScriptedUpstream, run, settle

GET = b"GET /a HTTP/1.1\r\nHost: cart\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHER = b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nmirror"


@asynccontextmanager
async def mirrored(
    answer: Answer | None = OTHER, *, bounds: Bounds | None = None, served: Answer | None = OK, **rule: Any
) -> AsyncIterator[tuple[Proxy, ScriptedUpstream]]:
    """A route whose requests are served by `p.upstream` and mirrored, every one, to the other."""
    async with Proxy(answer=served, bounds=bounds) as p:
        mirror = ScriptedUpstream(answer)
        try:
            put(p, Mirror(Backend("shop/copies:80", 1, (mirror.endpoint,))), **rule)
            yield p, mirror
        finally:
            await mirror.close()


def put(p: Proxy, *mirrors: Mirror, **rule: Any) -> None:
    backend = Backend("shop/cart:80", 1, (p.upstream.endpoint,))
    one = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (backend,), mirrors=mirrors, **rule)
    p.apply(replace(p.destination, producer_rules=(one,), has_producer_route=True))


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - a counter has no event; `run` limits the time
        await asyncio.sleep(0.001)


async def ask(client: Client, request: bytes = GET) -> tuple[int, bytes]:
    await client.send(request)
    return await client.response()


@pytest.mark.parametrize("rule", [{}, {"timeouts": RouteTimeouts(60_000, 0)}, {"retry": Retry()}])
def test_a_bug_in_mirroring_is_reported_and_the_request_goes_on(
    rule: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def conversation() -> None:
        async with mirrored(**rule) as (p, mirror):
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            monkeypatch.setattr("nodeagent.proxy.mirror.endpoint_of_copy", broken)
            assert await ask(await p.connect()) == (200, b"ok")
            assert (len(reported), p.engine.stats.mirror_skipped, mirror.connections) == (1, 1, [])

    run(conversation())


def test_the_mirror_gets_the_request_and_its_answer_goes_nowhere() -> None:
    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            client = await p.connect()
            for _ in range(3):
                assert await ask(client) == (200, b"ok")
                await until(lambda: not len(p.engine.mirrors))
            assert mirror.received == p.upstream.received == GET * 3
            assert len(mirror.connections) == 1, "the connection is used again"
            assert (p.engine.stats.mirrored, p.engine.stats.mirror_failed) == (3, 0)
            assert p.engine.stats.requests == 3, "no copy is counted as a request"

    run(conversation())


def test_the_copy_is_of_what_is_forwarded() -> None:
    async def conversation() -> None:
        filters = Filters(header_change([("x-rule", "1")]), rewrite=Rewrite("inner"))
        async with mirrored(filters=filters) as (p, mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors))
            assert mirror.received == p.upstream.received == b"GET /a HTTP/1.1\r\nHost: inner\r\nx-rule: 1\r\n\r\n"

    run(conversation())


BODIES = [
    (b"Content-Length: 11\r\n\r\n", [b"hello ", b"world"], b"Content-Length: 11\r\n\r\nhello world"),
    (
        b"Transfer-Encoding: chunked\r\n\r\n",
        [b"6\r\nhello \r\n", b"5\r\nworld\r\n0\r\n\r\n"],
        b"Transfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("framing", "parts", "expected"), BODIES)
def test_the_copy_has_the_body_and_waits_until_it_is_whole(framing: bytes, parts: list[bytes], expected: bytes) -> None:
    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            client = await p.connect()
            await client.send(b"POST /a HTTP/1.1\r\nHost: cart\r\n" + framing + parts[0])
            await settle()
            assert mirror.connections == []
            assert await ask(client, parts[1]) == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors))
            assert mirror.received == b"POST /a HTTP/1.1\r\nHost: cart\r\n" + expected

    run(conversation())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_to_be_kept_is_not_mirrored_and_goes_its_way(chunked: bool) -> None:
    async def conversation() -> None:
        async with mirrored(bounds=Bounds(mirror_request_bytes=100)) as (p, mirror):
            client = await p.connect()
            body = b"x" * 101
            framing = b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + body + b"\r\n0\r\n\r\n"
            if not chunked:
                framing = b"Content-Length: 101\r\n\r\n" + body
            assert await ask(client, b"POST /a HTTP/1.1\r\nHost: cart\r\n" + framing) == (200, b"ok")
            await settle()
            assert (mirror.connections, p.engine.stats.mirror_too_large) == ([], 1)
            assert p.upstream.received.count(b"x") == 101

    run(conversation())


def test_a_copy_asks_for_nothing_of_the_hop() -> None:
    """An upgraded mirror would be a connection that nobody ends; a mirror's 100 is waited for by nobody."""

    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            client = await p.connect()
            hop = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            assert await ask(client, b"GET /a HTTP/1.1\r\nHost: cart\r\n" + hop + b"\r\n") == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors))
            assert b"Upgrade: websocket" in p.upstream.received
            assert mirror.received == GET

    run(conversation())


def test_a_mirror_that_never_answers_delays_nobody_and_is_given_up() -> None:
    async def conversation() -> None:
        async with mirrored(None, bounds=Bounds(mirror_seconds=0.3)) as (p, mirror):
            client = await p.connect()
            for _ in range(5):
                assert await ask(client) == (200, b"ok")
            assert len(p.engine.mirrors) == 5
            assert p.engine.gauges()["mirrors"] == 5
            await until(lambda: not len(p.engine.mirrors))
            assert p.engine.stats.mirror_failed == 5
            assert await mirror.drain() == GET * 5

    run(conversation())


BROKEN_ANSWERS = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"x" * 300,
]


@pytest.mark.parametrize("answer", BROKEN_ANSWERS)
def test_a_broken_or_endless_answer_of_a_mirror_is_its_own_affair(answer: bytes) -> None:
    async def conversation() -> None:
        async with mirrored(answer, bounds=Bounds(mirror_response_bytes=256)) as (p, _mirror):
            client = await p.connect()
            for _ in range(2):
                assert await ask(client) == (200, b"ok")
                await until(lambda: not len(p.engine.mirrors))
            assert (p.engine.stats.mirror_failed, p.engine.stats.broken_responses) == (2, 0)

    run(conversation())


def test_a_mirror_that_cannot_be_connected_or_closes_is_its_own_affair() -> None:
    async def conversation() -> None:
        async with mirrored(None) as (p, mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            (await mirror.accept()).close()
            await until(lambda: p.engine.stats.mirror_failed == 1)
            mirror.stop_listening()
            assert await ask(client) == (200, b"ok")
            await until(lambda: p.engine.stats.mirror_failed == 2)

    run(conversation())


def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async def conversation() -> None:
        async with mirrored(None) as (p, mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            connection = await mirror.accept()
            assert await connection.message() == GET
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            connection.close()
            await until(lambda: not len(p.engine.mirrors))
            assert p.engine.stats.mirror_failed == 0

    run(conversation())


def test_so_many_copies_are_under_way_and_no_more() -> None:
    async def conversation() -> None:
        async with mirrored(None, bounds=Bounds(mirrors=2)) as (p, mirror):
            client = await p.connect()
            for _ in range(5):
                assert await ask(client) == (200, b"ok")
            assert await mirror.drain() == GET * 2
            assert (p.engine.stats.mirrored, p.engine.stats.mirror_skipped) == (2, 3)

    run(conversation())


def test_the_copies_of_one_pod_leave_room_for_those_of_others() -> None:
    async def conversation() -> None:
        async with mirrored(None, bounds=Bounds(mirrors=8, mirrors_per_pod=2)) as (p, mirror):
            client = await p.connect()
            for _ in range(5):
                assert await ask(client) == (200, b"ok")
            assert await mirror.drain() == GET * 2
            assert (p.engine.stats.mirrored, p.engine.stats.mirror_skipped) == (2, 3)
            p.engine.set_pods({COOKIE: CALLER.key, 8: CALLER.key})
            p.acceptor.cookie = 8
            other = await p.connect()
            assert await ask(other) == (200, b"ok")
            assert await mirror.drain() == GET * 3
            for connection in mirror.connections:
                await connection.send(OK)
            await until(lambda: not len(p.engine.mirrors))
            assert await ask(client) == (200, b"ok")
            assert await mirror.drain() == GET * 4

    run(conversation())


def test_each_mirror_of_a_rule_gets_one() -> None:
    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            second = ScriptedUpstream(OTHER)
            both = [Mirror(Backend(f"shop/{one}:80", 1, (one.endpoint,) * 3)) for one in (mirror, second)]
            put(p, *both, Mirror(both[0].backend, 0, 100))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors) and p.engine.stats.mirrored == 2)
            assert (mirror.received, second.received) == (GET, GET)
            await second.close()

    run(conversation())


def test_a_mirror_whose_policy_denies_the_caller_gets_no_copy() -> None:
    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            policy = Policy("shop/p", Action.DENY, EnforcementLevel.NETWORK, (PolicyRule((), (), ()),))
            put(p, Mirror(Backend("shop/copies:80", 1, (mirror.endpoint,), policies=(policy,))))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await settle()
            assert (mirror.connections, p.engine.stats.mirror_denied) == ([], 1)

    run(conversation())


def test_what_is_not_forwarded_is_not_mirrored() -> None:
    async def conversation() -> None:
        async with mirrored() as (p, mirror):
            p.upstream.stop_listening()
            client = await p.connect()
            assert (await ask(client))[0] == 503
            await settle()
            assert (mirror.connections, p.engine.stats.mirror_skipped) == ([], 1)

    run(conversation())


def test_a_body_that_breaks_off_leaves_no_copy_and_nothing_held() -> None:
    async def conversation() -> None:
        async with mirrored(served=None) as (p, mirror):
            client = await p.connect()
            await client.send(b"POST /a HTTP/1.1\r\nHost: cart\r\nContent-Length: 50\r\n\r\n" + b"x" * 20)
            await until(lambda: p.engine.budget.held >= 20)
            client.reset()
            await until(lambda: p.engine.stats.mirror_skipped == 1)
            assert (mirror.connections, p.engine.budget.held) == ([], 0)

    run(conversation())


def test_a_rule_with_timeouts_mirrors_too() -> None:
    async def conversation() -> None:
        async with mirrored(timeouts=RouteTimeouts(5000, 2000)) as (p, mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors))
            assert mirror.received == GET

    run(conversation())


def test_a_request_under_policies_is_mirrored_once_however_often_it_is_tried() -> None:
    async def conversation() -> None:
        answers = iter((b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", OK))
        async with mirrored(served=lambda _request: next(answers), retry=Retry(backoff=1)) as (p, mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await until(lambda: not len(p.engine.mirrors))
            assert (p.upstream.received, mirror.received) == (GET * 2, GET)

    run(conversation())


def test_a_head_request_is_mirrored_and_its_answer_has_no_body() -> None:
    async def conversation() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        async with mirrored(head, served=head) as (p, mirror):
            client = await p.connect()
            await client.send(GET.replace(b"GET", b"HEAD"))
            assert await client.response(head_only=True) == (200, b"")
            await until(lambda: not len(p.engine.mirrors))
            assert (mirror.received, p.engine.stats.mirror_failed) == (GET.replace(b"GET", b"HEAD"), 0)

    run(conversation())


def test_copies_under_way_end_with_the_worker() -> None:
    """The harness fails if anything is held once all is closed."""

    async def conversation() -> None:
        async with mirrored(None) as (p, _mirror):
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            assert len(p.engine.mirrors) == 1

    run(conversation())
