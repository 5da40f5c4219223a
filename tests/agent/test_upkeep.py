from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import Counter
from collections.abc import Callable, Coroutine
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
        parts: Any = SimpleNamespace(kernel=kernel, fleet=fleet, lease=SimpleNamespace(held=False))
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


class Calls:
    """Counts them by name."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def of(self, name: str, answer: Any = None) -> Callable[..., Any]:
        def called(*_arguments: object) -> Any:
            self.made[name] += 1
            return answer

        return called


def after(
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Any], Coroutine[Any, Any, None]] = upkeep.watch_namespaces,
    *,
    manifests: Path | None = None,
    problems: tuple[str, ...] = (),
    errors: tuple[str, ...] = (),
    failing: bool = False,
    is_current: tuple[bool, bool] = (True, True),
    held_from: int = 0,
    collects: bool = True,
) -> Counter[str]:
    """What `work` called in so many seconds, by a clock of its own, of which every other one is a little long."""
    now, calls, lease = [1000.0], Calls(), SimpleNamespace(held=not held_from)

    async def beat(period: float) -> None:
        now[0] = round(now[0] + period) + 0.01 * (round(now[0]) % 2)
        lease.held = now[0] >= 1000 + held_from
        if now[0] >= 1001 + seconds:
            raise asyncio.CancelledError

    def collect(_now: float) -> None:
        calls.made["collect"] += 1
        if not collects:
            raise BpfError(errno.ENOMEM, "cannot delete")

    async def look(_now: float) -> None: ...

    clock = SimpleNamespace(monotonic=lambda: now[0], monotonic_ns=lambda: int(now[0] * 1e9))
    monkeypatch.setattr(upkeep, "rhythm", SimpleNamespace(beat=beat))
    monkeypatch.setattr(upkeep, "time", clock)
    monkeypatch.setattr(upkeep, "LedgerSweep", lambda *_arguments: SimpleNamespace(look=look))
    parts: Any = SimpleNamespace(
        settings=SimpleNamespace(manifests=manifests),
        configuration=SimpleNamespace(snapshot=SimpleNamespace(workloads={}), again=calls.of("again")),
        enrolment=SimpleNamespace(problems=problems, is_current=calls.of("is_current", is_current[0])),
        bystanders=SimpleNamespace(failing=failing, is_current=lambda _pods: is_current[1]),
        programmer=SimpleNamespace(progress=SimpleNamespace(errors=list(errors), synced=1)),
        lease=lease,
        kernel=SimpleNamespace(collect=collect),
        maps=SimpleNamespace(trust_endpoints=calls.of("trust_endpoints"), sweep_originals=lambda _now: None),
        connections=SimpleNamespace(forget_some=lambda: None),
        predecessors=SimpleNamespace(forget_ended=lambda: None),
        fleet=SimpleNamespace(ledger=None, acknowledged=None),
    )
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(work(parts))
    return calls.made


def test_endpoints_are_renewed_long_before_they_are_not_trusted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    called = after(60, monkeypatch, upkeep.collect)
    assert (called["collect"], called["trust_endpoints"]) == (60, 60 / upkeep.RENEW_SECONDS)
    assert upkeep.RENEW_SECONDS < upkeep.ENDPOINTS_SECONDS / 10


def test_an_agent_that_begins_to_serve_renews_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was not allowed to do before is not taken for done."""
    assert after(3, monkeypatch, upkeep.collect, held_from=4)["trust_endpoints"] == 0
    assert after(4, monkeypatch, upkeep.collect, held_from=4)["trust_endpoints"] == 1


def test_endpoints_of_an_agent_that_lives_do_not_end_because_old_entries_cannot_be_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = after(20, monkeypatch, upkeep.collect, collects=False)
    assert (called["collect"], called["trust_endpoints"]) == (20, 20 / upkeep.RENEW_SECONDS)


def test_namespaces_that_the_finder_holds_are_looked_at_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells of them itself; a stat per pod and second would be most of what an idle agent does."""
    assert after(20, monkeypatch)["is_current"] == 4


@pytest.mark.parametrize(
    "given",
    [{"manifests": Path("/manifests")}, {"problems": ("a/b",)}, {"failing": True}],
    ids=["named by manifests", "one was refused", "one could not be looked into"],
)
def test_namespaces_that_may_be_others_without_word_are_looked_at_every_second(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert after(20, monkeypatch, **given)["is_current"] == 20


def test_what_the_maps_did_not_take_is_tried_again_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert after(20, monkeypatch, errors=("the map is full",))["again"] == 20


@pytest.mark.parametrize("is_current", [(False, True), (True, False)], ids=["in the mesh", "beside it"])
def test_pods_that_came_or_left_are_applied(is_current: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    assert after(5, monkeypatch, is_current=is_current)["again"] == 1
