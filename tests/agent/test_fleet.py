from __future__ import annotations

from pathlib import Path

from tests.agent.fakes import FakeWorker, applied, listens, make_fleet, pod


def test_a_namespace_that_changes_its_pods_name_or_path_keeps_its_listeners(tmp_path: Path) -> None:
    worker = FakeWorker(0)
    fleet, maps, broker = make_fleet(tmp_path, worker)
    old, new = pod("shop/web", 7, fd=50), pod("shop/web-2", 7, fd=51)
    fleet.add_pods([old])
    listens(fleet, worker, 7)
    applied(fleet, worker, 1)
    entered = dict(maps.entered)
    fleet.add_pods([new])
    fleet.remove_pods([old])
    assert len(entered) == 2
    assert maps.entered == entered
    assert broker.told == [("add", 7)]
    assert fleet.pods == {7: "shop/web-2"}


def test_a_namespace_that_leaves_loses_its_listeners(tmp_path: Path) -> None:
    worker = FakeWorker(0)
    fleet, maps, broker = make_fleet(tmp_path, worker)
    gone = pod("shop/web", 7, fd=50)
    fleet.add_pods([gone])
    listens(fleet, worker, 7)
    applied(fleet, worker, 1)
    fleet.remove_pods([gone])
    assert maps.entered == {}
    assert broker.told == [("add", 7), ("remove", 7)]
    assert fleet.pods == {}
