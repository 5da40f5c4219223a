"""What the agent makes of the canary's connects; the connects themselves: tests/agent_kernel/test_canary.py."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeagent.agent import canary
from nodeagent.agent.canary import Canary
from nodeagent.core.canary import Fate
from nodeagent.kernel import canary as connects


class Scripted(Canary):
    """Its connects end as they are told."""

    def __init__(self, fates: Sequence[Fate], bypass: bool = False) -> None:
        maps: Any = SimpleNamespace(bypassed=lambda: bypass)
        workers: Any = None
        super().__init__(workers, maps, Path("/nowhere"))
        self.left = list(fates)

    async def _try(self) -> Fate:
        return self.left.pop(0)


def looked(made: Scripted) -> str:
    """What is said after one look."""

    async def scenario() -> str:
        permitted = asyncio.Event()
        running = asyncio.ensure_future(made.run(permitted))
        await asyncio.sleep(0)
        assert made.problem == canary.NOT_YET, "it wrote before it was permitted to"
        permitted.set()
        await asyncio.sleep(0.05)  # less than until the next look
        running.cancel()
        return made.problem

    return asyncio.run(scenario())


def test_one_connect_that_meets_a_workers_end_is_no_problem() -> None:
    made = Scripted([Fate.REFUSED, Fate.ANSWERED])
    assert looked(made) == ""
    assert made.failures == 1


@pytest.mark.parametrize("fate", [Fate.PASSED, Fate.SILENT, Fate.REFUSED])
def test_a_second_failure_is_told(fate: Fate) -> None:
    made = Scripted([fate] * canary.TRIES)
    assert looked(made) != ""
    assert made.failures == canary.TRIES


def test_under_bypass_nothing_is_tried() -> None:
    assert looked(Scripted([], bypass=True)) == ""


@pytest.mark.parametrize(
    ("number", "fate"),
    [
        (errno.ECONNRESET, Fate.ANSWERED),
        (errno.ECONNREFUSED, Fate.REFUSED),
        (errno.EPERM, Fate.BLOCKED),
        (errno.ENETUNREACH, Fate.PASSED),
        (errno.EADDRNOTAVAIL, Fate.UNKNOWN),
    ],
)
def test_how_a_connect_ends_says_who_answered(monkeypatch: pytest.MonkeyPatch, number: int, fate: Fate) -> None:
    """A worker's reset may be there before connect() returns."""

    def connect(_self: socket.socket, _address: object) -> None:
        raise OSError(number, "as told")

    dialled = type("Dialled", (socket.socket,), {"connect": connect})
    monkeypatch.setattr("nodeagent.kernel.canary.socket.socket", dialled)
    assert connects.connect() is fate
