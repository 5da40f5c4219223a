"""The worker's event loop: asyncio, with the sockets of the data path dispatched straight from epoll.

asyncio makes a Handle, a queue entry and a context switch of every ready descriptor, 2 to 3 us each; a proxied
request has two of them.  Here `select` calls the handlers of data sockets itself and gives asyncio the rest
(timers, channels), which works as ever.  Not uvloop: its readers cost about what asyncio's do, and it closed or
crossed connections under load up to 0.22.

Data sockets are in lanes, one per pod (`proxy/lane.py`); `core/fairness.py` says which lane is served and for how
long.  Then the loop looks again: what stays ready is reported again, so nothing is queued here.
"""

from __future__ import annotations

import asyncio
import gc
import math
import select
import selectors
from collections.abc import Callable
from contextvars import Context
from time import monotonic, perf_counter, thread_time
from typing import TypeVarTuple, Unpack

from nodeagent.core.fairness import SLICE, SLICE_ALONE, Turns, events_for
from nodeagent.proxy.lane import Lane

Arguments = TypeVarTuple("Arguments")
MAX_EVENTS = 1024
"""Lanes and descriptors of asyncio looked at per round; the others stay ready and come in the next."""
COLLECT_AFTER = 32
"""Events between two collections of the young.  CPython (3.11) starts one when 700 more objects were made than freed
since the last, which under a steady load is hardly ever, while what it has to walk grows with the requests in flight:
500 with 90 fields each were up to 6 ms in which nobody was served.  Like this it is a fifth of a millisecond."""


class DirectSelector(selectors.EpollSelector):
    """An EpollSelector that serves lanes itself."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll: select.epoll = self._selector  # type: ignore[attr-defined]  # an attribute of every selector class
        self._lanes: dict[int, Lane] = {}
        self._alone: Lane | None = None  # the only one that had something to do of late
        self._events_alone = 1  # of its turns
        self._to_collection = COLLECT_AFTER
        self._turns = Turns()
        self._returned = math.inf  # when asyncio got the loop back: its piece of work began
        self._longest = self._busiest = 0.0
        self._mark = 0.0  # processor time at that moment
        self.wanted = False  # asyncio has work that it did not have when it called `select`
        self.on_error: Callable[[Exception], None] = _raise

    def lane(self) -> Lane:
        """A new lane; `drop` ends it."""
        lane = Lane(self.on_error)
        self._lanes[lane.fd] = lane
        self._epoll.register(lane.fd, select.EPOLLIN)
        return lane

    def drop(self, lane: Lane) -> None:
        del self._lanes[lane.fd]
        if self._alone is lane:
            self._alone = None
        self._epoll.unregister(lane.fd)
        lane.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve lanes until asyncio has something to do: a descriptor of its own, a timer, a callback."""
        now = perf_counter()
        if now - self._returned > self._busiest:
            self._note(now - self._returned, thread_time() - self._mark)
        self.wanted = False
        end = math.inf if timeout is None else now + timeout
        while True:
            keys = self._round(timeout)
            if self._to_collection <= 0:
                self._collect()
            self._returned = perf_counter()
            if keys or self.wanted or self._returned >= end:
                self._mark = thread_time()
                return keys
            timeout = end - self._returned

    def _round(self, seconds: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look once, waiting up to `seconds`, and do one slice of work."""
        wait = -1.0 if seconds is None or seconds == math.inf else max(math.ceil(seconds * 1e3), 0) * 1e-3
        events = self._epoll.poll(wait, MAX_EVENTS)
        lanes = self._lanes
        if len(events) == 1 and (lane := lanes.get(events[0][0])) is not None and lane is self._alone:
            began = thread_time()
            self._to_collection -= lane.serve(self._events_alone)
            if lane.longest > self._busiest:
                self._note(lane.longest, thread_time() - began)
            return []
        ready = [lanes[fd] for fd, _ in events if fd in lanes]
        if ready:
            self._serve(ready)
        return self._keys([one for one in events if one[0] not in lanes]) if len(ready) != len(events) else []

    # ---- lanes ----

    def _serve(self, ready: list[Lane]) -> None:
        """One slice of work, of the lanes whose turn it is."""
        turns, now, left = self._turns, monotonic(), SLICE
        order = turns.order([lane.share for lane in ready], now)
        began = thread_time()  # the pod is not charged for what other processes took
        for position in order:
            lane = ready[position]
            if lane.closed:
                continue
            events = lane.serve(events_for(lane.share.dearest, left))
            self._to_collection -= events
            ended = thread_time()
            if lane.longest > self._busiest:
                self._note(lane.longest, ended - began)
            turns.ran(lane.share, events, ended - began, now)
            left -= ended - began
            began = ended
            if left <= 0:
                break
        if len(ready) == 1 and turns.is_alone(ready[0].share, now):
            self._alone, self._events_alone = ready[0], events_for(ready[0].share.cost, SLICE_ALONE)
        else:
            self._alone = None

    # ---- stalls ----

    def _collect(self) -> None:
        """A piece of work of its own: no pod is charged for what all of them left."""
        self._to_collection = COLLECT_AFTER
        began, busy = perf_counter(), thread_time()
        gc.collect(0)
        if (took := perf_counter() - began) > self._busiest:
            self._note(took, thread_time() - busy)

    def _note(self, seconds: float, busy: float) -> None:
        """A piece of work took so long, and at most `busy` of processor time."""
        self._longest = max(self._longest, seconds)
        self._busiest = max(self._busiest, min(seconds, busy))

    def take_longest(self) -> tuple[float, float]:
        """Seconds of the longest piece of work since the last call: of time, of processor time (see `stalls`)."""
        found = self._longest, self._busiest
        self._longest = self._busiest = 0.0
        return found

    # ---- asyncio's descriptors ----

    def _keys(self, events: list[tuple[int, int]]) -> list[tuple[selectors.SelectorKey, int]]:
        """What asyncio wants to know of its own descriptors."""
        ready = []
        for fd, event in events:
            key = self.get_map().get(fd)
            if key is not None:
                mask = (event & ~select.EPOLLIN and selectors.EVENT_WRITE) | (
                    event & ~select.EPOLLOUT and selectors.EVENT_READ
                )
                ready.append((key, mask & key.events))
        return ready


def _raise(error: Exception) -> None:
    raise error


class DataLoop(asyncio.SelectorEventLoop):
    """`poller` makes the lanes of the data path."""

    def __init__(self) -> None:
        self.poller = DirectSelector()
        super().__init__(self.poller)
        self.poller.on_error = self._report

    def call_soon(
        self, callback: Callable[[Unpack[Arguments]], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        self.poller.wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.poller.wanted = True
        return super().call_at(when, callback, *args, context=context)

    def _report(self, error: Exception) -> None:
        self.call_exception_handler({"message": "a handler of a data socket failed", "exception": error})
