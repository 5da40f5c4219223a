from __future__ import annotations

import asyncio
import contextlib
import errno
from types import SimpleNamespace
from typing import Any

import pytest

from nodeagent.agent import upkeep
from nodeagent.kernel.syscall import BpfError


def test_a_map_that_cannot_be_cleaned_is_told_once_and_does_not_end_the_agent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "COLLECT_SECONDS", 0.005)
    calls = 0

    def collect(_now: float) -> None:
        nonlocal calls
        calls += 1
        raise BpfError(errno.ENOMEM, "cannot delete from map verdicts: Cannot allocate memory")

    async def scenario() -> None:
        fleet = SimpleNamespace(ledger=None, acknowledged=lambda: None)
        parts: Any = SimpleNamespace(kernel=SimpleNamespace(collect=collect), fleet=fleet)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(upkeep.collect(parts), 0.2)

    asyncio.run(scenario())
    assert calls > 3
    assert [record.getMessage().count("map verdicts") for record in caplog.records] == [1]
