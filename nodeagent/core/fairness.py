"""Whose sockets a worker serves next, and for how long: start-time fair queueing (Goyal, Vin and Cheng, 1996).

Each pod has a tag: the virtual time at which what it waits for may start.  The lowest tag runs, and moves on by the
processor time that it took; one that comes after a rest starts at the virtual time of who runs, so that a rest
earns no credit.  Two that are always ready therefore differ by one slice at most, and one that asks for little waits
for no more than the slice in progress, however many sockets of others are ready.

Besides, a pod that took more than half of a window while others waited stays behind for the whole next one: it is
served only while none of the others has anything to do, so that no time is left unused.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 0.1
"""Seconds.  Windows follow each other without a gap."""
MOST_OF_WINDOW = WINDOW / 2
SLICE = 0.0002
"""Seconds that one pod runs before the others are looked at."""
SLICE_ALONE = 0.001
"""The same of a pod that was the only one with something to do for a window."""
MOST_EVENTS = 32
_FIRST_COST = 30e-6
_SMOOTHING = 0.125
_DECAY = 1 / 64
"""What `Share.dearest` falls by, of the difference, in a turn that was cheaper.  Events of one pod differ by ten times
(a head of 90 fields, the answer to it): turns are planned for the dear ones, or others wait for several slices."""


class Share:
    """What one pod had of a worker's time.  Seconds are of processor time, counted while several pods are active."""

    __slots__ = ("behind", "behind_until", "cost", "dearest", "tag", "used", "window")

    def __init__(self) -> None:
        self.tag = 0.0  # virtual time
        self.cost = _FIRST_COST  # seconds per event, smoothed
        self.dearest = _FIRST_COST  # the same of the dearest turn of late
        self.window = 0  # number of the window that `used` is of
        self.used = 0.0  # seconds
        self.behind_until = 0.0
        self.behind = 0  # windows that it stayed behind, ever


class Turns:
    """The order of turns on one loop.  `now` is in seconds on any clock that only grows."""

    __slots__ = ("_alone", "_alone_since", "_virtual", "_waited")

    def __init__(self) -> None:
        self._virtual = 0.0
        self._alone: Share | None = None  # who ran since, and nobody else
        self._alone_since = 0.0
        self._waited = -1  # the last window in which somebody had to wait

    def order(self, ready: Sequence[Share], now: float) -> list[int]:
        """Positions of those in `ready` to serve, in order.

        Virtual time is the tag of who ran last, the lowest then: no tag of one that has waited since is below it.
        """
        virtual = self._virtual
        for share in ready:
            share.tag = max(share.tag, virtual)
        if len(ready) > 1 or ready[0] is not self._alone:
            self._alone, self._alone_since = ready[0], now
        if len(ready) > 1:
            self._waited = int(now / WINDOW)
        first = [position for position, share in enumerate(ready) if share.behind_until <= now]
        return sorted(first or range(len(ready)), key=lambda position: ready[position].tag)

    def is_alone(self, share: Share, now: float) -> bool:
        """Nobody else had anything to do for a whole window: turns need not be counted until somebody has."""
        return share is self._alone and now - self._alone_since > WINDOW

    def ran(self, share: Share, events: int, took: float, now: float) -> None:
        """`share` served `events` in `took` seconds of processor time, in a round that was ordered at `now`."""
        self._virtual = max(self._virtual, share.tag)
        share.tag += took
        if events:
            cost = took / events
            share.cost += (cost - share.cost) * _SMOOTHING
            share.dearest = cost if cost > share.dearest else share.dearest + (cost - share.dearest) * _DECAY
        window = int(now / WINDOW)
        if window != share.window:
            share.window, share.used = window, 0.0
        share.used += took
        end = (window + 2) * WINDOW
        if share.used > MOST_OF_WINDOW and self._waited == window and share.behind_until < end:
            share.behind += 1
            share.behind_until = end


def events_for(cost: float, seconds: float) -> int:
    """How many events of `cost` seconds each are about `seconds` of work, at least one."""
    return max(1, min(MOST_EVENTS, int(seconds / cost)))
