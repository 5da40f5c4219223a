"""Of the agents of several pods on one node the youngest pod's works, and an older one whenever nobody does."""

from __future__ import annotations

import asyncio
import http.client
import socket
from pathlib import Path

import pytest

from nodeagent.agent import succession
from nodeagent.agent.lease import Lease, holder_born
from nodeagent.agent.settings import Settings, SettingsError
from nodeagent.agent.succession import Standby, birth


def test_a_pods_birth_outlives_its_container(tmp_path: Path) -> None:
    first = birth(tmp_path / "born")
    assert birth(tmp_path / "born") == first


def test_a_birth_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "born").write_text("")
    assert birth(tmp_path / "born") == birth(tmp_path / "born") > 0


@pytest.mark.parametrize(("born", "other"), [(1.0, True), (2.0, False), (3.0, False)])
def test_it_is_the_turn_of_a_younger_pod_that_holds_the_lease(tmp_path: Path, born: float, other: bool) -> None:
    lease = Lease(tmp_path / "agent.lock", born=2.0)
    assert lease.try_acquire()
    standby = Standby(tmp_path / "agent.lock", born)
    assert standby.is_turn_of_another() is other
    lease.release()
    assert not standby.is_turn_of_another(), "nobody holds it"
    assert holder_born(tmp_path / "agent.lock") == 2.0


def test_a_lease_of_an_agent_without_a_birth_is_taken_over(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "agent.lock")
    assert lease.try_acquire()
    assert not Standby(tmp_path / "agent.lock", 1.0).is_turn_of_another()
    lease.release()


def test_an_agent_that_stands_by_begins_anew_once_nobody_works_and_ends_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(succession, "UNHELD_SECONDS", 0.1)
    standby = Standby(tmp_path / "agent.lock", 1.0)

    async def scenario() -> None:
        lease, stop = Lease(tmp_path / "agent.lock", born=2.0), asyncio.Event()
        assert lease.try_acquire()
        waiting = asyncio.ensure_future(standby.until_needed(stop))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        lease.release()
        assert await asyncio.wait_for(waiting, 5) is True
        stop.set()
        assert await standby.until_needed(stop) is False

    asyncio.run(scenario())


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_one_that_stands_by_is_alive_and_not_ready_and_has_no_counters(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    standby = Standby(tmp_path / "agent.lock", 1.0)

    async def scenario() -> list[tuple[int, bytes]]:
        async with standby.answering("127.0.0.1", port):
            return [await asyncio.to_thread(get, port, path) for path in ("/livez", "/readyz", "/metrics")]

    live, ready, metrics = asyncio.run(scenario())
    assert live == (200, b"ok\n")
    assert ready[0] == 503
    assert b"stands by" in ready[1]
    assert metrics == (200, b"")


def test_without_takeover_nobody_stands_by(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--takeover"):
        Settings(manifests=tmp_path, stand_by=tmp_path / "born")
