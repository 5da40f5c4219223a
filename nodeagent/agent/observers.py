"""Request records from the workers, handed to whoever watches: bounded queues, losses counted.

Workers send records only while somebody watches, so an idle `observe` costs the data path nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]

# A watcher that cannot keep up loses records instead of the agent's memory: 1,000 records are about 0.5 MB.
QUEUE_LENGTH = 1000
# What `observe --last N` can show without `-f`.
HISTORY_LENGTH = 1000


class Watcher:
    """One open stream."""

    def __init__(self, matches: Callable[[Record], bool]) -> None:
        self.matches = matches
        self.queue: asyncio.Queue[Record] = asyncio.Queue(QUEUE_LENGTH)
        self.seen = 0  # records that passed by, matching or not
        self.lost = 0

    def offer(self, record: Record) -> None:
        self.seen += 1
        if not self.matches(record):
            return
        try:
            self.queue.put_nowait(record)
        except asyncio.QueueFull:
            self.lost += 1


class Observers:
    """`switch(on)` is called when the first watcher comes and the last one goes."""

    def __init__(self, switch: Callable[[bool], None]) -> None:
        self._switch = switch
        self._watchers: set[Watcher] = set()
        self.history: deque[Record] = deque(maxlen=HISTORY_LENGTH)
        self.lost = 0

    @property
    def watching(self) -> bool:
        return bool(self._watchers)

    def add(self, watcher: Watcher) -> None:
        self._watchers.add(watcher)
        if len(self._watchers) == 1:
            self._switch(True)

    def remove(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self.lost += watcher.lost
        if not self._watchers:
            self._switch(False)

    def publish(self, record: Record) -> None:
        self.history.append(record)
        for watcher in self._watchers:
            watcher.offer(record)
