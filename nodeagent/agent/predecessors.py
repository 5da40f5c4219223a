"""What agents before this one left in the maps: kept while their workers still drain, deleted once they ended.

Three things: rows of listeners, whose ports may be anyone's after the worker's end; what a worker held of the node's
limits; and the exemption of their cgroup, without which their workers' own connections would be redirected (to us,
and back).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from nodeagent.agent import worker_index

log = logging.getLogger(__name__)


class Rows(Protocol):
    """The part of `Maps` that is used here."""

    def exempt_cgroups(self) -> set[int]: ...
    def end_exemption(self, cgroup: int) -> bool: ...
    def listeners(self) -> list[Any]: ...
    def delete_listener(self, netns: int, worker: int, family: int) -> bool: ...
    def delete_worker_listeners(self, worker: int) -> int: ...
    def clear_heartbeat(self, worker: int) -> None: ...


Place = tuple[int, int]  # netns cookie, family
OurWorkers = Callable[[], Mapping[int, Collection[Place]]]


class Predecessors:
    """Made before our first worker: whoever holds a number then is an earlier agent's."""

    def __init__(self, maps: Rows, locks: Path, own_cgroup: int, ours: OurWorkers, reap: Callable[[int], None]) -> None:
        """`ours` gives the living workers of this agent: number -> where it listens; `reap` is the Fleet's."""
        self._maps = maps
        self._locks = locks
        self._ours = ours
        self._reap = reap
        self._workers = self._held()
        self._cgroups = maps.exempt_cgroups() - {own_cgroup}

    def _held(self) -> set[int]:
        return set(range(worker_index.MAX_INDEXES)) - set(worker_index.free_indexes(self._locks))

    def forget_ended(self) -> None:
        """Call every second or so; costs nothing once all have ended."""
        if not self._workers and not self._cgroups:
            return
        ours = self._ours()
        held = self._held()
        for index in self._workers & ours.keys():
            self._keep_only(index, ours[index])
        for index in self._workers - held:
            self._maps.delete_worker_listeners(index)
            self._maps.clear_heartbeat(index)
            self._reap(index)
        self._workers &= held - ours.keys()
        if self._cgroups and held <= ours.keys():  # a successor that warms up holds numbers too
            self._end_exemptions()

    def _keep_only(self, index: int, places: Collection[Place]) -> None:
        """One of ours has the number already."""
        for row in self._maps.listeners():
            if row.worker == index and (row.netns, row.family) not in places:
                self._maps.delete_listener(row.netns, row.worker, row.family)

    def _end_exemptions(self) -> None:
        for cgroup in self._cgroups:
            self._maps.end_exemption(cgroup)
        log.info("the workers of an earlier agent have ended")
        self._cgroups = set()
