from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from nodeagent.agent import fleet as fleet_module
from nodeagent.agent.fleet import Fleet
from nodeagent.agent.worker import State
from nodeagent.agent.worker_index import MAX_INDEXES, claim, free_indexes
from nodeagent.proxy.frames import MAX_COMMAND, decode_command, split_frames
from tests.agent import samples
from tests.agent.fakes import FakeLedger, FakeWorker, applied, listens, make_fleet, pod


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


def sent_to(worker: FakeWorker) -> list[tuple[str, Any]]:
    return [decode_command(frame) for frame in split_frames(bytearray(b"".join(worker.sent)), MAX_COMMAND)]


def settled(fleet: Fleet, cookies: set[int]) -> bool:
    return asyncio.run(fleet.wait_settled(cookies, 0.01))


def test_a_change_does_not_wait_for_a_worker_that_is_being_started(tmp_path: Path) -> None:
    serving, starting = FakeWorker(0), FakeWorker(1, State.STARTING)
    fleet, maps, _broker = make_fleet(tmp_path, serving, starting)
    fleet.add_pods([pod("shop/web", 7, fd=50)])
    fleet.publish(samples.snapshot(1))
    listens(fleet, serving, 7)
    assert not settled(fleet, {7})  # nobody serves yet
    applied(fleet, serving, 1)
    assert settled(fleet, {7})
    assert {worker for _, worker, _ in maps.entered} == {0}


def test_a_change_waits_for_each_worker_that_connections_are_sent_to(tmp_path: Path) -> None:
    one, two = FakeWorker(0), FakeWorker(1)
    fleet, _maps, _broker = make_fleet(tmp_path, one, two)
    fleet.add_pods([pod("shop/web", 7, fd=50)])
    fleet.publish(samples.snapshot(1))
    for worker in (one, two):
        listens(fleet, worker, 7)
        applied(fleet, worker, 1)
    fleet.publish(samples.snapshot(2))
    applied(fleet, one, 2)
    assert not settled(fleet, {7})
    applied(fleet, two, 2)
    assert settled(fleet, {7})


def test_a_worker_that_misses_a_snapshot_gets_the_whole_of_the_newest(tmp_path: Path) -> None:
    worker = FakeWorker(0)
    fleet, _maps, _broker = make_fleet(tmp_path, worker)
    for generation in (1, 2):
        fleet.publish(samples.snapshot(generation))
    heads = [payload for kind, payload in sent_to(worker) if kind == "snapshot"]
    assert [(head.generation, head.base) for head in heads] == [(1, 0), (2, 1)]
    worker.sent.clear()
    fleet.worker_reported(worker, {"op": "gap", "generation": 0})
    (_, part), (_, head) = sent_to(worker)
    assert part.keys() == samples.snapshot().destinations.keys()
    assert (head.generation, head.base) == (2, None)


