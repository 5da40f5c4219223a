"""The worker's event loop: asyncio, with the sockets of the data path dispatched straight from epoll.

asyncio makes a Handle, a queue entry and a context switch of every ready descriptor, 2 to 3 us each; a proxied
request has two of them.  Here `select` calls the handlers of data sockets itself and gives asyncio the rest
(timers, listeners, channels), which works as ever.  Not uvloop: its readers cost about what asyncio's do, and
it closed or crossed connections under load up to 0.22.

A handler is found for every event of a batch before the first one is called, so one that closes another's
socket cannot have the event land at a newcomer of the same number: handlers of closed streams ignore it.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
from collections.abc import Callable
from time import perf_counter, thread_time

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
MAX_EVENTS = 1024
"""Events taken per round; the others stay ready and come in the next."""

Handler = Callable[[int], None]
"""Called with the epoll events that came; EPOLLERR and EPOLLHUP come unasked."""


class DirectSelector(selectors.EpollSelector):
    """An EpollSelector that calls some handlers itself."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll: select.epoll = self._selector  # type: ignore[attr-defined]  # an attribute of every selector class
        self._handlers: dict[int, Handler] = {}
        self._returned = math.inf  # when asyncio got the loop back: its piece of work began
        self._longest = self._busiest = 0.0
        self._mark = 0.0  # processor time when the last poll returned
        self.on_error: Callable[[Exception], None] = _raise

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        seconds = -1.0 if timeout is None else max(math.ceil(timeout * 1e3), 0) * 1e-3
        took = perf_counter() - self._returned
        if took > self._busiest:
            self._note(took)
        try:
            events = self._epoll.poll(seconds, MAX_EVENTS)
        except InterruptedError:
            events = []
        began, self._mark = perf_counter(), thread_time()
        handlers = self._handlers
        found = [(handlers.get(fd), fd, event) for fd, event in events]
        others = [(fd, event) for handler, fd, event in found if handler is None]
        ready = self._keys(others) if others else []
        for handler, _, event in found:
            if handler is not None:
                try:
                    handler(event)
                except Exception as error:  # noqa: BLE001 - one connection's fault must not take the others along
                    self.on_error(error)
                ended = perf_counter()
                if ended - began > self._busiest:
                    self._note(ended - began)
                began = ended
        self._returned = began
        return ready

    def _note(self, seconds: float) -> None:
        """A piece of work took so long.  Asked for its processor time only when it may be the busiest: that is slow."""
        self._longest = max(self._longest, seconds)
        if seconds > self._busiest:
            self._busiest = max(self._busiest, min(seconds, thread_time() - self._mark))

    def take_longest(self) -> tuple[float, float]:
        """Seconds of the longest piece of work since the last call: of time, of processor time (see `stalls`)."""
        found = self._longest, self._busiest
        self._longest = self._busiest = 0.0
        return found

    def _keys(self, events: list[tuple[int, int]]) -> list[tuple[selectors.SelectorKey, int]]:
        """What asyncio wants to know of its own descriptors."""
        ready = []
        for fd, event in events:
            key = self.get_map().get(fd)
            if key is not None:
                mask = (event & ~READ and selectors.EVENT_WRITE) | (event & ~WRITE and selectors.EVENT_READ)
                ready.append((key, mask & key.events))
        return ready


def _raise(error: Exception) -> None:
    raise error


class DataLoop(asyncio.SelectorEventLoop):
    """`poller` watches the sockets of the data path."""

    def __init__(self) -> None:
        self.poller = DirectSelector()
        super().__init__(self.poller)
        self.poller.on_error = self._report

    def _report(self, error: Exception) -> None:
        self.call_exception_handler({"message": "a handler of a data socket failed", "exception": error})
