"""Over the memory mark the pod that holds the most loses its connections, with a reason; the others keep theirs."""

from __future__ import annotations

import pytest

from nodeagent.core.bounds import KIB, MIB, Bounds
from nodeagent.core.overload import SHED_REQUESTS, Watermark
from nodeagent.core.policy_refusals import PolicyRefusal
from nodeagent.proxy.downstream import Downstream
from nodeagent.proxy.exchange import Exchange
from nodeagent.proxy.memory import Resident
from nodeagent.proxy.shedding import AT_ONCE, Shedder
from tests.proxy.harness import Client, Proxy, SecondPod, run, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MARK = Watermark(high=100, low=80)


class Memory:
    def __init__(self, used: int) -> None:
        self.used = used

    def __call__(self) -> int:
        return self.used


async def waiting(proxy: Proxy, count: int, port: int = 0) -> list[Client]:
    """Clients with a request each that is not answered."""
    clients, wanted = [await proxy.connect(port) for _ in range(count)], under_way(proxy) + count
    for client in clients:
        await client.send(GET)
    while under_way(proxy) < wanted:
        await settle()
    return clients


def under_way(proxy: Proxy) -> int:
    """Requests that have arrived, and are not answered."""
    return sum(isinstance(one, Downstream) and one.exchange is not None for one in proxy.engine.connections)


def test_a_bug_in_one_ending_keeps_no_other_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            reported: list[object] = []
            proxy.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            clients = await waiting(proxy, SHED_REQUESTS + 1)
            first = next(iter(proxy.engine.connections))
            assert isinstance(first, Downstream)
            broken = first.exchange
            shed = Exchange.shed

            def shed_or_fail(exchange: Exchange, refusal: PolicyRefusal) -> None:
                if exchange is broken:
                    raise RuntimeError("a bug")
                shed(exchange, refusal)

            monkeypatch.setattr(Exchange, "shed", shed_or_fail)
            memory = Memory(200)
            proxy.engine.shedder = Shedder(proxy.engine, MARK, memory)
            proxy.engine.shedder.tick()
            assert [(await client.response())[0] for client in clients[1:]] == [503] * SHED_REQUESTS
            assert len(reported) == 1
            monkeypatch.undo()
            await settle()
            clients += await waiting(proxy, SHED_REQUESTS)
            proxy.engine.shedder.tick()
            assert (await clients[0].response())[0] == 503

    run(conversation())


def test_the_pod_with_the_most_is_answered_503_and_closed_and_the_other_goes_on() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            pod = SecondPod(proxy)
            few = await waiting(proxy, 2)
            many = await waiting(proxy, 2 * AT_ONCE + 3, pod.port)
            memory = Memory(101)
            shedder = Shedder(proxy.engine, MARK, memory)
            shedder.tick()
            for client in many:
                assert (await client.response())[0] == 503
                assert client.reason == "memory-pressure"
                assert await client.closed()
            assert proxy.engine.stats.shed_connections == len(many)
            memory.used = 70
            shedder.tick()
            for connection in proxy.upstream.connections[:2]:
                await connection.send(OK)
            for client in few:
                assert await client.response() == (200, b"ok")

    run(conversation())


def test_shedding_goes_on_with_the_next_pod_until_below_the_low_mark() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            pod = SecondPod(proxy)
            await waiting(proxy, SHED_REQUESTS)
            await waiting(proxy, SHED_REQUESTS + 1, pod.port)
            memory = Memory(101)
            shedder = Shedder(proxy.engine, MARK, memory)
            for used in (101, 90):
                memory.used = used
                shedder.tick()
                await settle()
            assert proxy.engine.stats.shed_pods == 2
            assert proxy.engine.tenants.requests == 0
            shedder.tick()
            assert proxy.engine.stats.shed_pods == 2  # nobody holds anything worth it

    run(conversation())


def test_a_response_that_has_begun_is_reset_not_ended() -> None:
    async def conversation() -> None:
        async with Proxy(bounds=Bounds()) as proxy:
            (first, *_) = await waiting(proxy, SHED_REQUESTS)
            upstream = proxy.upstream.connections[0]
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
            await first.read_until(b"\r\n\r\nabc")
            Shedder(proxy.engine, MARK, Memory(101)).tick()
            with pytest.raises(ConnectionResetError):
                await first.read_until_close()

    run(conversation())


def test_below_the_mark_nothing_is_ended() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            await waiting(proxy, 20)
            Shedder(proxy.engine, MARK, Memory(100)).tick()
            await settle()
            assert proxy.engine.tenants.requests == 20

    run(conversation())


def test_resident_memory_is_read_again_each_time() -> None:
    resident = Resident()
    before = resident()
    held = bytearray(40 * MIB)
    held[:: 4 * KIB] = b"x" * len(held[:: 4 * KIB])
    assert resident() - before > 30 * MIB
    del held
    resident.close()