def test_a_small_change_is_sent_as_one_and_a_large_one_frame_by_frame(tmp_path: Path) -> None:
    worker = FakeWorker(0)
    fleet, _maps, _broker = make_fleet(tmp_path, worker)
    small = samples.snapshot(1)
    fleet.publish(small)
    assert [len(worker.sent), len(sent_to(worker))] == [1, 2]
    worker.sent.clear()
    (_address, port), one = next(iter(small.destinations.items()))
    many = {(f"10.{number >> 8}.{number & 255}.1", port): one for number in range(2 * fleet_module.AT_ONCE // 256)}
    fleet.publish(replace(small, generation=2, destinations=many))
    assert sum(map(len, worker.sent)) > fleet_module.AT_ONCE
    assert len(worker.sent) == len(sent_to(worker))


def test_no_connection_is_sent_to_a_worker_that_knows_only_an_older_snapshot(tmp_path: Path) -> None:
    serving, new = FakeWorker(0), FakeWorker(1, State.STARTING)
    fleet, maps, _broker = make_fleet(tmp_path, serving, new)
    fleet.add_pods([pod("shop/web", 7, fd=50)])
    fleet.publish(samples.snapshot(1))
    listens(fleet, serving, 7)
    applied(fleet, serving, 1)
    fleet.publish(samples.snapshot(2))
    applied(fleet, serving, 2)
    assert settled(fleet, {7})  # not waiting for the new one
    listens(fleet, new, 7)
    applied(fleet, new, 1)
    assert {worker for _, worker, _ in maps.entered} == {0}
    applied(fleet, new, 2)
    assert {worker for _, worker, _ in maps.entered} == {0, 1}


def test_no_worker_is_launched_while_the_broker_is_down(tmp_path: Path) -> None:
    fleet, _maps, broker = make_fleet(tmp_path)
    assert fleet.can_launch()
    broker.alive = False
    assert not fleet.can_launch()


def test_the_number_of_a_worker_that_was_never_started_is_free_again(tmp_path: Path) -> None:
    fleet, _maps, _broker = make_fleet(tmp_path)
    index = fleet.claim_index(set())
    assert index not in free_indexes(tmp_path)
    fleet.worker_gone(FakeWorker(index))
    assert index in free_indexes(tmp_path)


def test_a_new_worker_does_not_inherit_the_listeners_of_who_had_its_number(tmp_path: Path) -> None:
    """An earlier agent's worker that has just ended: its ports may be another process's by now."""
    fleet, maps, _broker = make_fleet(tmp_path)
    maps.set_listener(7, 0, 4, 40000)
    maps.set_listener(7, 1, 4, 40001)
    assert fleet.claim_index(set()) == 0
    assert maps.entered == {(7, 1, 4): 40001}
    fleet.worker_gone(FakeWorker(0))


# ---- shared limits ----


def test_what_a_worker_held_is_given_back_at_its_end_and_before_its_number_is_used_again(tmp_path: Path) -> None:
    fleet, _maps, _broker = make_fleet(tmp_path)
    ledger = cast("FakeLedger", fleet.ledger)
    index = fleet.claim_index(set())
    assert ledger.reaped == [index]
    fleet.worker_gone(FakeWorker(index))
    assert ledger.reaped == [index, index]


def test_what_a_living_worker_of_another_agent_holds_under_the_number_is_left_alone(tmp_path: Path) -> None:
    fleet, _maps, _broker = make_fleet(tmp_path)
    ledger = cast("FakeLedger", fleet.ledger)
    theirs = claim(tmp_path)
    fleet.worker_gone(FakeWorker(theirs.index))
    assert ledger.reaped == []
    fleet.start()
    assert ledger.reaped == list(range(1, MAX_INDEXES))
    os.close(theirs.fd)


# ---- would a connection find a worker? ----


def test_no_pod_is_served_before_a_worker_knows_the_snapshot_listens_and_beats(tmp_path: Path) -> None:
    worker = FakeWorker(0, State.STARTING)
    fleet, maps, _broker = make_fleet(tmp_path, worker)
    fleet.add_pods([pod("shop/web", 7, fd=50), pod("shop/job", 8, fd=51)])
    fleet.publish(samples.snapshot(1))
    maps.beats[0] = 0.0
    assert "the listeners of no worker" in fleet.why_unreachable({7, 8})
    applied(fleet, worker, 1)
    listens(fleet, worker, 7)
    assert "worker 0 does not listen in every enrolled pod" in fleet.why_unreachable({7, 8})
    listens(fleet, worker, 8)
    assert "no worker beats" in fleet.why_unreachable({7, 8})
    maps.beats[0] = time.monotonic() - 3.0
    assert "no worker beats" in fleet.why_unreachable({7, 8})
    maps.beats[0] = time.monotonic()
    assert fleet.why_unreachable({7, 8}) == ""


def test_a_worker_that_is_only_being_started_does_not_make_pods_unreachable(tmp_path: Path) -> None:
    serving, starting = FakeWorker(0), FakeWorker(1, State.STARTING)
    fleet, _maps, _broker = make_fleet(tmp_path, serving, starting)
    fleet.add_pods([pod("shop/web", 7, fd=50)])
    fleet.publish(samples.snapshot(1))
    listens(fleet, serving, 7)
    applied(fleet, serving, 1)
    assert fleet.why_unreachable({7}) == ""


# ---- observe ----


def confirms(fleet: Fleet, worker: FakeWorker, number: int) -> None:
    fleet.worker_reported(worker, {"op": "observing", "number": number})


def test_workers_observe_once_each_confirmed_the_last_switch_not_one_before(tmp_path: Path) -> None:
    one, two = FakeWorker(0), FakeWorker(1)
    fleet, _maps, _broker = make_fleet(tmp_path, one, two)
    for worker in (one, two):
        applied(fleet, worker, 0)
    fleet.observe(True)
    fleet.observe(False)
    fleet.observe(True)
    assert sent_to(one) == [("observe", 1), ("observe", 0), ("observe", 3)]
    confirms(fleet, one, 1)
    confirms(fleet, two, 3)
    assert asyncio.run(fleet.not_observing(0.01)) == [0]
    confirms(fleet, one, 0)
    confirms(fleet, one, 3)
    assert asyncio.run(fleet.not_observing(0.01)) == []


def test_a_worker_that_drains_is_told_too_but_not_waited_for(tmp_path: Path) -> None:
    serving, draining = FakeWorker(0), FakeWorker(1, State.DRAINING)
    fleet, _maps, _broker = make_fleet(tmp_path, serving, draining)
    applied(fleet, serving, 0)
    fleet.observe(True)
    assert len(draining.sent) == 1
    confirms(fleet, serving, 1)
    assert asyncio.run(fleet.not_observing(0.01)) == []


def test_pods_with_connections_are_known_once_every_worker_has_said(tmp_path: Path) -> None:
    """A question has answers of its own: one to another question that is under way is none."""
    one, other = FakeWorker(0), FakeWorker(1)
    fleet, _maps, _broker = make_fleet(tmp_path, one, other)

    async def answered() -> tuple[set[str] | None, list[dict[str, Any]]]:
        busy, rows = asyncio.create_task(fleet.serving_pods()), asyncio.create_task(fleet.connections())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fleet.worker_reported(one, {"op": "connections", "rows": [{"source": "shop/web"}]})
        fleet.worker_reported(one, {"op": "busy_pods", "rows": ["shop/web", "shop/cart"]})
        fleet.worker_reported(other, {"op": "busy_pods", "rows": ["shop/web"]})
        fleet.worker_gone(other)
        return await busy, await rows

    assert asyncio.run(answered()) == ({"shop/web", "shop/cart"}, [{"source": "shop/web", "worker": 0}])
    assert one.sent == [b"busy_pods", b"connections"]
