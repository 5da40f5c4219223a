"""A worker's stock of sockets, against a broker that the test plays; and a broker against workers that misbehave."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from nodeagent.proxy import broker_wire, pulse
from nodeagent.proxy.broker import Broker
from nodeagent.proxy.broker_sockets import BrokerSockets
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.sockets import Buffers
from tests.proxy.harness import settle

COOKIE = 7
Got = list[socket.socket | OSError]


class Desk:
    """The broker's end of a worker's channel, and what the worker was told."""

    def __init__(self, loop: DataLoop, most: int = 64) -> None:
        theirs, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.setblocking(False)
        self.gone: list[int] = []
        self.ended = False
        self.worker = BrokerSockets(loop, theirs, lambda *_: None, self.gone.append, self._end, most)
        self._theirs = theirs

    def _end(self) -> None:
        self.ended = True

    def asked(self) -> int:
        """How many sockets the worker asks for; BlockingIOError when it does not ask."""
        message, _ = broker_wire.receive(self.end)
        assert message is not None
        return int(message["count"])

    def answer(self, count: int) -> None:
        made = [socket.socket() for _ in range(count)]
        data = broker_wire.encode({"op": "sockets", "cookie": COOKIE, "family": 4})
        broker_wire.send(self.end, data, [one.fileno() for one in made])
        for one in made:
            one.close()

    def close(self) -> None:
        self.end.close()
        self._theirs.close()


def play(conversation: Callable[[Desk], Awaitable[None]], most: int = 64) -> None:
    async def whole() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DataLoop)
        desk = Desk(loop, most)
        try:
            await conversation(desk)
        finally:
            desk.worker.close()
            desk.close()

    with asyncio.Runner(loop_factory=DataLoop) as runner:
        runner.run(whole())


def closed(got: Got) -> None:
    for one in got:
        if isinstance(one, socket.socket):
            one.close()


def test_a_waiter_gets_a_socket_and_the_rest_are_kept_at_hand() -> None:
    async def conversation(desk: Desk) -> None:
        got: Got = []
        assert desk.worker.take(COOKIE, 4) is None
        desk.worker.wait(COOKIE, 4, got.append)
        count = desk.asked()
        desk.answer(count)
        await settle()
        assert len(got) == 1
        assert desk.worker.size == count - 1
        kept = desk.worker.take(COOKIE, 4)
        assert kept is not None
        closed([*got, kept])

    play(conversation)


def test_more_are_asked_for_each_time_they_ran_out_up_to_the_bound() -> None:
    async def conversation(desk: Desk) -> None:
        got: Got = []
        batches = []
        for _ in range(6):
            desk.worker.wait(COOKIE, 4, got.append)
            batches.append(desk.asked())
            desk.answer(batches[-1])
            await settle(0.01)
            assert desk.worker.size <= 16
            desk.worker._stocks[COOKIE, 4].asked = True  # as if the next answer were on its way
            while (sock := desk.worker.take(COOKIE, 4)) is not None:
                got.append(sock)
            desk.worker._stocks[COOKIE, 4].asked = False
        closed(got)
        assert batches == sorted(batches)
        assert (batches[0], batches[-1]) == (4, 16)

    play(conversation, most=16)


def test_out_of_descriptors_the_waiters_are_told_and_nobody_spins() -> None:
    async def conversation(desk: Desk) -> None:
        got: Got = []
        desk.worker.wait(COOKIE, 4, got.append)
        desk.asked()
        broker_wire.send(desk.end, broker_wire.encode({"op": "sockets", "cookie": COOKIE, "family": 4}))
        await settle()
        assert [one.errno for one in got if isinstance(one, OSError)] == [errno.EMFILE]
        with pytest.raises(BlockingIOError):
            desk.asked()

    play(conversation)


def test_waiters_of_a_pod_that_leaves_are_told() -> None:
    async def conversation(desk: Desk) -> None:
        got: Got = []
        desk.worker.wait(COOKIE, 4, got.append)
        broker_wire.send(desk.end, broker_wire.encode({"op": "pod_del", "cookie": COOKIE}))
        await settle()
        assert [one.errno for one in got if isinstance(one, OSError)] == [errno.ENETDOWN]
        assert desk.gone == [COOKIE]

    play(conversation)


def test_a_broker_that_ends_fails_waiters_at_once_and_later_ones_too() -> None:
    async def conversation(desk: Desk) -> None:
        got: Got = []
        desk.worker.wait(COOKIE, 4, got.append)
        desk.end.close()
        await settle()
        desk.worker.wait(COOKIE, 4, got.append)
        assert [one.errno for one in got if isinstance(one, OSError)] == [errno.EPIPE, errno.EPIPE]
        assert desk.ended

    play(conversation)


HOSTILE = (
    b'{"op":"sockets","cookie":1,"family":4,"count":Infinity}',
    b'{"op":"sockets","cookie":1e400,"family":4,"count":1}',
    b"[" * 4000,
    b"not json",
    b"[]",
    b'{"op":"sockets"}',
    b'{"op":"sockets","cookie":null,"family":4,"count":1}',
    b'{"op":"pod_add","cookie":1,"family":4,"count":1}',
    b'{"op":"sockets","cookie":1,"family":5,"count":1}',
    b"\xff\xfe",
)


@pytest.mark.parametrize("datagram", HOSTILE)
def test_a_worker_that_breaks_the_protocol_costs_itself_only(datagram: bytes) -> None:
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with pulse.shared() as (_, beats):
        broker = threading.Thread(target=Broker(control, home, Buffers(), beats).run)
    broker.start()
    workers = []
    try:
        for index in range(2):
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            workers.append(mine)
            broker_wire.send(ours, broker_wire.encode({"op": "worker_add", "worker": index}), [theirs.fileno()])
            theirs.close()
        hostile, honest = workers
        hostile.settimeout(5)
        honest.settimeout(5)
        hostile.send(datagram)
        assert hostile.recv(100) == b""
        honest.send(broker_wire.encode({"op": "sockets", "cookie": 1, "family": 4, "count": 1}))
        answer = json.loads(honest.recv(4096))
        assert (answer["op"], answer["errno"]) == ("failed", errno.ENETDOWN)
    finally:
        ours.close()
        broker.join(5)
        os.close(home)
        for worker in workers:
            worker.close()
    assert not broker.is_alive()
