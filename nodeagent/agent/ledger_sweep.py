"""Forgets what no policy names any more in the ledger's tables, so that policies which come and go do not fill them.

Slowly, and only while every worker has the newest snapshot: none answers by an older one then.  An entry goes when two
sweeps in a row find it unnamed and unheld (`LedgerKeeper.forget_except`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Protocol

from nodeagent.core.ledger_keys import ledger_keys
from nodeagent.core.model import Snapshot

log = logging.getLogger(__name__)

SWEEP_SECONDS = 180.0
"""No less than a worker keeps what it knows of an unused backend (`proxy.policies.handling.KEEP_SECONDS`): 60 s.

To name the keys of 2,000 rules and policies takes 20 ms, and what stays a little longer is in nobody's way.
"""


class Keeper(Protocol):
    def forget_except(self, keys: Collection[int]) -> int: ...


class LedgerSweep:
    """`acknowledged`: the newest snapshot, or None while a worker may still answer by another one."""

    def __init__(self, keeper: Keeper, acknowledged: Callable[[], Snapshot | None], now: float) -> None:
        self._keeper = keeper
        self._acknowledged = acknowledged
        self._swept = now

    async def look(self, now: float) -> None:
        """Sweep if it is time to, else do nothing; `now` in seconds of a monotonic clock.  Raises BpfError."""
        if now - self._swept < SWEEP_SECONDS:
            return
        snapshot = self._acknowledged()
        if snapshot is None:  # at the next look
            return
        self._swept = now
        named = await asyncio.to_thread(ledger_keys, snapshot)
        if self._acknowledged() is snapshot and (gone := self._keeper.forget_except(named)):
            log.info("%d entries of shared limits are forgotten: no policy names them any more", gone)
