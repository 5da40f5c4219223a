"""The caps of a circuit breaker on connections to one backend: leases, and room that workers make for each other.

An idle connection holds its place as one in use does.  Where a cap leaves no room for a new connection, an idle one of
this worker gives way at once; those of other workers are asked for by a record of the ledger, and are closed at their
next tick, as many as were missed.  The request that met the full cap is refused meanwhile: nothing is queued.
"""

from __future__ import annotations

import struct
from random import getrandbits
from typing import Protocol

from nodeagent.core.breaker import Caps
from nodeagent.core.ledger import TAKEN, Ledger, Slot
from nodeagent.core.ledger_keys import room_key
from nodeagent.proxy.policies.lease import Lease

ASK_EVERY = 200_000_000
"""Nanoseconds between two times that one worker asks: a record is written for each."""
ASKED_FOR = 1_000_000_000
"""So long connections that become idle give way, too."""

_ASKED = struct.Struct("<QQI")  # by whom, until when, how many


class IdleConnections(Protocol):
    """The pool of upstream connections, as far as caps need it."""

    def close_idle_of(self, group: str) -> bool:
        """Close one idle connection of the group; False when there is none."""


class ConnectionCaps:
    """`names`: of policy and backend.  `group` is what the pool keeps their connections by, "" = with all others."""

    def __init__(self, ledger: Ledger, names: tuple[str, ...], caps: Caps) -> None:
        self._ledger = ledger
        self._key = room_key(names)
        self._self = getrandbits(64)
        self.group = " ".join(names) if caps.connections is not None else ""
        self._slots = [slot for slot in (caps.connections, caps.pending_requests) if slot is not None]
        self._all = ledger.prepare(self._slots)
        self._connection = ledger.prepare([caps.connections]) if caps.connections is not None else None
        self._pending = ledger.prepare([caps.pending_requests]) if caps.pending_requests is not None else None
        self._missed = 0  # connections that there was no room for, since others were asked
        self._ask_again = 0
        self._pulse = -1
        self._asked = (0, 0, 0)
        self._wanted = 0  # idle connections of ours that another worker asked for

    def lease(self, pool: IdleConnections, now: int) -> Lease | Slot | None:
        """The places of a new connection, or the cap that has none left; None = there are no caps."""
        if not self._slots:
            return None
        refused = self._ledger.take(self._all)
        if refused != TAKEN and self._is_connection(refused):
            if pool.close_idle_of(self.group):
                refused = self._ledger.take(self._all)
            if refused != TAKEN and self._is_connection(refused):
                self._ask(now)
        return Lease(self._ledger, self._connection, self._pending) if refused == TAKEN else self._slots[refused]

    def _is_connection(self, index: int) -> bool:
        return index == 0 and self._connection is not None

    def _ask(self, now: int) -> None:
        self._missed += 1
        if now >= self._ask_again:
            version, _ = self._ledger.read(self._key)
            content = _ASKED.pack(self._self, now + ASKED_FOR, self._missed)
            self._ledger.swap(self._key, version, content)  # if that fails, another has just asked for more
            self._ask_again, self._missed = now + ASK_EVERY, 0

    def make_room(self, pool: IdleConnections, now: int) -> None:
        """Close idle connections that other workers ask for."""
        if self._connection is None:
            return
        if self._ledger.pulse != self._pulse:
            self._look()
        by, until, _ = self._asked
        if by == self._self or now >= until:
            self._wanted = 0
        while self._wanted and pool.close_idle_of(self.group):
            self._wanted -= 1

    def _look(self) -> None:
        self._pulse = self._ledger.pulse
        _, content = self._ledger.read(self._key)
        asked = _ASKED.unpack(content) if len(content) == _ASKED.size else (0, 0, 0)
        if asked != self._asked:
            self._asked, self._wanted = asked, asked[2]
