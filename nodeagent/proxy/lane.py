"""The sockets of one pod on a worker's loop: an epoll of its own inside the loop's.

The loop's epoll then tells which pods have something to do, at the price of one event each, however many of their
sockets are ready; and a pod is left alone by one call, without a look at its sockets.

A handler is found for every event of a batch before the first one is called, so one that closes another's
socket cannot have the event land at a newcomer of the same number: handlers of closed streams ignore it.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import perf_counter

from nodeagent.core.fairness import Share

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler = Callable[[int], None]
"""Called with the epoll events that came; EPOLLERR and EPOLLHUP come unasked."""


class Lane:
    """Made by `DirectSelector.lane`."""

    __slots__ = ("_epoll", "_handlers", "_on_error", "closed", "fd", "longest", "share", "turn")

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._on_error = on_error
        self.fd = self._epoll.fileno()
        self.share = Share()
        self.longest = 0.0  # seconds of the longest handler of the last turn (see `nodeagent.proxy.stalls`)
        self.turn = 1  # events that this turn is long
        self.closed = False

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        if not self.closed:  # a worker that stops has closed the lane with everything in it
            self._epoll.unregister(fd)

    @property
    def empty(self) -> bool:
        return not self._handlers

    def serve(self, most: int) -> int:
        """Call the handlers of up to `most` events; how many there were."""
        self.turn = most
        handlers = self._handlers
        found = [(handlers.get(fd), event) for fd, event in self._epoll.poll(0, most)]
        began, longest = perf_counter(), 0.0
        for handler, event in found:
            if handler is not None:
                try:
                    handler(event)
                except Exception as error:  # noqa: BLE001 - one connection's fault must not take the others along
                    self._on_error(error)
                ended = perf_counter()
                if ended - began > longest:  # noqa: PLR1730 - max() is a call, and this is once per event
                    longest = ended - began
                began = ended
        self.longest = longest
        return len(found)

    def close(self) -> None:
        self.closed = True
        self._epoll.close()
