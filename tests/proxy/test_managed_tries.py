"""Tries of a managed request that go wrong in unusual ways, and what each of them must not do."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.bounds import KIB, MIB, Bounds
from nodeagent.core.ledger import LocalLedger, Prepared
from nodeagent.core.model import Endpoint
from nodeagent.core.traffic import (
    Balancing,
    CircuitBreaker,
    FaultInjection,
    Limit,
    LoadBalancer,
    Mode,
    OutlierDetection,
    PolicyTimeouts,
    RateLimitPolicy,
    RateLimitRule,
    Retry,
    RetryBudget,
    TrafficPolicy,
)
from nodeagent.proxy.downstream import Downstream
from nodeagent.proxy.exchange import Exchange
from nodeagent.proxy.policies.passage import Passage
from nodeagent.proxy.timed_exchange import TimedExchange
from tests.proxy.harness import Client, Connection, Proxy, fields_of, run, settle
from tests.proxy.test_managed import GET, OK, POST, UNBOUND, ask, count, failed, policy, retrying, sequence

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
OUTLIER = OutlierDetection(consecutive_local_origin_failures=2)


def put(body: bytes, fields: bytes = b"") -> tuple[bytes, bytes]:
    return b"PUT / HTTP/1.1\r\nHost: shop\r\n%bContent-Length: %d\r\n\r\n" % (fields, len(body)), body


@pytest.fixture
def first_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try goes to the first endpoint."""
    monkeypatch.setattr("nodeagent.proxy.downstream.random", lambda: 0.0)


# ---- what is sent again ----


def test_a_body_that_came_in_pieces_is_sent_again_whole() -> None:
    async def conversation() -> None:
        async with Proxy(answer=sequence(failed(503), OK), traffic=retrying(backoff=200)) as p:
            head, body = put(bytes(range(256)) * 250)  # 64,000 bytes
            client = await p.connect()
            await client.send(head + body[:10])
            await settle()
            await client.send(body[10:30_000])
            await settle()
            await client.send(body[30_000:])
            await settle(0.1)
            assert p.engine.budget.held >= len(body), "what may be sent again is not accounted"
            assert await client.response() == (200, b"ok")
            assert p.upstream.received.count(body) == 2
            assert p.engine.budget.held == 0

    run(conversation())


def test_a_body_of_64_kib_is_sent_again_and_a_larger_one_is_not() -> None:
    async def conversation() -> None:
        for size, answer, requests in ((65536, (200, b"ok"), 2), (65537, (503, b"no"), 1)):
            async with Proxy(answer=sequence(failed(503), OK), traffic=retrying()) as p:
                client = await p.connect()
                assert await ask(client, b"".join(put(b"x" * size))) == answer
                assert count(p) == requests

    run(conversation())


def test_nothing_is_kept_to_be_sent_again_when_the_worker_holds_too_much() -> None:
    async def conversation() -> None:
        async with Proxy(answer=sequence(failed(503), OK), bounds=Bounds(buffered=1000), traffic=retrying()) as p:
            head, body = put(b"x" * 5000)
            client = await p.connect()
            await client.send(head)
            await settle()
            p.engine.budget.add(1001)
            await client.send(body)
            assert await client.response() == (503, b"no")
            p.engine.budget.add(-1001)

    run(conversation())


def test_a_request_that_expects_100_continue_is_sent_again_with_its_body() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=retrying()) as p:
            head, body = put(b"hello", b"Expect: 100-continue\r\n")
            client = await p.connect()
            await client.send(head)
            upstream = await p.upstream.accept()
            await upstream.read_until(b"\r\n\r\n")
            await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert (await client.response())[0] == 100
            await client.send(body)
            assert await upstream.read_exactly(5) == body
            await upstream.send(failed(503))
            assert (await upstream.message()).endswith(body)
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


def test_an_interim_response_before_a_failure_may_be_seen_and_the_failure_not() -> None:
    async def conversation() -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
        async with Proxy(traffic=retrying()) as p:
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(hints)
            assert (await client.response())[0] == 103
            await upstream.send(failed(503))
            await upstream.message()
            await upstream.send(hints + failed(502))
            await upstream.message()
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


