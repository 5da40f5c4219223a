"""How often a node's own MeshNode is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from nodeagent.kube.node_reporter import QUICK, SPACING, NodeReporter
from nodeagent.status.mesh_node import ENFORCING, NodeFacts

FACTS = NodeFacts(ENFORCING, "6.18", "0.1.0")


class Answers:
    """An API server that takes everything.  `written`: the kernel's name in each status."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def get(self, _path: str, _query: Mapping[str, str]) -> bytes:
        return b'{"metadata": {}}'

    async def send(self, _method: str, _path: str, body: Mapping[str, Any], _seconds: float) -> bytes:
        self.written.append(body["status"]["kernel"])
        return json.dumps({"metadata": {}, **body}).encode()


async def told(nodes: int, seconds: float, *kernels: str) -> list[str]:
    """What is written so many seconds after the last of them was told, each 10 ms after the one before."""
    api = Answers()
    reporter = NodeReporter(cast("Any", api), "n1", lambda: "", lambda: nodes)
    running = asyncio.create_task(reporter.run())
    for kernel in kernels:
        reporter.tell(replace(FACTS, kernel=kernel))
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    running.cancel()
    return api.written


@pytest.mark.parametrize(
    ("nodes", "seconds", "written"),
    [
        pytest.param(2, QUICK + 0.15, ["a", "b"], id="the second soon"),
        pytest.param(2, QUICK + SPACING + 0.3, ["a", "b"], id="nothing more then"),
        pytest.param(100, QUICK + SPACING + 0.3, ["a"], id="in a large cluster the second waits as well"),
    ],
)
def test_of_what_is_told_together_the_second_part_is_written_soon(
    nodes: int, seconds: float, written: list[str]
) -> None:
    assert asyncio.run(told(nodes, seconds, "a", "b")) == written


def test_who_tells_more_and_more_is_written_no_faster_for_it() -> None:
    written = asyncio.run(told(2, 0.2, *"abcdefghij"))
    assert written[0] == "a"
    assert len(written) == 2
