from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nodeagent.agent.health import Limits
from nodeagent.agent.supervisor import Supervisor
from nodeagent.agent.worker import State, Worker
from nodeagent.agent.worker_index import NoFreeIndexError
from nodeagent.kernel.syscall import BpfError

LIMITS = Limits(check=0.01, slow_retry=0.1)
DRAINING = NoFreeIndexError("all 16 worker numbers are held; workers of an earlier agent are still draining")
NO_MEMORY = BpfError(errno.ENOMEM, "cannot create map requests_0: Cannot allocate memory")


class FakeHost:
    """Launches nothing; `refusals` and `failures` are what the next claims and launches meet."""

    def __init__(self) -> None:
        self.ready = True
        self.refusals: list[Exception] = []
        self.failures: list[Exception] = []
        self.launched: list[int] = []
        self.gone: list[int] = []

    def can_launch(self) -> bool:
        return self.ready

    def claim_index(self, avoid: set[int]) -> int:
        if self.refusals:
            raise self.refusals.pop()
        return min(set(range(16)) - avoid)

    async def launch(self, worker: Worker) -> None:
        if self.failures:
            raise self.failures.pop()
        worker.state = State.READY
        self.launched.append(worker.index)

    def heartbeat(self, index: int) -> float:
        return float("inf")

    def worker_reported(self, worker: Worker, report: dict[str, Any]) -> None: ...

    def worker_gone(self, worker: Worker) -> None:
        self.gone.append(worker.index)


async def _run_for(supervisor: Supervisor, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(supervisor.run(), seconds)


@pytest.mark.parametrize("error", [DRAINING, NO_MEMORY], ids=["no-number", "no-memory"])
def test_a_worker_that_cannot_be_started_is_told_once_and_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    host = FakeHost()
    (host.refusals if error is DRAINING else host.failures).extend([error] * 3)
    supervisor = Supervisor(host, 1, LIMITS)

    async def scenario() -> None:
        await _run_for(supervisor, 0.15)
        assert str(error) in supervisor.problem
        assert supervisor.workers == []
        assert host.launched == []
        await _run_for(supervisor, 0.5)

    asyncio.run(scenario())
    assert host.launched == [0]
    assert supervisor.problem == ""
    assert [str(error) in record.getMessage() for record in caplog.records] == [True]
    assert host.gone == ([] if error is DRAINING else [0, 0, 0])


def test_workers_are_started_only_once_there_is_a_broker_for_them() -> None:
    host = FakeHost()
    host.ready = False
    supervisor = Supervisor(host, 2, LIMITS)

    async def scenario() -> None:
        await _run_for(supervisor, 0.1)
        assert host.launched == []
        host.ready = True
        supervisor.wake()
        await _run_for(supervisor, 0.1)

    asyncio.run(scenario())
    assert host.launched == [0, 1]


def test_a_worker_is_killed_when_it_is_hung_and_not_at_the_check_after(monkeypatch: pytest.MonkeyPatch) -> None:
    host, killed = FakeHost(), list[float]()
    monkeypatch.setattr(Worker, "kill", lambda _: killed.append(time.monotonic()))

    async def scenario() -> None:
        await asyncio.sleep(0.55 - time.monotonic() % 0.5)  # checks: 0.45, 0.95 and 1.45 s from now
        supervisor = Supervisor(host, 1, Limits(check=0.5, start=1.2))
        await _run_for(supervisor, 1.4)
        assert [at - supervisor.workers[0].started for at in killed] == [pytest.approx(1.2, abs=0.1)]

    asyncio.run(scenario())


def test_after_we_stood_still_ourselves_what_wakes_us_is_no_reason_to_kill_one_that_may_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, killed = FakeHost(), list[int]()
    monkeypatch.setattr(Worker, "kill", lambda worker: killed.append(worker.index))

    async def launch(worker: Worker) -> None:
        host.launched.append(worker.index)

    monkeypatch.setattr(host, "launch", launch)

    async def scenario() -> None:
        supervisor = Supervisor(host, 1, Limits(check=1.0, beat=1.2, period=0.2, start=1.2))
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0.05)
        time.sleep(2.0)  # noqa: ASYNC251  (nothing of us runs, as on a machine that stood still)
        for _ in range(2):
            supervisor.wake()
            await asyncio.sleep(0.05)
        supervisor._reported(supervisor.workers[0], {"op": "ready"})
        await asyncio.sleep(1.2)
        assert not running.done()
        running.cancel()

    asyncio.run(scenario())
    assert host.launched == [0]
    assert killed == []


def test_a_worker_that_was_killed_and_has_not_ended_yet_is_not_hung_again(monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    host, child = FakeHost(), SimpleNamespace(signal=signals.append, pid=1)

    async def launch(worker: Worker) -> None:
        worker._child = cast("Any", child)

    monkeypatch.setattr(host, "launch", launch)
    supervisor = Supervisor(host, 1, Limits(check=0.01, start=0.05))
    asyncio.run(_run_for(supervisor, 0.2))
    assert (supervisor.hung, signals) == (1, [signal.SIGKILL])
