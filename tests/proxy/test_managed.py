"""Requests under a TrafficPolicy or RateLimitPolicy, through the real data path on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.model import Backend, Endpoint, PathKind, Rule
from nodeagent.core.traffic import (
    Balancing,
    Carrier,
    CircuitBreaker,
    FaultInjection,
    HashOn,
    Limit,
    LoadBalancer,
    Mode,
    OutlierDetection,
    Per,
    PolicyTimeouts,
    RateLimitPolicy,
    RateLimitRule,
    Retry,
    RetryBudget,
    SessionPersistence,
    TrafficPolicy,
)
from tests.proxy.harness import Client, Proxy, ScriptedUpstream, exchange_raw, fields_of, run, settle

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
UNBOUND = RetryBudget(percent=100, floor=1000)


def failed(status: int, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n%b\r\nno" % (status, fields)


def policy(**fields: Any) -> TrafficPolicy:
    return TrafficPolicy("shop/payments", **fields)


def retrying(**fields: Any) -> TrafficPolicy:
    return policy(retry=Retry(**{"attempts": 3, "backoff": 1, "budget": UNBOUND, **fields}))


def sequence(*answers: bytes) -> Callable[[bytes], bytes]:
    """One answer per request; the last for all that follow."""
    left = list(answers)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


async def ask(client: Client, request: bytes = GET) -> tuple[int, bytes]:
    await client.send(request)
    return await client.response()


def count(proxy: Proxy) -> int:
    """Requests that the upstream got."""
    return sum(connection.received.count(b" HTTP/1.1\r\n") for connection in proxy.upstream.connections)


# ---- retries ----


def test_a_status_that_the_policy_lists_is_tried_again_until_one_is_better() -> None:
    async def conversation() -> None:
        async with Proxy(answer=sequence(failed(503), failed(502), OK), traffic=retrying()) as p:
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            assert await ask(client) == (200, b"ok")
            assert count(p) == 4
            assert p.engine.stats.retries == 2

    run(conversation())


def test_the_last_answer_is_passed_on_when_every_attempt_failed() -> None:
    async def conversation() -> None:
        async with Proxy(answer=failed(503), traffic=retrying(attempts=2)) as p:
            client = await p.connect()
            assert await ask(client) == (503, b"no")
            assert count(p) == 3
            (row,) = p.rows()
            assert row["response_flags"] == "URX"

    run(conversation())


def test_where_no_attempts_are_asked_for_none_are_exhausted() -> None:
    """`retry.attempts: 0` of a rule; with a timeout the request takes the long way."""

    async def conversation() -> None:
        for timeouts in (PolicyTimeouts(), PolicyTimeouts(idle=60_000)):
            traffic = replace(retrying(attempts=0), timeouts=timeouts)
            async with Proxy(answer=failed(503), traffic=traffic) as p:
                assert await ask(await p.connect()) == (503, b"no")
                (row,) = p.rows()
                assert row["response_flags"] == ""

    run(conversation())


def test_a_request_that_is_not_idempotent_is_sent_once() -> None:
    async def conversation() -> None:
        async with Proxy(answer=failed(503), traffic=retrying()) as p:
            assert await ask(await p.connect(), POST) == (503, b"no")
            assert count(p) == 1

    run(conversation())


def test_any_request_is_tried_elsewhere_when_no_connection_was_made() -> None:
    async def conversation() -> None:
        dead = ScriptedUpstream(None)
        dead.stop_listening()
        async with Proxy(answer=OK, traffic=retrying()) as p:
            p.set_endpoints(dead.endpoint, p.upstream.endpoint)
            client = await p.connect()
            for _ in range(10):
                assert await ask(client, POST) == (200, b"ok")
            assert count(p) == 10
        await dead.close()

    run(conversation())


def test_over_the_budget_the_answer_is_503_and_nothing_is_sent() -> None:
    async def conversation() -> None:
        budget = RetryBudget(percent=20, interval=10_000, floor=2, floor_interval=10_000)
        async with Proxy(answer=failed(500), traffic=retrying(codes=frozenset({500}), budget=budget)) as p:
            client = await p.connect()
            answers = [await ask(client) for _ in range(100)]
            assert {status for status, _ in answers} <= {500, 503}
            assert client.reason == "retry-budget"
            assert 100 <= count(p) <= 100 * 1.2 + 3

    run(conversation())


def test_the_least_backoff_and_retry_after_are_waited_for() -> None:
    async def conversation() -> None:
        answers = sequence(failed(503), failed(503, b"Retry-After: 1\r\n"), OK)
        async with Proxy(answer=answers, traffic=retrying(backoff=200)) as p:
            client, started = await p.connect(), p.engine.now()
            assert await ask(client) == (200, b"ok")
            assert p.engine.now() - started >= 1.2

    run(conversation())


def test_a_retry_that_does_not_fit_into_the_requests_time_is_not_made() -> None:
    async def conversation() -> None:
        traffic = policy(retry=Retry(3, backoff=500, budget=UNBOUND), timeouts=PolicyTimeouts(request=300))
        async with Proxy(answer=failed(503), traffic=traffic) as p:
            assert await ask(await p.connect()) == (503, b"no")
            assert count(p) == 1

    run(conversation())


def test_a_try_that_takes_too_long_is_followed_by_another_within_the_requests_time() -> None:
    async def conversation() -> None:
        traffic = policy(retry=Retry(3, backoff=1, budget=UNBOUND), timeouts=PolicyTimeouts(request=1000, per_try=100))
        async with Proxy(traffic=traffic) as p:
            client, started = await p.connect(), p.engine.now()
            await client.send(GET)
            first = await p.upstream.accept()
            await first.message()
            second = await p.upstream.accept()
            await second.message()
            await second.send(OK)
            assert await client.response() == (200, b"ok")
            assert 0.1 <= p.engine.now() - started < 0.5
            assert await first.recv() == b""

    run(conversation())


def test_a_connection_that_breaks_without_an_answer_is_tried_again() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=retrying()) as p:
            client = await p.connect()
            await client.send(GET)
            first = await p.upstream.accept()
            await first.message()
            first.reset()
            second = await p.upstream.accept()
            await second.message()
            await second.send(OK)
            assert await client.response() == (200, b"ok")

    run(conversation())


def test_a_client_that_leaves_while_a_retry_waits_ends_it() -> None:
    async def conversation() -> None:
        async with Proxy(answer=failed(503), traffic=retrying(backoff=300)) as p:
            client = await p.connect()
            await client.send(GET)
            await settle(0.1)
            client.reset()
            await settle(0.5)
            assert count(p) == 1
            (row,) = p.rows()
            assert row["response_flags"] == "DC"

    run(conversation())


# ---- caps ----


def test_requests_over_the_cap_are_refused_at_once_and_the_place_comes_back() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(circuit_breaker=CircuitBreaker(max_parallel_requests=2))) as p:
            clients = [await p.connect() for _ in range(3)]
            for client in clients[:2]:
                await client.send(GET)
            await settle()
            assert (await ask(clients[2]))[0] == 503
            assert clients[2].reason == "circuit-breaker-max-parallel-requests"
            for connection in p.upstream.connections:
                await connection.send(OK)
            for client in clients[:2]:
                assert (await client.response())[0] == 200
            await clients[2].send(GET)
            await settle()
            await p.upstream.send(OK)
            assert (await clients[2].response())[0] == 200

    run(conversation())


def test_connections_over_the_cap_are_refused_and_idle_ones_give_way() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, traffic=policy(circuit_breaker=CircuitBreaker(max_connections=1))) as p:
            other = ScriptedUpstream(OK)
            p.set_endpoints(p.upstream.endpoint, other.endpoint)
            client = await p.connect()
            for _ in range(20):
                assert await ask(client) == (200, b"ok")
            assert other.connections
            assert p.upstream.connections
            p.set_endpoints(p.upstream.endpoint)
            await other.close()

    run(conversation())


# ---- outlier detection ----


def test_an_endpoint_with_consecutive_errors_gets_nothing_until_one_probe_succeeds() -> None:
    async def conversation() -> None:
        detection = OutlierDetection(consecutive_5xx=3, base_ejection_time=300, interval=1000)
        async with Proxy(answer=OK, traffic=policy(outlier_detection=detection)) as p:
            answers = [failed(500)]
            bad = ScriptedUpstream(lambda _request: answers[0])
            p.set_endpoints(p.upstream.endpoint, bad.endpoint)
            client = await p.connect()
            statuses = [(await ask(client))[0] for _ in range(60)]
            assert statuses.count(500) == 3
            asked = bad.received.count(b"GET")
            await settle(0.35)
            answers[0] = OK
            assert {(await ask(client))[0] for _ in range(60)} == {200}
            assert bad.received.count(b"GET") > asked + 1
            await bad.close()

    run(conversation())


def test_where_every_endpoint_is_ejected_the_answer_is_503() -> None:
    async def conversation() -> None:
        detection = OutlierDetection(consecutive_5xx=2)
        async with Proxy(answer=failed(500), traffic=policy(outlier_detection=detection)) as p:
            client = await p.connect()
            assert [(await ask(client))[0] for _ in range(4)] == [500, 500, 503, 503]
            assert client.reason == "no-healthy-endpoint"
            assert count(p) == 2

    run(conversation())


# ---- load balancing ----


@pytest.mark.parametrize("kind", [Balancing.RANDOM, Balancing.ROUND_ROBIN, Balancing.LEAST_REQUEST])
def test_every_way_of_balancing_uses_every_endpoint(kind: Balancing) -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, traffic=policy(load_balancer=LoadBalancer(kind))) as p:
            other = ScriptedUpstream(OK)
            p.set_endpoints(p.upstream.endpoint, other.endpoint)
            client = await p.connect()
            for _ in range(40):
                assert await ask(client) == (200, b"ok")
            assert count(p) >= 5
            assert other.received.count(b"GET") >= 5
            await other.close()

    run(conversation())


def test_the_endpoint_that_answers_faster_is_preferred_by_peak_ewma() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, traffic=policy(load_balancer=LoadBalancer(Balancing.PEAK_EWMA))) as p:
            slow = ScriptedUpstream(None)

            async def crawl() -> None:
                connection = await slow.accept()
                while True:
                    await connection.message()
                    await asyncio.sleep(0.1)
                    await connection.send(OK)

            task = asyncio.ensure_future(crawl())
            p.set_endpoints(p.upstream.endpoint, slow.endpoint)
            client = await p.connect()
            for _ in range(60):
                assert await ask(client) == (200, b"ok")
            assert slow.received.count(b"GET") <= 3
            task.cancel()
            await slow.close()

    run(conversation())


def test_requests_with_one_value_of_the_hashed_header_go_to_one_endpoint() -> None:
    async def conversation() -> None:
        balancer = LoadBalancer(Balancing.RING_HASH, HashOn.HEADER, "x-user")
        async with Proxy(answer=OK, traffic=policy(load_balancer=balancer)) as p:
            others = [ScriptedUpstream(OK) for _ in range(3)]
            p.set_endpoints(p.upstream.endpoint, *(one.endpoint for one in others))
            client = await p.connect()
            for _ in range(20):
                assert await ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n") == (200, b"ok")
            counts = [one.received.count(b"GET") for one in (p.upstream, *others)]
            assert sorted(counts) == [0, 0, 0, 20]
            for one in others:
                await one.close()

    run(conversation())


def test_a_client_without_the_hashed_cookie_gets_one_and_stays() -> None:
    async def conversation() -> None:
        balancer = LoadBalancer(Balancing.RING_HASH, HashOn.COOKIE, "mesh", ttl=60_000)
        async with Proxy(answer=OK, traffic=policy(load_balancer=balancer)) as p:
            others = [ScriptedUpstream(OK) for _ in range(3)]
            p.set_endpoints(p.upstream.endpoint, *(one.endpoint for one in others))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            cookie = fields_of(client.head)["set-cookie"]
            assert cookie.endswith("; Path=/; Max-Age=60; HttpOnly")
            request = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % cookie.partition(";")[0].encode()
            for _ in range(20):
                assert await ask(client, request) == (200, b"ok")
                assert "set-cookie" not in fields_of(client.head)
            assert sorted(one.received.count(b"GET") for one in (p.upstream, *others)) == [0, 0, 0, 21]
            for one in others:
                await one.close()

    run(conversation())


@pytest.mark.parametrize("carrier", list(Carrier))
def test_a_session_stays_with_its_endpoint_until_that_is_gone(carrier: Carrier) -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            other = ScriptedUpstream(OK)
            both = (p.upstream.endpoint, other.endpoint)
            session = SessionPersistence("x-session", carrier)
            backends = (Backend("shop/b:80", 1, both),)
            rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), backends, session=session)
            p.apply(replace(p.destination, producer_rules=(rule,), has_producer_route=True))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            given = fields_of(client.head)
            name = "cookie" if carrier is Carrier.COOKIE else "x-session"
            value = given["set-cookie"].partition(";")[0] if carrier is Carrier.COOKIE else given["x-session"]
            request = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n".encode()
            for _ in range(20):
                assert await ask(client, request) == (200, b"ok")
                assert not {"set-cookie", "x-session"} & fields_of(client.head).keys()
            home, away = (p.upstream, other) if p.upstream.received else (other, p.upstream)
            assert not away.received
            left = replace(rule, backends=(Backend("shop/b:80", 1, (away.endpoint,)),))
            p.apply(replace(p.destination, producer_rules=(left,), has_producer_route=True))
            assert await ask(client, request) == (200, b"ok")
            assert {"set-cookie", "x-session"} & fields_of(client.head).keys()
            assert home.received.count(b"GET") == 21
            await other.close()

    run(conversation())


# ---- rate limits ----


def limit(mode: Mode = Mode.ENFORCE, **rule: Any) -> RateLimitPolicy:
    return RateLimitPolicy("shop/limit", (RateLimitRule("all", Limit(2, 60_000, 2), **rule),), mode)


def test_over_the_limit_the_answer_says_when_to_come_again() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, rate_limits=(limit(),)) as p:
            client = await p.connect()
            assert [(await ask(client))[0] for _ in range(4)] == [200, 200, 429, 429]
            assert client.reason == "rate-limited"
            head = client.head.lower()
            assert b"\r\nretry-after: 30\r\n" in head
            assert b"\r\nratelimit-limit: 2\r\n" in head
            assert b"\r\nratelimit-remaining: 0\r\n" in head

    run(conversation())


def test_each_value_of_a_header_has_its_own_bucket() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, rate_limits=(limit(per=Per.HEADER, header="x-user"),)) as p:
            client = await p.connect()
            for user in (b"ann", b"bob"):
                request = b"GET / HTTP/1.1\r\nHost: a\r\nX-User: %b\r\n\r\n" % user
                assert [(await ask(client, request))[0] for _ in range(3)] == [200, 200, 429]

    run(conversation())


def test_a_limit_in_dry_run_is_counted_and_changes_nothing() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, rate_limits=(limit(Mode.DRY_RUN),)) as p:
            client = await p.connect()
            assert [(await ask(client))[0] for _ in range(5)] == [200] * 5
            await settle()
            assert {row["reason"]: row["requests"] for row in p.rows()} == {"": 5, "would-limit": 3}

    run(conversation())


# ---- timeouts ----


def test_a_policys_request_timeout_is_504_and_names_the_policy() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(timeouts=PolicyTimeouts(request=100))) as p:
            client = await p.connect()
            status, body = await ask(client)
            assert (status, client.reason) == (504, "request-timeout")
            assert b"TrafficPolicy shop/payments" in body

    run(conversation())


def test_an_exchange_in_which_nothing_moves_ends_after_the_idle_timeout() -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(timeouts=PolicyTimeouts(idle=300))) as p:
            client, started = await p.connect(), p.engine.now()
            assert (await ask(client))[0] == 504
            assert client.reason == "idle-timeout"
            assert 0.25 <= p.engine.now() - started < 1.2

    run(conversation())


def test_a_connect_that_takes_too_long_is_given_up() -> None:
    async def conversation() -> None:
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        address = full.getsockname()[:2]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # the queue holds these; what comes after gets no answer
            one.setblocking(False)
            one.connect_ex(address)
        async with Proxy(traffic=policy(timeouts=PolicyTimeouts(connect=200))) as p:
            p.set_endpoints(Endpoint(*address))
            client, started = await p.connect(), p.engine.now()
            status, _ = await ask(client)
            assert status == 503
            assert client.reason == "upstream-connect-failed"
            assert 0.15 <= p.engine.now() - started < 2
        for one in (full, *waiting):
            one.close()

    run(conversation())


# ---- faults ----


def test_faults_delay_and_abort_without_reaching_the_upstream() -> None:
    async def conversation() -> None:
        fault = FaultInjection(delay=100, delay_percent=100, abort_status=418, abort_percent=100)
        async with Proxy(answer=OK, traffic=policy(fault_injection=fault)) as p:
            client, started = await p.connect(), p.engine.now()
            assert (await ask(client))[0] == 418
            assert client.reason == "fault-abort"
            assert p.engine.now() - started >= 0.1
            assert count(p) == 0

    run(conversation())


# ---- dry run ----


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"circuit_breaker": CircuitBreaker(max_parallel_requests=0)}, "circuit-breaker-max-parallel-requests"),
        ({"circuit_breaker": CircuitBreaker(max_connections=0)}, "circuit-breaker-max-connections"),
        ({"fault_injection": FaultInjection(abort_status=503, abort_percent=100)}, "fault-abort"),
        ({"timeouts": PolicyTimeouts(idle=50)}, "idle-timeout"),
    ],
)
def test_what_a_policy_refuses_is_counted_for_it_and_observed_with_what_is_wrong(
    fields: dict[str, Any], reason: str
) -> None:
    async def conversation() -> None:
        async with Proxy(traffic=policy(**fields)) as p:
            p.engine.observing = True
            client = await p.connect()
            _, body = await ask(client)
            (row,), (event,) = p.rows(), p.events
            assert (client.reason, row["reason"], event["reason"]) == (reason, reason, reason)
            assert (row["policy"], event["policy"]) == ("shop/payments", "shop/payments")
            assert event["detail"] == body.decode().strip()

    run(conversation())


OBSERVED: dict[str, tuple[bytes, bytes, dict[str, Any]]] = {
    "upstream-connect-failed": (GET, b"", {"endpoints": (Endpoint("127.0.0.1", 1),)}),
    "upstream-closed": (POST, b"", {}),
    "upstream-truncated": (GET, b"HTTP/1.1 200 OK\r\n", {}),
    "request-timeout": (GET, b"later", {"traffic": policy(timeouts=PolicyTimeouts(request=50))}),
    "method-unknown": (b"BREW / HTTP/1.1\r\nHost: shop\r\n\r\n", b"", {}),
    "chunk-size": (
        b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"later",
        {"traffic": policy(retry=Retry())},
    ),
}


@pytest.mark.parametrize("reason", OBSERVED)
def test_every_error_is_observed_with_the_words_that_the_client_gets(reason: str) -> None:
    request, answer, fields = OBSERVED[reason]

    async def conversation() -> None:
        async with Proxy(**fields) as p:
            p.engine.observing = True
            client = await p.connect()
            await client.send(request)
            if "endpoints" not in fields and answer != b"later" and reason != "method-unknown":
                await p.upstream.request()
                await p.upstream.send(answer)
                p.upstream.connection.close()
            _, body = await client.response()
            (event,) = p.events
            assert (client.reason, event["reason"]) == (reason, reason)
            assert event["detail"] == body.decode().strip() != ""

    run(conversation())


@pytest.mark.parametrize(
    ("traffic", "then", "reason", "detail"),
    [
        (None, b"", "upstream-truncated", "before"),
        (policy(timeouts=PolicyTimeouts(request=50)), None, "request-timeout-aborted", "50"),
        (policy(timeouts=PolicyTimeouts(idle=50)), None, "idle-timeout", "timeouts.idle"),
    ],
)
def test_a_response_that_breaks_off_is_observed_with_what_is_wrong(
    traffic: TrafficPolicy | None, then: bytes | None, reason: str, detail: str
) -> None:
    async def conversation() -> None:
        async with Proxy(traffic=traffic) as p:
            p.engine.observing = True
            client = await p.connect()
            await client.send(GET)
            await p.upstream.request()
            await p.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
            if then is not None:
                p.upstream.connection.close()
            with pytest.raises(ConnectionResetError):
                await client.read_until_close()
            (event,) = p.events
            assert event["reason"] == reason
            assert detail in event["detail"]

    run(conversation())


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_fault_with_a_status_that_has_no_content_leaves_the_connection_in_order(status: int) -> None:
    async def conversation() -> None:
        fault = FaultInjection(abort_status=status, abort_percent=100)
        async with Proxy(traffic=policy(fault_injection=fault)) as p:
            got = await exchange_raw(p, GET + GET)
            first, second, rest = got.split(b"\r\n\r\n")
            assert first == second
            assert rest == b""
            assert first.startswith(b"HTTP/1.1 %d " % status)
            assert (b"content-length: 0" in first) == (status == 205)

    run(conversation())


def test_a_policy_in_dry_run_counts_what_it_would_do() -> None:
    async def conversation() -> None:
        shadow = TrafficPolicy(
            "shop/trial",
            Mode.DRY_RUN,
            PolicyTimeouts(request=50),
            circuit_breaker=CircuitBreaker(max_parallel_requests=1),
            outlier_detection=OutlierDetection(consecutive_5xx=1),
        )
        async with Proxy(shadow=shadow) as p:
            first, second = await p.connect(), await p.connect()
            await first.send(GET)
            await second.send(GET)
            await asyncio.sleep(0.1)
            for connection, answer in zip(p.upstream.connections, (OK, failed(500)), strict=True):
                await connection.send(answer)
            assert sorted([(await first.response())[0], (await second.response())[0]]) == [200, 500]
            await settle()
            would = {row["reason"]: row["policy"] for row in p.rows() if row["reason"]}
            assert would.keys() >= {"would-time-out", "would-overflow"}
            assert set(would.values()) == {"shop/trial"}

    run(conversation())
