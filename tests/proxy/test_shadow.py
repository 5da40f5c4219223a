"""TrafficPolicies in DryRun, through the real data path on loopback: what they count is what they would do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nodeagent.core.model import Endpoint
from nodeagent.core.traffic import (
    CircuitBreaker,
    Mode,
    OutlierDetection,
    PolicyTimeouts,
    Retry,
    RetryBudget,
    SuccessRate,
    TrafficPolicy,
)
from tests.proxy.harness import Client, Connection, Proxy, ScriptedUpstream, run, settle
from tests.proxy.test_managed import GET, OK, POST, UNBOUND, ask, failed, policy, sequence

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


def trial(**fields: Any) -> TrafficPolicy:
    return TrafficPolicy("shop/trial", Mode.DRY_RUN, **fields)


async def would(proxy: Proxy) -> Counter[str]:
    """By word."""
    await settle()
    return Counter({row["reason"]: row["requests"] for row in proxy.rows() if row["reason"].startswith("would-")})


async def begin(proxy: Proxy, request: bytes = GET) -> tuple[Client, Connection]:
    """A request that is under way on connections of its own."""
    proxy.engine.pool.close()
    client = await proxy.connect()
    await client.send(request)
    upstream = await proxy.upstream.accept()
    await upstream.message()
    return client, upstream


async def end(client: Client, upstream: Connection, answer: bytes = OK) -> int:
    await upstream.send(answer)
    return (await client.response())[0]


# ---- time ----


@pytest.mark.parametrize("timeouts", [PolicyTimeouts(request=100), PolicyTimeouts(per_try=100)])
@pytest.mark.parametrize("part", [b"", LONG])
def test_a_request_that_takes_too_long_would_time_out_once(timeouts: PolicyTimeouts, part: bytes) -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(timeouts=timeouts)) as p:
            client, upstream = await begin(p)
            await upstream.send(part)
            await settle(0.15)
            assert await end(client, upstream, b"payload.." if part else OK) == 200
            assert await end(*await begin(p)) == 200
            assert await would(p) == {"would-time-out": 1}

    run(conversation())


def test_a_request_in_which_nothing_moves_would_time_out() -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(timeouts=PolicyTimeouts(idle=300))) as p:
            client, upstream = await begin(p)
            await upstream.send(LONG)
            await settle(1.2)
            assert await end(client, upstream, b"payload..") == 200
            assert await would(p) == {"would-time-out": 1}

    run(conversation())


def test_a_connect_that_takes_too_long_would_time_out(silent: Endpoint) -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(timeouts=PolicyTimeouts(connect=100))) as p:
            p.set_endpoints(silent)
            client = await p.connect()
            await client.send(GET)
            await settle(0.2)
            client.reset()
            assert await would(p) == {"would-time-out": 1}

    run(conversation())


def test_a_protocol_that_was_switched_to_has_no_time() -> None:
    async def conversation() -> None:
        upgrade = b"GET / HTTP/1.1\r\nHost: shop\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        switched = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        async with Proxy(shadow=trial(timeouts=PolicyTimeouts(request=100, per_try=100))) as p:
            client, upstream = await begin(p, upgrade)
            assert await end(client, upstream, switched) == 101
            await settle(0.2)
            client.close()
            upstream.close()
            assert await would(p) == {}

    run(conversation())


def test_an_upload_after_the_whole_response_would_not_time_out() -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(timeouts=PolicyTimeouts(request=100, idle=100))) as p:
            client = await p.connect()
            await client.send(POST[:-1])
            upstream = await p.upstream.accept()
            await upstream.read_until(b"\r\n\r\n")
            assert await end(client, upstream) == 200
            await settle(0.8)
            await client.send(POST[-1:])
            assert await would(p) == {}

    run(conversation())


# ---- places ----


def test_a_request_that_would_have_ended_gives_its_place_back_then() -> None:
    async def conversation() -> None:
        breaker = CircuitBreaker(max_parallel_requests=1, max_connections=1)
        async with Proxy(shadow=trial(timeouts=PolicyTimeouts(request=100), circuit_breaker=breaker)) as p:
            late = await begin(p)
            await settle(0.15)
            assert await end(*await begin(p)) == 200
            assert await end(*late) == 200
            assert await would(p) == {"would-time-out": 1}

    run(conversation())


@pytest.mark.parametrize("breaker", [CircuitBreaker(max_parallel_requests=2), CircuitBreaker(max_connections=2)])
def test_requests_over_a_cap_would_overflow_and_take_no_place(breaker: CircuitBreaker) -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(circuit_breaker=breaker)) as p:
            first, second, third = await begin(p), await begin(p), await begin(p)
            assert await end(*first) == 200
            fourth = await begin(p)  # has the place of the first; the third had none
            for one in (second, third, fourth):
                assert await end(*one) == 200
            assert await would(p) == {"would-overflow": 1}

    run(conversation())


def test_requests_that_wait_for_a_connection_would_overflow(silent: Endpoint) -> None:
    async def conversation() -> None:
        async with Proxy(shadow=trial(circuit_breaker=CircuitBreaker(max_pending_requests=2))) as p:
            assert await end(*await begin(p)) == 200
            p.set_endpoints(silent)
            clients = [await p.connect() for _ in range(3)]
            for client in clients:
                await client.send(GET)
            await settle()
            for client in clients:
                client.reset()
            assert await would(p) == {"would-overflow": 1}
            (cluster,) = p.engine.handlings.clusters()
            assert cluster.caps.pending_requests is not None
            assert p.ledger.held(cluster.caps.pending_requests) == 0

    run(conversation())


# ---- retries ----


def test_only_what_may_be_sent_again_would_be_retried() -> None:
    async def conversation() -> None:
        async with Proxy(answer=failed(503), shadow=trial(retry=Retry(budget=UNBOUND))) as p:
            client = await p.connect()
            for request in (GET, POST, GET, POST):
                assert (await ask(client, request))[0] == 503
            assert await would(p) == {"would-retry": 2}

    run(conversation())


def test_retries_that_the_budget_has_not_would_not_be_made() -> None:
    async def conversation() -> None:
        budget = RetryBudget(percent=20, floor=0)
        async with Proxy(answer=failed(503), shadow=trial(retry=Retry(budget=budget))) as p:
            client = await p.connect()
            for _ in range(50):
                assert (await ask(client))[0] == 503
            assert await would(p) == {"would-retry": 10}

    run(conversation())


def test_a_try_that_takes_too_long_would_be_retried_where_a_policy_retries() -> None:
    async def conversation() -> None:
        shadow = trial(retry=Retry(budget=UNBOUND), timeouts=PolicyTimeouts(per_try=100))
        async with Proxy(shadow=shadow) as p:
            late = await begin(p)
            await settle(0.15)
            assert await end(*late) == 200
            assert await would(p) == {"would-retry": 1}

    run(conversation())


# ---- endpoints ----


def test_an_endpoint_that_recovers_and_fails_again_would_be_ejected_again() -> None:
    async def conversation() -> None:
        detection = OutlierDetection(consecutive_5xx=2, base_ejection_time=200)
        answers = sequence(*[failed(500)] * 4, OK, failed(500), failed(500), OK)
        async with Proxy(answer=answers, shadow=trial(outlier_detection=detection)) as p:
            client = await p.connect()
            for _ in range(4):  # ejected by the second; what comes after counts nothing
                assert (await ask(client))[0] == 500
            await settle(0.25)
            assert [(await ask(client))[0] for _ in range(3)] == [200, 500, 500]  # a probe, and two failures more
            assert await would(p) == {"would-eject": 2}
            assert p.engine.stats.ejections == 0

    run(conversation())


def test_what_would_have_timed_out_counts_against_its_endpoint_whatever_it_answers() -> None:
    async def conversation() -> None:
        detection = OutlierDetection(consecutive_local_origin_failures=2)
        shadow = trial(timeouts=PolicyTimeouts(request=100), outlier_detection=detection)
        async with Proxy(shadow=shadow) as p:
            for _ in range(2):
                late = await begin(p)
                await settle(0.15)
                assert await end(*late) == 200
            assert await would(p) == {"would-time-out": 2, "would-eject": 1}

    run(conversation())


RATES = OutlierDetection(
    consecutive_5xx=0, success_rate=SuccessRate(minimum_hosts=2, request_volume=5, stdev_factor=900), interval=300
)


@pytest.mark.parametrize("mode", list(Mode))
def test_ejections_by_success_rate_are_counted_where_they_belong(mode: Mode) -> None:
    async def conversation() -> None:
        bad = ScriptedUpstream(failed(500))
        shadow = trial(outlier_detection=RATES) if mode is Mode.DRY_RUN else None
        traffic = policy(outlier_detection=RATES) if mode is Mode.ENFORCE else None
        async with Proxy(answer=OK, traffic=traffic, shadow=shadow) as p:
            p.set_endpoints(p.upstream.endpoint, bad.endpoint)
            client = await p.connect()
            for _ in range(60):
                await ask(client)
            await settle(1.0)
            await ask(client)
            assert await would(p) == ({"would-eject": 1} if mode is Mode.DRY_RUN else {})
            assert p.engine.stats.ejections == (0 if mode is Mode.DRY_RUN else 1)
        await bad.close()

    run(conversation())


def test_consecutive_errors_that_eject_are_counted_as_ejections() -> None:
    async def conversation() -> None:
        async with Proxy(answer=failed(500), traffic=policy(outlier_detection=OutlierDetection(2))) as p:
            client = await p.connect()
            for _ in range(3):
                await ask(client)
            await settle(0.6)
            assert p.engine.stats.ejections == 1

    run(conversation())
