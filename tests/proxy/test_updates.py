"""What workers hold after updates is what they would hold after whole snapshots, however they came by it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.ledger import LocalLedger
from nodeagent.core.model import Destination, Endpoint, PathKind, Protocol, Rule, Snapshot, Workload
from nodeagent.proxy import updates
from nodeagent.proxy.accounting import Accounting
from nodeagent.proxy.agent_channel import ROUND, AgentChannel
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.engine import Engine
from nodeagent.proxy.frames import LENGTH, decode_command, encode_command
from nodeagent.proxy.sockets import LocalSockets
from nodeagent.proxy.updates import EMPTY, PART, RULES, EncodedDestinations, Encoder, Head, Incoming, encode
from nodeagent.proxy.view import View
from nodeagent.regex import compile_regex
from tests.core import strategies as some
from tests.proxy.harness import COOKIE, Proxy, run

TARGETS = [(f"198.19.0.{number}", 80) for number in range(1, 5)]
PODS = ("shop/web", "shop/job", "batch/web")


class Follower:
    """A worker's end: what it holds, and how often it found that an update is not for it."""

    def __init__(self) -> None:
        self.snapshot = EMPTY
        self.gaps = 0
        self._incoming = Incoming()

    def take(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            kind, payload = decode_command(frame[LENGTH.size :])
            if kind == "part":
                self._incoming.part(payload)
                continue
            if kind == "rules":
                self._incoming.rules(*payload)
                continue
            snapshot = self._incoming.finish(payload, self.snapshot)
            self.gaps += snapshot is None
            self.snapshot = snapshot or self.snapshot


def held(snapshot: Snapshot) -> tuple[int, dict[tuple[str, int], Destination], dict[str, Workload]]:
    return snapshot.generation, dict(snapshot.destinations), dict(snapshot.workloads)


def wanted(snapshot: Snapshot) -> tuple[int, dict[tuple[str, int], Destination], dict[str, Workload]]:
    met = {target: one for target, one in snapshot.destinations.items() if one.is_met_by_workers}
    return snapshot.generation, met, {key: pod for key, pod in snapshot.workloads.items() if pod.netns}


pods = some.workloads.flatmap(lambda pod: st.sampled_from([pod, replace(pod, netns="/run/netns/here")]))
one_destination = some.destinations | some.routed_destinations()


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots, each of which keeps some objects of the one before, as compile does."""
    destinations: dict[tuple[str, int], Destination] = {}
    workloads: dict[str, Workload] = {}
    found = []
    for generation in range(1, draw(st.integers(2, 6))):
        for target in draw(st.lists(st.sampled_from(TARGETS), unique=True)):
            destinations.pop(target, None)
            if draw(st.booleans()):
                destinations[target] = draw(one_destination)
        if draw(st.booleans()):
            workloads = {key: draw(pods) for key in draw(st.lists(st.sampled_from(PODS), unique=True))}
        found.append(Snapshot(generation, dict(destinations), workloads))
    return found


@given(histories(), st.integers(0, 4), st.integers(0, 4))
def test_updates_give_the_same_as_whole_snapshots(history: list[Snapshot], joins: int, sleeps: int) -> None:
    """One worker follows from the start, one joins later, one misses an update and asks for the whole."""
    encoder, first, late, sleepy = Encoder(), Follower(), Follower(), Follower()
    for index, snapshot in enumerate(history):
        frames = encoder.advance(snapshot)
        first.take(frames)
        late.take(encoder.whole() if index == joins else frames if index > joins else [])
        gaps = sleepy.gaps
        sleepy.take(frames if index != sleeps else [])
        if sleepy.gaps > gaps:
            assert index == sleeps + 1
            sleepy.take(encoder.whole())
        assert held(first.snapshot) == wanted(snapshot)
        assert index < joins or held(late.snapshot) == wanted(snapshot)
        assert index == sleeps or held(sleepy.snapshot) == wanted(snapshot)
    assert first.gaps == late.gaps == 0


@given(one_destination, st.integers(1, 3))
def test_a_destination_comes_out_as_it_went_in(destination: Destination, most: int) -> None:
    """Also when there are more rules than one frame takes."""
    worker, target = Follower(), (destination.address, destination.port)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(updates, "RULES", most)
        worker.take(Encoder().advance(Snapshot(1, {target: destination}, {})))
    assert dict(worker.snapshot.destinations) == ({target: destination} if destination.is_met_by_workers else {})


def test_many_rules_come_a_few_at_a_time_and_decoded() -> None:
    one = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), ())
    destination = replace(plain(1), producer_rules=(one,) * (2 * RULES + 1), has_producer_route=True)
    frames = Encoder().advance(Snapshot(1, table([destination]), {}))
    assert [decode_command(frame[LENGTH.size :])[0] for frame in frames] == [*["rules"] * 3, "part", "snapshot"]
    worker = Follower()
    worker.take(frames)
    destinations = worker.snapshot.destinations
    assert isinstance(destinations, EncodedDestinations)
    assert list(destinations.held.values()) == [destination]


def plain(number: int) -> Destination:
    address = f"198.19.{number // 256}.{number % 256}"
    return Destination(f"shop/s{number}:80", address, 80, Protocol.HTTP1, is_frontend=True)


def table(destinations: Iterable[Destination]) -> dict[tuple[str, int], Destination]:
    return {(one.address, one.port): one for one in destinations}


def test_only_what_changed_is_sent_and_in_parts_that_are_bounded() -> None:
    encoder, whole = Encoder(), table(plain(number) for number in range(2 * PART + 1))
    sent = [decode_command(frame[LENGTH.size :]) for frame in encoder.advance(Snapshot(1, whole, {}))]
    assert [len(payload) for kind, payload in sent if kind == "part"] == [PART, PART, 1]
    target = next(iter(whole))
    now = {**whole, target: replace(whole[target], endpoints=(Endpoint("198.18.0.3", 80),))}
    sent = [decode_command(frame[LENGTH.size :]) for frame in encoder.advance(Snapshot(2, now, {}))]
    assert sent == [("part", {target: encode(now[target])[0]}), ("snapshot", Head(2, 1))]


def test_an_equal_destination_that_was_made_anew_is_not_sent_again() -> None:
    encoder = Encoder()
    encoder.advance(Snapshot(1, table([plain(1)]), {}))
    assert encoder.advance(Snapshot(2, table([plain(1)]), {})) == [encode_command("snapshot", Head(2, 1))]


# ---- in force ----


def test_what_was_prepared_for_a_destination_is_used_until_it_changes() -> None:
    one, two = plain(1), plain(2)
    encoder, worker, loop = Encoder(), Follower(), DataLoop()
    engine = Engine(loop, Proxy().bounds, LocalSockets(), Accounting.anonymous(), LocalLedger(lambda: 0), compile_regex)

    def views(generation: int, *destinations: Destination) -> list[View]:
        worker.take(encoder.advance(Snapshot(generation, table(destinations), {})))
        engine.apply(worker.snapshot)
        return [engine.view(single.address, 80) for single in (one, two)]

    try:
        before = views(1, one, two)
        now = views(2, one, replace(two, ports=(80, 8080)))
        assert now[0].judge is before[0].judge
        assert now[1].judge is not before[1].judge
        assert now[1].destination.ports == (80, 8080)
        assert all(view.changes == engine.changes for view in now)
        assert not views(3, two)[0].destination.is_frontend
        assert views(4, one, two)[0].destination == one
    finally:
        loop.close()


def test_a_change_elsewhere_renews_who_the_caller_of_a_live_connection_is() -> None:
    async def conversation() -> None:
        async with Proxy(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as proxy:
            engine = proxy.engine
            client = await proxy.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.response())[0] == 200
            down = next(iter(engine.connections))
            renamed = replace(engine.snapshot.workloads[engine.pods[COOKIE]], service_account="other")
            engine.apply(replace(engine.snapshot, generation=9, workloads={engine.pods[COOKIE]: renamed}))
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.response())[0] == 200
            assert getattr(down, "caller", None) is renamed

    run(conversation())


# ---- the channel ----


@pytest.mark.parametrize(
    ("kind", "size", "each"), [("part", ROUND, 1), ("part", ROUND // 10, 10), ("part", 1, 100), ("snapshot", 1, 1)]
)
def test_commands_are_taken_in_order_large_ones_one_in_each_round_of_the_loop(kind: str, size: int, each: int) -> None:
    taken: list[Any] = []

    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ended = asyncio.Event()
        channel = AgentChannel(lambda _kind, payload: taken.append(payload), ended.set)
        await channel.open(ours)
        with theirs:
            theirs.setblocking(False)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100 * ROUND)
            theirs.sendall(b"".join(encode_command(kind, (number, bytes(size))) for number in range(20)))
        rounds = 0
        while not ended.is_set():
            before = len(taken)
            await asyncio.sleep(0)
            assert len(taken) - before <= each
            rounds += 1
        assert [number for number, _ in taken] == list(range(20))
        assert rounds >= 20 / each

    run(conversation())


def test_a_command_that_fails_ends_the_channel() -> None:
    def fail(_kind: str, payload: int) -> None:
        if payload == 1:
            raise RuntimeError("a bug")

    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ended = asyncio.Event()
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
        await AgentChannel(fail, ended.set).open(ours)
        with theirs:
            theirs.sendall(b"".join(encode_command("part", number) for number in range(3)))
            await asyncio.wait_for(ended.wait(), 5)
        assert [str(error) for error in errors] == ["a bug"]

    run(conversation())
