"""How full maps are, counted on real maps."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from nodeagent.kernel import bpf_map
from nodeagent.kernel.layout import Layout
from nodeagent.metrics import reader
from nodeagent.metrics.reader import FILLS_SECONDS, FillReader, MapFill


def make_map(entries: int, room: int = 4096) -> bpf_map.Map:
    spec = bpf_map.MapSpec("fills", bpf_map.MAP_TYPE_HASH, 8, 8, room, bpf_map.F_NO_PREALLOC)
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


def test_fills_are_counted_once_in_a_while_however_many_scrapes_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [0.0, 1.0, FILLS_SECONDS - 0.1, FILLS_SECONDS, FILLS_SECONDS + 1]
    counted = []

    def count_all(_pins: object) -> list[MapFill]:
        counted.append(1)
        return [MapFill("pods", len(counted), 4096)]

    monkeypatch.setattr(reader, "_count_all", count_all)
    clock = iter(times)
    fills = FillReader(Layout(tmp_path), lambda: next(clock))
    assert [fills.read()[0].entries for _ in times] == [1, 1, 1, 2, 2]