def test_a_retry_is_read_no_faster_than_a_client_that_was_behind_before_it_takes_it() -> None:
    """Interim responses fill the client's buffers, then the try is over."""

    async def conversation() -> None:
        traffic = policy(retry=Retry(1, backoff=1, budget=UNBOUND), timeouts=PolicyTimeouts(per_try=60_000))
        async with Proxy(bounds=Bounds(buffered_per_connection=16 * KIB), traffic=traffic) as p:
            client = await p.connect()
            await settle()
            (down,) = p.engine.connections
            assert isinstance(down, Downstream)
            down.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await client.send(GET)
            first = await p.upstream.accept()
            for _ in range(12):
                await first.send(b"HTTP/1.1 103 Early\r\nLink: " + b"x" * 40_000 + b"\r\n\r\n")
            await settle()
            assert down.stream.backed_up
            assert isinstance(down.exchange, TimedExchange)
            down.exchange.try_timed_out()
            second = await p.upstream.accept()
            size = 6 * MIB
            sent = second.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"y" * size)
            sending = asyncio.ensure_future(sent)
            await settle(0.2)
            assert p.engine.budget.held < MIB
            down.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
            while (answer := await client.response())[0] == 103:
                pass
            assert answer == (200, b"y" * size)
            await sending

    run(conversation())


def test_pipelined_requests_wait_for_the_retries_of_the_first() -> None:
    async def conversation() -> None:
        answers = sequence(failed(503), OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        async with Proxy(answer=answers, traffic=retrying(backoff=100)) as p:
            client = await p.connect()
            await client.send(GET + GET)
            assert await client.response() == (200, b"ok")
            assert await client.response() == (200, b"other")
            assert p.engine.stats.retries == 1

    run(conversation())


def test_a_client_that_has_said_all_still_gets_the_answer_of_a_retry() -> None:
    async def conversation() -> None:
        async with Proxy(answer=sequence(failed(503), OK), traffic=retrying(backoff=100)) as p:
            client = await p.connect()
            await client.send(GET)
            client.half_close()
            assert await client.response() == (200, b"ok")
            assert await client.closed()

    run(conversation())


def test_the_failure_of_a_head_request_has_no_body_to_wait_for() -> None:
    async def conversation() -> None:
        def answer(_request: bytes, left: list[int] = [503, 200]) -> bytes:  # noqa: B006 - the state of one test
            return b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n" % left.pop(0)

        async with Proxy(answer=answer, traffic=retrying()) as p:
            client = await p.connect()
            await client.send(GET.replace(b"GET", b"HEAD"))
            assert (await client.response(head_only=True))[0] == 200
            assert len(p.upstream.connections) == 1

    run(conversation())


# ---- connects ----


def test_the_connect_timeout_of_a_try_that_is_over_leaves_the_next_one_alone(
    first_endpoint: None, silent: Endpoint
) -> None:
    async def conversation() -> None:
        traffic = policy(
            retry=Retry(2, backoff=0, budget=UNBOUND), timeouts=PolicyTimeouts(connect=900, per_try=600)
        )
        async with Proxy(traffic=traffic) as p:
            p.set_endpoints(silent, p.upstream.endpoint)
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()  # after 600 ms
            await upstream.message()
            await settle(0.45)  # past 900 ms
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")
            assert len(p.upstream.connections) == 1

    run(conversation())


def test_any_request_is_tried_elsewhere_when_its_time_went_into_connecting(
    first_endpoint: None, silent: Endpoint
) -> None:
    async def conversation() -> None:
        traffic = policy(retry=Retry(1, backoff=0, budget=UNBOUND), timeouts=PolicyTimeouts(per_try=100))
        async with Proxy(answer=OK, traffic=traffic) as p:
            p.set_endpoints(silent, p.upstream.endpoint)
            assert await ask(await p.connect(), POST) == (200, b"ok")

    run(conversation())


def test_a_pooled_connection_that_has_ended_costs_a_retry_no_attempt_and_its_endpoint_nothing() -> None:
    async def conversation() -> None:
        traffic = policy(retry=Retry(1, backoff=1, budget=UNBOUND), outlier_detection=OutlierDetection(0, 0, 1))
        async with Proxy(traffic=traffic) as p:
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(failed(503))
            await upstream.message()
            upstream.reset()  # as a server does whose idle time is over
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")
            assert (p.engine.stats.retries, p.engine.stats.replays) == (1, 1)
            await client.send(GET)
            await upstream.message()
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


# ---- what an endpoint is blamed for ----


@pytest.mark.parametrize("timeouts", [PolicyTimeouts(request=50), PolicyTimeouts(per_try=50), PolicyTimeouts(idle=50)])
def test_an_endpoint_is_not_blamed_for_clients_that_do_not_send_their_body(timeouts: PolicyTimeouts) -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(timeouts=timeouts, outlier_detection=OUTLIER)) as p:
            for _ in range(3):
                client = await p.connect()
                await client.send(POST[:-1])
                assert (await client.response())[0] == 504
            client = await p.connect()
            await client.send(GET)
            await settle(0.02)
            await p.upstream.send(OK)
            assert (await client.response())[0] == 200

    run(conversation())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_an_endpoint_that_answers_nonsense_is_ejected(answer: bytes) -> None:
    async def conversation() -> None:
        async with Proxy(answer=answer, traffic=policy(outlier_detection=OUTLIER)) as p:
            client = await p.connect()
            assert [(await ask(client))[0] for _ in range(3)] == [502, 502, 503]
            assert client.reason == "no-healthy-endpoint"

    run(conversation())


