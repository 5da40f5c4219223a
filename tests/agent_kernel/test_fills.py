"""How full maps are, counted on real maps."""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.kernel import bpf_map, elements, syscall
from nodeagent.kernel.elements import ElementCounter, Scale
from nodeagent.kernel.layout import Layout
from nodeagent.metrics import reader
from nodeagent.metrics.reader import FILLS_SECONDS, FillReader, MapFill
from tests.testbed.bed import BPFFS

LRU_HASH = 9
ACCOUNTS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 4)  # the kernel, for the memory of elements


def make_map(
    entries: int, room: int = 4096, kind: int = bpf_map.MAP_TYPE_HASH, flags: int = bpf_map.F_NO_PREALLOC
) -> bpf_map.Map:
    spec = bpf_map.MapSpec("fills", kind, 8, 8, room, flags)
    table = bpf_map.Map.from_fd(bpf_map.map_create(spec))
    for number in range(entries):
        table.update(struct.pack("=Q", number), bytes(8))
    return table


def test_entries_are_counted_exactly() -> None:
    for entries in (0, 1, 1000):
        table = make_map(entries)
        assert table.count() == entries
        table.close()


def test_entries_that_come_and_go_meanwhile_do_not_multiply_the_count() -> None:
    table = make_map(200)
    stop = threading.Event()

    def churn() -> None:
        mine = bpf_map.Map.from_fd(bpf_map.map_create(table.spec))  # an object of this thread, at the same map
        mine.close()
        mine.fd = table.fd
        while not stop.is_set():
            for number in range(1000, 1050):
                mine.update(struct.pack("=Q", number), bytes(8))
            for number in range(1000, 1050):
                mine.delete(struct.pack("=Q", number))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        counts = [table.count() for _ in range(30)]
    finally:
        stop.set()
        thread.join(5)
        table.close()
    assert all(200 <= count <= 250 for count in counts)


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of maps, one for each walk."""
    found: list[str] = []
    walk = bpf_map.Map.count

    def count(table: bpf_map.Map) -> int:
        found.append(table.name)
        return walk(table)

    monkeypatch.setattr(bpf_map.Map, "count", count)
    return found


@pytest.mark.parametrize("kind", [bpf_map.MAP_TYPE_HASH, bpf_map.MAP_TYPE_PERCPU_HASH])
@pytest.mark.parametrize("room", [1, 1000, 4096, 65536])
def test_a_map_is_walked_until_its_memory_has_told_the_same(kind: int, room: int, walked: list[str]) -> None:
    table, counter = make_map(1, room, kind), ElementCounter()
    assert [counter.count(table) for _ in range(3)] == [1, 1, 1]
    for number in range(1, min(room, 500)):
        table.update(struct.pack("=Q", number), bytes(8))
    assert counter.count(table) == min(room, 500)
    table.delete(struct.pack("=Q", 0))
    assert counter.count(table) == min(room, 500) - 1
    assert len(walked) == (1 if ACCOUNTS else 5)
    table.close()


def test_memory_that_tells_something_else_than_a_walk_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [make_map(entries) for entries in (20, 21)]
    true, an_element_more = elements.used_bytes, elements.used_bytes(tables[1]) - elements.used_bytes(tables[0])
    for error in (8, -16, an_element_more, 1 << 40):
        counter = ElementCounter()
        monkeypatch.setattr(elements, "used_bytes", lambda one, more=error: true(one) + more * (one is tables[0]))
        assert [counter.count(tables[0]) for _ in range(3)] == [20, 20, 20]
    for table in tables:
        table.close()


def test_an_empty_map_does_not_prove_what_an_element_takes(walked: list[str]) -> None:
    table, counter = make_map(0), ElementCounter()
    assert [counter.count(table), counter.count(table)] == [0, 0]
    assert len(walked) == 2
    table.close()


@pytest.mark.parametrize("kind", [bpf_map.MAP_TYPE_HASH, LRU_HASH])
def test_a_map_whose_memory_does_not_depend_on_its_elements_is_always_walked(kind: int) -> None:
    table, counter = make_map(20, 64, kind, flags=0), ElementCounter()
    assert counter.count(table) == 20
    table.delete(struct.pack("=Q", 0))
    assert counter.count(table) == 19
    table.close()


def test_elements_are_told_only_by_memory_that_maps_can_have() -> None:
    scale = Scale(empty=500, bucket=16, element=60)
    full = 500 + 7 * 16 + 5 * 60
    assert [scale.elements(full, 5), scale.elements(500 + 7 * 16, 5)] == [5, 0]
    assert [scale.elements(used, 5) for used in (full + 60, full + 1, 500)] == [None, None, None]
    assert Scale(500, 16, 0).elements(500, 1) is None


@pytest.fixture
def pins() -> Iterator[Layout]:
    """One map of 20 elements, pinned."""
    made = Layout(BPFFS / f"test-fills-{os.getpid()}")
    made.maps.mkdir(parents=True)
    table = make_map(20)
    syscall.obj_pin(made.map("pods"), table.fd)
    table.close()
    yield made
    shutil.rmtree(made.bpffs)


def test_a_map_that_was_walked_at_one_scrape_is_not_walked_at_the_next(pins: Layout, walked: list[str]) -> None:
    """Every scrape opens the pins anew: it is the map in the kernel that is known."""
    times = iter([FILLS_SECONDS, 3 * FILLS_SECONDS])
    fills = FillReader(pins, lambda: next(times))
    assert [fills.read() for _ in range(2)] == [[MapFill("pods", 20, 4096)]] * 2
    assert len(walked) == (1 if ACCOUNTS else 2)


def test_fills_are_counted_once_in_a_while_however_many_scrapes_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [0.0, 1.0, FILLS_SECONDS - 0.1, FILLS_SECONDS, FILLS_SECONDS + 1]
    counted = []

    def count_all(_pins: object, _counter: object) -> list[MapFill]:
        counted.append(1)
        return [MapFill("pods", len(counted), 4096)]

    monkeypatch.setattr(reader, "_count_all", count_all)
    clock = iter(times)
    fills = FillReader(Layout(tmp_path), lambda: next(clock))
    assert [fills.read()[0].entries for _ in times] == [1, 1, 1, 2, 2]
