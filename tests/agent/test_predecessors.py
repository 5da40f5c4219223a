from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeagent.agent import worker_index
from nodeagent.agent.predecessors import Predecessors
from nodeagent.kernel.maps import ListenerRow

OURS, THEIRS = 10, 20
POD, GONE_POD = 7, 8


class Tables:
    def __init__(self) -> None:
        self.rows = [ListenerRow(POD, 0, 4, 40000), ListenerRow(GONE_POD, 0, 4, 40001), ListenerRow(POD, 1, 4, 40002)]
        self.exempt = {OURS, THEIRS}
        self.cleared: list[int] = []
        self.reaped: list[int] = []

    def exempt_cgroups(self) -> set[int]:
        return set(self.exempt)

    def end_exemption(self, cgroup: int) -> bool:
        self.exempt.remove(cgroup)
        return True

    def listeners(self) -> list[ListenerRow]:
        return list(self.rows)

    def delete_listener(self, netns: int, worker: int, family: int) -> bool:
        self.rows = [row for row in self.rows if (row.netns, row.worker, row.family) != (netns, worker, family)]
        return True

    def delete_worker_listeners(self, worker: int) -> int:
        self.rows = [row for row in self.rows if row.worker != worker]
        return 1

    def clear_heartbeat(self, worker: int) -> None:
        self.cleared.append(worker)


@pytest.fixture
def tables() -> Tables:
    return Tables()


def test_rows_and_exemption_of_an_earlier_agent_stay_while_its_worker_lives(tables: Tables, tmp_path: Path) -> None:
    orphan = worker_index.claim(tmp_path)
    before = Predecessors(tables, tmp_path, OURS, dict, tables.reaped.append)
    before.forget_ended()
    assert (len(tables.rows), tables.exempt, tables.reaped) == (3, {OURS, THEIRS}, [])
    os.close(orphan.fd)
    before.forget_ended()
    assert {row.worker for row in tables.rows} == {1}
    assert (tables.exempt, tables.cleared, tables.reaped) == ({OURS}, [0], [0])


def test_a_number_that_is_ours_already_keeps_only_our_own_rows(tables: Tables, tmp_path: Path) -> None:
    orphan = worker_index.claim(tmp_path)
    before = Predecessors(tables, tmp_path, OURS, lambda: {0: {(POD, 4)}}, tables.reaped.append)
    os.close(orphan.fd)
    mine = worker_index.claim(tmp_path)
    before.forget_ended()
    assert {(row.netns, row.worker) for row in tables.rows} == {(POD, 0), (POD, 1)}
    assert tables.exempt == {OURS}
    assert tables.reaped == []  # what is held under the number is our worker's
    os.close(mine.fd)


def test_a_successor_that_warms_up_keeps_every_exemption(tables: Tables, tmp_path: Path) -> None:
    before = Predecessors(tables, tmp_path, OURS, dict, tables.reaped.append)
    successor = worker_index.claim(tmp_path)
    before.forget_ended()
    assert tables.exempt == {OURS, THEIRS}
    os.close(successor.fd)
    before.forget_ended()
    assert tables.exempt == {OURS}
