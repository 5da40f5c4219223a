"""What all workers saw of a backend's endpoints in the current interval: the input of success-rate ejection.

Each worker counts by itself and adds what it counted to a shared record (nodeagent.core.ledger) at every tick; the one
that finds the interval over takes the sums out and evaluates them (nodeagent.core.outlier).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeagent.core.ledger import RECORD_BYTES

_HEAD = struct.Struct("<QI")
_ROW = struct.Struct("<QII")
MAX_ENDPOINTS = (RECORD_BYTES - _HEAD.size) // _ROW.size
"""126: of more, those with the most requests are kept; the others are too quiet to be judged by their rate."""
_MOST = (1 << 32) - 1

Counts = tuple[int, int]  # requests, of them successes
NO_COUNTS: Counts = (0, 0)


@dataclass(frozen=True, slots=True)
class Tallies:
    """Counts by endpoint key since `started` (ns; 0 = never)."""

    started: int = 0
    counts: Mapping[int, Counts] = field(default_factory=dict)

    def is_over(self, interval: int, now: int) -> bool:
        """The interval (ns) that began at `started` has passed."""
        return bool(self.started) and now - self.started >= interval

    def added(self, more: Mapping[int, Counts], now: int) -> Tallies:
        sums = dict(self.counts)
        for key, (requests, successes) in more.items():
            before = sums.get(key, NO_COUNTS)
            sums[key] = min(before[0] + requests, _MOST), min(before[1] + successes, _MOST)
        busiest = sorted(sums.items(), key=lambda item: -item[1][0])[:MAX_ENDPOINTS]
        return Tallies(self.started or now, dict(busiest))


def pack(tallies: Tallies) -> bytes:
    rows = (_ROW.pack(key, *counts) for key, counts in tallies.counts.items())
    return _HEAD.pack(tallies.started, len(tallies.counts)) + b"".join(rows)


def unpack(content: bytes) -> Tallies:
    """The value that `pack` was given; no content is no tallies."""
    if not content:
        return Tallies()
    started, count = _HEAD.unpack_from(content)
    rows = _ROW.iter_unpack(content[_HEAD.size : _HEAD.size + count * _ROW.size])
    return Tallies(started, {key: (requests, successes) for key, requests, successes in rows})
