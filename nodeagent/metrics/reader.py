"""Reads the counter maps by their pins: works beside a living agent, in a thread, and with the agent dead.

Every read opens the pins anew: a worker started since the last scrape has a new map, and map
objects must not be shared between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nodeagent.kernel import abi, bpf_map, layout
from nodeagent.kernel.bpf_map import Map
from nodeagent.kernel.elements import ElementCounter
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.maps import ConnectionRow, Maps, SeriesRow

# Arrays are always full (but for `dialled`, which is one only outwardly), and socket storage cannot be walked.
NO_FILL = (bpf_map.MAP_TYPE_ARRAY, bpf_map.MAP_TYPE_PERCPU_ARRAY, bpf_map.MAP_TYPE_SK_STORAGE)
FILLS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class MapFill:
    name: str
    entries: int
    max_entries: int


def read_requests(pins: Layout) -> list[SeriesRow]:
    """All used slots of all workers' maps, dead workers included; slot 0 is a worker's own overflow series."""
    with Maps(pins) as maps:
        return [row for worker in maps.request_workers() for row in maps.request_series(worker)]


def read_connections(pins: Layout) -> list[ConnectionRow]:
    with Maps(pins) as maps:
        return maps.connections()


class FillReader:
    """How full each map is that can fill up.  A full map takes a while to count: it is done every few seconds only."""

    def __init__(self, pins: Layout, clock: Callable[[], float] = time.monotonic) -> None:
        self._pins = pins
        self._clock = clock
        self._until = 0.0
        self._fills: list[MapFill] = []
        self._counter = ElementCounter()

    def read(self) -> list[MapFill]:
        now = self._clock()
        if now >= self._until:
            self._fills = _count_all(self._pins, self._counter)
            self._until = now + FILLS_SECONDS
        return self._fills


def _count_all(pins: Layout, counter: ElementCounter) -> list[MapFill]:
    with Maps(pins) as maps:
        names = sorted(path.name for path in pins.maps.iterdir() if not path.name.startswith(layout.REQUESTS))
        return [fill for name in names if (fill := fill_of(maps, name, counter.count))]


def fill_of(maps: Maps, name: str, count: Callable[[Map], int]) -> MapFill | None:
    """None = it has none that could be told."""
    if name == layout.DIALLED:
        return MapFill(name, maps.dialled().used(), abi.DIALLED_PLACES)
    opened = maps.map(name)
    if opened.spec.map_type in NO_FILL:
        return None
    return MapFill(name, count(opened), opened.spec.max_entries)
