from __future__ import annotations

import os
from pathlib import Path

from nodeagent.agent.lease import Lease, holder, locked_by


def test_a_second_agent_with_the_same_file_waits_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "agent.lock", tmp_path), Lease(tmp_path / "agent.lock", tmp_path)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert (second.held, second.pins_taken) == (False, False)
    assert holder(tmp_path / "agent.lock") == os.getpid()
    first.release()
    assert second.try_acquire()
    second.release()


def test_two_agents_with_files_of_their_own_cannot_share_the_pins(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    pins.mkdir()
    first, second = Lease(tmp_path / "a/agent.lock", pins), Lease(tmp_path / "b/agent.lock", pins)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert (second.held, second.pins_taken) == (False, True)
    assert locked_by(pins) == os.getpid()
    first.release()
    assert locked_by(pins) == 0
    assert second.try_acquire()
    second.release()