def test_an_endpoint_that_ends_within_a_head_is_blamed_once() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(outlier_detection=OUTLIER)) as p:
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-")
            await settle()
            upstream.close()
            assert (await client.response())[0] == 502
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(OK)
            assert (await client.response())[0] == 200

    run(conversation())


# ---- probes ----


EJECTING = OutlierDetection(consecutive_5xx=1, base_ejection_time=300, max_ejection_percent=100)


def test_a_probe_that_follows_a_connect_that_failed_admits_its_endpoint(first_endpoint: None, silent: Endpoint) -> None:
    async def conversation() -> None:
        traffic = policy(outlier_detection=EJECTING, timeouts=PolicyTimeouts(connect=450))
        async with Proxy(answer=sequence(failed(500), OK), traffic=traffic) as p:
            client = await p.connect()
            assert (await ask(client))[0] == 500
            p.set_endpoints(silent, p.upstream.endpoint)
            assert (await ask(client))[0] == 200  # after 450 ms of connecting; the ejection ended meanwhile
            p.set_endpoints(p.upstream.endpoint)
            assert [(await ask(client))[0] for _ in range(3)] == [200] * 3

    run(conversation())


def test_a_probe_stays_one_when_a_pooled_connection_has_ended_under_it() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(outlier_detection=EJECTING)) as p:
            one, two = await p.connect(), await p.connect()
            await one.send(GET)
            pooled = await p.upstream.accept()
            await pooled.message()
            await pooled.send(failed(500))
            assert (await one.response())[0] == 500
            await settle(0.35)
            await one.send(GET)
            await pooled.message()
            pooled.reset()
            fresh = await p.upstream.accept()
            await fresh.message()
            assert (await ask(two))[0] == 503  # exactly one
            await fresh.send(OK)
            assert (await one.response())[0] == 200
            await one.send(GET)
            await fresh.message()
            await two.send(GET)
            other = await p.upstream.accept()  # admitted: not one at a time
            await other.message()
            for upstream, client in ((fresh, one), (other, two)):
                await upstream.send(OK)
                assert (await client.response())[0] == 200

    run(conversation())


# ---- waits ----


