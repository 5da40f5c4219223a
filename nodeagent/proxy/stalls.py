"""How long the worker's loop did one piece of work, so that everything else had to wait.

A handler of a data socket is a piece, and so is what asyncio does between two polls (timers, commands of the
agent, new connections); a pause of the garbage collector is part of one.  Measured twice: as time, in which the
processor may have been taken away, and as processor time, which is our own doing.  Of a handler that is not the
first of its round the latter is at most that of all before it, too.
"""

from __future__ import annotations

WINDOW = 30.0
"""Seconds.  `recent` looks back this far at least and twice as far at most, so that no scrape misses a stall."""


class Stalls:
    """Durations are seconds; `now` is any clock that only grows."""

    __slots__ = ("_before", "_current", "_since", "longest")

    def __init__(self, now: float) -> None:
        self.longest = 0.0  # since the worker started
        self._current = self._before = 0.0  # of this window and of the one before
        self._since = now

    def note(self, seconds: float, now: float) -> None:
        """`seconds`: the longest piece since the last call."""
        if (windows := (now - self._since) // WINDOW) >= 1:
            self._before = self._current if windows == 1 else 0.0
            self._current = 0.0
            self._since += windows * WINDOW
        self._current = max(self._current, seconds)
        self.longest = max(self.longest, seconds)

    @property
    def recent(self) -> float:
        return max(self._current, self._before)
