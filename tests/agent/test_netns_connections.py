from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Collection

import pytest

from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.netns_connections import NetnsConnections
from nodeagent.core.coverage import Target
from nodeagent.kernel import abi
from nodeagent.kernel.dialled import Dialled
from nodeagent.kernel.netns import Connection

POD = EnrolledPod("shop/web", "/netns", (0, 1), -1, 7, ("198.18.0.2",))
RULED = ("198.18.0.5", 8080)
OUR_CGROUPS = {10, 11}


class Diag:
    def __init__(self, *connections: Connection) -> None:
        self.connections = list(connections)
        self.destroyed: list[Connection] = []
        self.looked: list[str] = []

    async def established(self, pods: Collection[EnrolledPod]) -> dict[str, list[Connection]]:
        self.looked += [pod.key for pod in pods]
        return {pod.key: self.connections for pod in pods}

    async def destroy(self, _pod: EnrolledPod, connections: Collection[Connection]) -> int:
        self.destroyed += connections
        return len(connections)


def connection(remote: tuple[str, int], *, dialled: bool = True, cgroup: int = 99) -> Connection:
    return Connection("198.18.0.2", 9000, *remote, cookie=1, dialled=dialled, cgroup=cgroup)


def watching(diag: Diag, dialled: Dialled) -> NetnsConnections:
    return NetnsConnections(diag, dialled, lambda: False, lambda: OUR_CGROUPS, lambda _outcome, _pod, _n: None)


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        pytest.param(connection(RULED), True, id="dialled"),
        pytest.param(connection(RULED, dialled=False), True, id="dialled from a port that the pod listens on"),
        pytest.param(connection((RULED[0], 50000), dialled=False), False, id="accepted"),
        pytest.param(connection((RULED[0], 50000)), True, id="dialled to another port under the rule"),
        pytest.param(connection(RULED, cgroup=10), False, id="of our workers"),
        pytest.param(connection(RULED, cgroup=11), False, id="of the other agent's workers in a takeover"),
        pytest.param(connection(("198.18.0.6", 8080)), False, id="to something else"),
    ],
)
def test_what_a_rule_covers_is_ended(found: Connection, ended: bool) -> None:
    diag = Diag(found)
    connections = watching(diag, Dialled(bytearray(ctypes.sizeof(abi.Dialled))))
    covered = frozenset({RULED, (RULED[0], 0)})
    assert asyncio.run(connections.end_covered({POD: covered}, known=[RULED])) == int(ended)
    assert diag.destroyed == ([found] if ended else [])


# ---- where nobody dialled is not looked ----


class Node:
    """Pods without connections but those given, and where they dialled to."""

    def __init__(self, *connections: Connection) -> None:
        self.diag = Diag(*connections)
        self.dialled = Dialled(bytearray(ctypes.sizeof(abi.Dialled)))
        self.connections = watching(self.diag, self.dialled)

    def looks(self, *targets: Target, pods: tuple[EnrolledPod, ...] = (POD,)) -> list[str]:
        """In whose namespaces when a rule newly covers these."""
        self.diag.looked.clear()
        asyncio.run(self.connections.end_covered({pod: frozenset(targets) for pod in pods}, known=targets))
        return list(self.diag.looked)

    def new_turn(self) -> None:
        before = self.dialled.turn
        self.dialled.note(f"10.0.{number >> 8}.{number & 255}" for number in range(abi.DIALLED_PLACES // 4 + 1))
        self.connections.forget_some()
        assert self.dialled.turn == before + 1


ELSEWHERE = ("10.0.255.9", 8080)  # with which `new_turn` shares no place


def test_a_pod_that_was_never_looked_at_is_looked_at_wherever_was_dialled() -> None:
    assert [Node().looks(RULED), Node().looks(ELSEWHERE)] == [[POD.key], [POD.key]]


def test_a_pod_that_was_looked_at_is_again_only_where_the_hooks_saw_somebody_dial() -> None:
    node = Node()
    node.looks(RULED)
    assert node.looks(RULED) == []
    node.dialled.note([RULED[0]])
    assert [node.looks(RULED), node.looks(ELSEWHERE), node.looks(ELSEWHERE, RULED)] == [[POD.key], [], [POD.key]]


def test_only_pods_that_the_rule_covers_there_are_looked_at() -> None:
    node, other = Node(), EnrolledPod("shop/other", "/netns2", (0, 2), -1, 8, ("198.18.0.3",))
    node.looks(RULED, pods=(POD, other))
    node.dialled.note([RULED[0]])
    node.diag.looked.clear()
    asyncio.run(node.connections.end_covered({POD: frozenset({RULED}), other: frozenset({ELSEWHERE})}, known=[RULED]))
    assert node.diag.looked == [POD.key]


def test_what_is_older_than_the_enrolment_is_found_although_the_hooks_did_not_see_it() -> None:
    node = Node(connection(RULED))
    asyncio.run(node.connections.note_unpoliced([POD], cut=()))
    assert node.looks(ELSEWHERE) == []
    assert node.looks(RULED) == [POD.key]


def test_a_rule_at_a_port_of_every_node_is_looked_for_wherever_was_dialled() -> None:
    node = Node()
    node.looks(RULED)
    assert [node.looks(("0.0.0.0", 30080)), node.looks(("::", 30080))] == [[POD.key], [POD.key]]


def test_a_connection_is_found_however_many_turns_it_outlives() -> None:
    node = Node(connection(ELSEWHERE))
    node.looks(RULED)
    for _ in range(4):
        node.new_turn()
        assert node.looks(ELSEWHERE) == [POD.key]


def test_a_pod_is_looked_at_once_in_each_turn_before_what_was_noted_of_it_is_forgotten() -> None:
    node = Node()
    node.looks(RULED)
    node.new_turn()
    assert [node.looks(ELSEWHERE), node.looks(ELSEWHERE)] == [[POD.key], []]


def test_where_others_may_rewrite_what_is_dialled_or_once_did_every_pod_is_looked_at() -> None:
    node, answers = Node(), iter([False, True])
    node.connections = NetnsConnections(
        node.diag, node.dialled, lambda: next(answers), lambda: OUR_CGROUPS, lambda _outcome, _pod, _n: None
    )
    node.looks(RULED)
    assert [node.looks(RULED), node.looks(RULED)] == [[POD.key], [POD.key]]


def test_a_pod_that_left_and_came_back_is_looked_at() -> None:
    node = Node()
    node.looks(RULED)
    node.connections.forget([POD])
    assert node.looks(RULED) == [POD.key]


def test_a_namespace_that_was_gone_is_not_taken_for_one_without_connections() -> None:
    class Gone(Diag):
        async def established(self, pods: Collection[EnrolledPod]) -> dict[str, list[Connection]]:
            self.looked += [pod.key for pod in pods]
            return {}

    node = Node()
    node.connections = watching(gone := Gone(), node.dialled)
    for _ in range(2):
        asyncio.run(node.connections.end_covered({POD: frozenset({RULED})}, known=[RULED]))
    assert gone.looked == [POD.key] * 2