def test_a_retry_after_beyond_the_time_in_which_something_must_move_is_passed_on() -> None:
    async def conversation() -> None:
        bounds = Bounds(stall_seconds=5.0)
        async with Proxy(answer=failed(503, b"Retry-After: 6\r\n"), bounds=bounds, traffic=retrying()) as p:
            client, started = await p.connect(), p.engine.now()
            assert await ask(client) == (503, b"no")
            assert fields_of(client.head)["retry-after"] == "6"
            assert p.engine.now() - started < 1

    run(conversation())


def test_a_client_that_has_its_response_is_not_reset_for_an_upload_that_rests() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(timeouts=PolicyTimeouts(idle=200))) as p:
            client = await p.connect()
            await client.send(POST[:-1])
            upstream = await p.upstream.accept()
            await upstream.read_until(b"\r\n\r\n")
            await upstream.send(OK)
            assert await client.response() == (200, b"ok")
            assert await client.read_until_close() == b""
            (row,) = p.rows()
            assert (row["response_code"], row["response_flags"]) == ("200", "")

    run(conversation())


def test_a_try_that_takes_too_long_within_its_body_ends_in_a_reset() -> None:
    async def conversation() -> None:
        traffic = policy(retry=Retry(2, backoff=1, budget=UNBOUND), timeouts=PolicyTimeouts(per_try=100))
        async with Proxy(answer=LONG, traffic=traffic) as p:
            client = await p.connect()
            await client.send(GET)
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            with pytest.raises(ConnectionResetError):
                await client.read_until_close()
            assert count(p) == 1
            (row,) = p.rows()
            assert row["reason"] == "backend-request-timeout-aborted"

    run(conversation())


def test_requests_over_the_retry_budget_leave_their_upstream_connections_to_others() -> None:
    async def conversation() -> None:
        none = RetryBudget(percent=0, floor=0)
        async with Proxy(answer=failed(503), traffic=retrying(budget=none)) as p:
            client = await p.connect()
            assert {(await ask(client))[0] for _ in range(20)} == {503}
            assert client.reason == "retry-budget"
            assert len(p.upstream.connections) == 1

    run(conversation())


# ---- what is held is given back, once ----


CAPS = CircuitBreaker(10, 10, 10, 10)  # too few to keep places in reserve
CHUNKED = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"


