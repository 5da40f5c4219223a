from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.netns_connections import NetnsConnections
from nodeagent.kernel.netns import Connection

POD = EnrolledPod("shop/web", "/netns", (0, 1), -1, 7, ("198.18.0.2",))
RULED = ("198.18.0.5", 8080)
OUR_CGROUPS = {10, 11}


class Diag:
    def __init__(self, *connections: Connection) -> None:
        self.connections = list(connections)
        self.destroyed: list[Connection] = []

    async def established(self, pods: Collection[EnrolledPod]) -> dict[str, list[Connection]]:
        return {pod.key: self.connections for pod in pods}

    async def destroy(self, _pod: EnrolledPod, connections: Collection[Connection]) -> int:
        self.destroyed += connections
        return len(connections)


def connection(remote: tuple[str, int], *, dialled: bool = True, cgroup: int = 99) -> Connection:
    return Connection("198.18.0.2", 9000, *remote, cookie=1, dialled=dialled, cgroup=cgroup)


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
    connections = NetnsConnections(diag, lambda: OUR_CGROUPS, lambda _outcome, _pod, _n: None)
    covered = frozenset({RULED, (RULED[0], 0)})
    assert asyncio.run(connections.end_covered({POD: covered}, known=[RULED])) == int(ended)
    assert diag.destroyed == ([found] if ended else [])
