"""Heartbeats in a real map, while scrapes come from other threads."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, cast

from nodeagent.agent.fleet import Fleet
from nodeagent.agent.on_loop import on_loop
from nodeagent.core.bounds import Bounds
from nodeagent.kernel import abi, layout
from tests.agent_kernel.maps import LooseMaps

BEAT_NS = 1_000_000_000
SECONDS = 1.0


def beat(maps: LooseMaps, worker: int) -> None:
    maps.map(layout.HEARTBEATS).update(worker.to_bytes(4, "little"), BEAT_NS.to_bytes(8, "little"))


def test_a_heartbeat_is_read_of_its_own_worker_only(tmp_path: Path) -> None:
    with LooseMaps(tmp_path) as maps:
        beat(maps, 3)
        fleet = Fleet(maps, cast("Any", None), tmp_path, 1, Bounds().as_json())
        assert [fleet.heartbeat(index) for index in (2, 3, 4)] == [0.0, 1.0, 0.0]


def test_scrapes_from_threads_never_make_a_beating_worker_look_dead(tmp_path: Path) -> None:
    """Two threads at one Map object read each other's values: 5 % of the readings were wrong."""
    expected = [BEAT_NS, *[0] * (abi.MAX_WORKERS - 1)]
    with LooseMaps(tmp_path) as maps:
        beat(maps, 0)
        fleet = Fleet(maps, cast("Any", None), tmp_path, 1, Bounds().as_json())

        async def scenario() -> tuple[list[float], list[list[int]]]:
            supervised: list[float] = []
            scraped: list[list[int]] = []
            read = on_loop(asyncio.get_running_loop(), maps.heartbeats)
            end = time.monotonic() + SECONDS

            def scrape() -> None:
                while time.monotonic() < end:
                    scraped.append(read())

            threads = [threading.Thread(target=scrape) for _ in range(3)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                supervised.append(fleet.heartbeat(0))
                await asyncio.sleep(0)
            return supervised, scraped

        supervised, scraped = asyncio.run(scenario())
    assert set(supervised) == {1.0}
    assert len(scraped) > 100
    assert all(beats == expected for beats in scraped)