async def whole_answer(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(OK)
    assert (await client.response())[0] == 200


async def client_leaves(_p: Proxy, client: Client, _upstream: Connection) -> None:
    client.reset()


async def client_leaves_in_the_body(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(LONG + b"part")
    await client.read_until(b"part")
    client.reset()


async def upstream_breaks(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(LONG + b"part")
    await client.read_until(b"part")
    upstream.reset()
    with pytest.raises(ConnectionResetError):
        await client.read_until_close()


async def upstream_talks_nonsense(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(b"HTTP/1.1 abc\r\n\r\n")
    assert (await client.response())[0] == 502


async def time_is_over(_p: Proxy, client: Client, _upstream: Connection) -> None:
    assert (await client.response())[0] == 504


async def time_is_over_in_the_body(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(LONG)
    await client.read_until(b"\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await client.read_until_close()


async def attempts_are_over(p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(failed(503))
    await upstream.message()
    assert p.engine.stats.retries >= 1
    await upstream.send(failed(503))
    assert (await client.response())[0] == 503


async def client_leaves_while_a_retry_waits(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(failed(503, b"Retry-After: 1\r\n"))
    await settle()
    client.reset()


async def protocol_is_switched(_p: Proxy, client: Client, upstream: Connection) -> None:
    await upstream.send(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert (await client.response())[0] == 101
    client.close()
    upstream.close()


ENDINGS = [
    whole_answer,
    client_leaves,
    client_leaves_in_the_body,
    upstream_breaks,
    upstream_talks_nonsense,
    time_is_over,
    time_is_over_in_the_body,
    attempts_are_over,
    client_leaves_while_a_retry_waits,
    protocol_is_switched,
]
UPGRADE = b"GET / HTTP/1.1\r\nHost: shop\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_however_a_request_ends_what_it_held_is_given_back_once(ending: object) -> None:
    """Beside one that goes on, so that what is given back twice shows, too."""

    async def conversation() -> None:
        traffic = policy(
            circuit_breaker=CAPS,
            retry=Retry(1, backoff=1, budget=UNBOUND),
            timeouts=PolicyTimeouts(request=1500, connect=1000, idle=60_000),
            load_balancer=LoadBalancer(Balancing.LEAST_REQUEST),
        )
        async with Proxy(traffic=traffic) as p:
            other, client = await p.connect(), await p.connect()
            await client.send(UPGRADE)
            upstream = await p.upstream.accept()
            await upstream.message()
            await settle(0.3)
            await other.send(GET)
            parked = await p.upstream.accept()
            await parked.message()
            (cluster,) = p.engine.handlings.clusters()
            assert [p.ledger.held(slot) for slot in cluster.caps if slot is not None] == [2, 0, 2, 0]
            await ending(p, client, upstream)  # type: ignore[operator]
            await settle(0.05)
            caps = cluster.caps
            assert caps.parallel_requests is not None
            assert caps.parallel_retries is not None
            assert p.ledger.held(caps.parallel_requests) == 1
            assert p.ledger.held(caps.parallel_retries) == 0
            assert cluster.loads.outstanding == [1]
            await parked.send(OK)
            assert (await other.response())[0] == 200
            await settle()
            assert p.ledger.held(caps.parallel_requests) == 0
            assert cluster.loads.outstanding == [0]
            p.engine.pool.close()
            assert caps.connections is not None
            assert p.ledger.held(caps.connections) == 0

    run(conversation())


def test_a_worker_that_stops_gives_back_what_its_requests_held() -> None:
    async def conversation() -> None:
        traffic = policy(circuit_breaker=CAPS, retry=Retry(1, backoff=60_000, budget=UNBOUND))
        async with Proxy(traffic=traffic) as p:
            waiting, trying = await p.connect(), await p.connect()
            await waiting.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(failed(503))
            await settle()
            await trying.send(GET)
            await upstream.message()
            (cluster,) = p.engine.handlings.clusters()
            assert [p.ledger.held(slot) for slot in cluster.caps if slot is not None] == [1, 0, 2, 1]
            p.engine.stop()
            assert [p.ledger.held(slot) for slot in cluster.caps if slot is not None] == [0, 0, 0, 0]
            assert cluster.loads.outstanding == [0]

    run(conversation())


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("a call of the ledger failed")])
def test_a_bug_of_ours_ends_its_request_and_gives_back_what_it_held(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for a failure of the endpoint, which would be blamed, and another one tried."""

    def broken(*_: object) -> None:
        raise error

    async def conversation() -> None:
        traffic = replace(retrying(), circuit_breaker=CAPS, outlier_detection=OUTLIER)
        async with Proxy(answer=OK, traffic=traffic) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            client = await p.connect()
            monkeypatch.setattr(Exchange, "_pass_on", broken)
            await client.send(GET)
            with pytest.raises(ConnectionResetError):
                await client.read_until_close()
            assert len(reported) == 1
            (row,) = p.rows()
            assert row["reason"] == "internal-error"
            assert p.engine.stats.retries == 0
            (cluster,) = p.engine.handlings.clusters()
            assert cluster.health is not None
            assert not cluster.health._refresh().troubled
            assert [p.ledger.held(slot) for slot in cluster.caps if slot is not None] == [0, 0, 0, 0]

    run(conversation())


class NoMemory(LocalLedger):
    """As the kernel's, when it has none for a call that gives back."""

    def give(self, prepared: Prepared) -> None:
        raise OSError("no memory")


@pytest.mark.parametrize("timeouts", [PolicyTimeouts(), PolicyTimeouts(idle=60_000)])
def test_a_request_whose_place_cannot_be_given_back_ends_as_ever(timeouts: PolicyTimeouts) -> None:
    """The usual way, and with an idle timeout the long one."""

    async def conversation() -> None:
        traffic = policy(circuit_breaker=CircuitBreaker(max_parallel_requests=10), timeouts=timeouts)
        async with Proxy(answer=OK, traffic=traffic, ledger=NoMemory(time.monotonic_ns)) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            client = await p.connect()
            for count in (1, 2):
                assert await ask(client) == (200, b"ok")
                await settle()
                assert len(reported) == count
                assert p.engine.tenants.requests == 0
                assert sum(row["requests"] for row in p.rows()) == count

    run(conversation())


def test_a_dry_run_that_cannot_be_started_leaves_no_place_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def conversation() -> None:
        rule = RateLimitRule("all", Limit(1000, 1000, 1000))
        limits = RateLimitPolicy("shop/limit", (rule,), Mode.DRY_RUN)
        async with Proxy(answer=OK, traffic=policy(circuit_breaker=CAPS), rate_limits=(limits,)) as p:
            p.engine.loop.set_exception_handler(lambda _loop, _context: None)
            client = await p.connect()
            monkeypatch.setattr("nodeagent.proxy.policies.handling.Shadow", broken)
            await client.send(GET)
            with pytest.raises(ConnectionResetError):
                await client.read_until_close()
            (cluster,) = p.engine.handlings.clusters()
            assert cluster.caps.parallel_requests is not None
            assert p.ledger.held(cluster.caps.parallel_requests) == 0

    run(conversation())


@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ("managed_exchange.ManagedExchange._go_or_refuse", {"fault_injection": FaultInjection(20, 100.0)}),
        ("managed_exchange.ManagedExchange._report_lateness", {"timeouts": PolicyTimeouts(idle=20)}),
        ("managed_exchange.ManagedExchange._report_lateness", {"timeouts": PolicyTimeouts(request=20)}),
        ("managed_exchange.ManagedExchange._report_lateness", {"timeouts": PolicyTimeouts(per_try=20)}),
    ],
)
def test_a_bug_in_a_timer_ends_its_request_at_once(
    where: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def conversation() -> None:
        async with Proxy(traffic=policy(circuit_breaker=CAPS, **fields)) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            monkeypatch.setattr(f"nodeagent.proxy.{where}", broken)
            await ends_in_a_bug(p, reported)

    run(conversation(), 3.0)


def test_a_bug_in_the_next_try_ends_its_request_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async def conversation() -> None:
        async with Proxy(answer=failed(503), traffic=replace(retrying(backoff=50), circuit_breaker=CAPS)) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            p.engine.loop.call_later(0.03, monkeypatch.setattr, Passage, "choose", broken)
            await ends_in_a_bug(p, reported)

    run(conversation(), 3.0)


@pytest.mark.parametrize("traffic", [None, policy(circuit_breaker=CAPS)])
def test_a_bug_once_a_connection_is_made_ends_its_request_at_once(
    traffic: TrafficPolicy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def conversation() -> None:
        async with Proxy(answer=OK, traffic=traffic) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            monkeypatch.setattr("nodeagent.proxy.upstream._is_connected", lambda _sock: False)
            monkeypatch.setattr(Exchange, "_send", broken)
            await ends_in_a_bug(p, reported)

    run(conversation(), 3.0)


async def ends_in_a_bug(p: Proxy, reported: list[object]) -> None:
    """One more request: its client is reset, and nothing of it stays."""
    client = await p.connect()
    await client.send(GET)
    with pytest.raises(ConnectionResetError):
        await client.read_until_close()
    assert len(reported) == 1
    (row,) = p.rows()
    assert row["reason"] == "internal-error"
    p.engine.pool.close()
    held = [p.ledger.held(slot) for one in p.engine.handlings.clusters() for slot in one.caps if slot is not None]
    assert not any(held)


def test_a_request_that_lasts_is_not_idle_while_something_moves() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(timeouts=PolicyTimeouts(idle=1000))) as p:
            client = await p.connect()
            await client.send(GET)
            upstream = await p.upstream.accept()
            await upstream.message()
            await upstream.send(LONG)
            for _ in range(9):
                await settle(0.3)
                await upstream.send(b"x")
            assert await client.response() == (200, b"x" * 9)
            await client.send(GET)
            assert (await client.response())[0] == 504  # the clock starts anew, and goes on

    run(conversation())
