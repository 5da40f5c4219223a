from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from pathlib import Path
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
        kernel = SimpleNamespace(collect=collect)
        parts: Any = SimpleNamespace(kernel=kernel, fleet=fleet)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(upkeep.collect(parts), 0.2)

    asyncio.run(scenario())
    assert calls > 3
    assert [record.getMessage().count("map verdicts") for record in caplog.records] == [1]


def renewed(*, held: bool = True, synced: int = 1, manifests: Path | None = None) -> list[int]:
    """What is written of the time until which endpoints are trusted."""
    written: list[int] = []
    parts: Any = SimpleNamespace(
        lease=SimpleNamespace(held=held),
        programmer=SimpleNamespace(progress=SimpleNamespace(synced=synced)),
        settings=SimpleNamespace(manifests=manifests),
        maps=SimpleNamespace(trust_endpoints=written.append),
    )
    upkeep.renew_endpoints(parts)
    return written


def test_endpoints_of_a_cluster_are_trusted_for_a_minute_after_the_last_look() -> None:
    before = time.monotonic_ns()
    [until] = renewed()
    assert before <= until - int(upkeep.ENDPOINTS_SECONDS * 1e9) <= time.monotonic_ns()


def test_without_an_api_server_nobody_else_chooses_so_endpoints_are_trusted_for_ever() -> None:
    assert renewed(manifests=Path("/manifests")) == [0]


def test_old_endpoints_are_not_renewed_by_an_agent_that_waits_or_has_no_configuration_yet() -> None:
    assert renewed(held=False) == renewed(synced=0) == []
