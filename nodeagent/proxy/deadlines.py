"""Deadlines that nearly always are met: many of one length behind one timer of the loop.

asyncio's own timers cost 2 us each, made and cancelled; a request may have two.  Deadlines of one length end in the
order in which they began, so a dict keeps them sorted, and one timer waits for the oldest.  When that one is met the
timer finds nothing due and waits for the next: it fires at most once per length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Clock(Protocol):
    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], None]) -> object: ...
    def call_exception_handler(self, context: dict[str, Any]) -> None: ...


Item = TypeVar("Item")


class Deadlines(Generic[Item]):
    """Of `seconds` each.  `missed` is called on the loop, within its resolution; the item is forgotten by then."""

    __slots__ = ("_clock", "_due", "_missed", "_timer", "seconds")

    def __init__(self, clock: Clock, seconds: float, missed: Callable[[Item], None]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._missed = missed
        self._due: dict[Item, float] = {}
        self._timer: object = None  # what the clock will call, if anything

    def __len__(self) -> int:
        return len(self._due)

    def start(self, item: Item, began: float) -> None:
        """`began` is not earlier than that of any item started before; the item is not running."""
        self._due[item] = began + self.seconds
        if self._timer is None:
            self._timer = self._clock.call_at(began + self.seconds, self._fire)

    def stop(self, item: Item) -> None:
        self._due.pop(item, None)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.time()
        missed = []
        for item, due in self._due.items():
            if due > now:
                self._timer = self._clock.call_at(due, self._fire)
                break
            missed.append(item)
        for item in missed:
            del self._due[item]
        for item in missed:
            try:
                self._missed(item)
            except Exception as error:  # noqa: BLE001 - a fault of one must not keep the others from their end
                self._clock.call_exception_handler({"message": "a deadline met a bug", "exception": error})


class DeadlineTable(Generic[Item]):
    """Deadlines by their length in milliseconds: as many as the configuration has, and has had while one ran."""

    def __init__(self, clock: Clock, missed: Callable[[Item], None]) -> None:
        self._clock = clock
        self._missed = missed
        self._by_length: dict[int, Deadlines[Item]] = {}

    def __len__(self) -> int:
        """Of all lengths, running."""
        return sum(len(one) for one in self._by_length.values())

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self._by_length)

    def of(self, milliseconds: int) -> Deadlines[Item]:
        known = self._by_length.get(milliseconds)
        if known is None:
            known = self._by_length[milliseconds] = Deadlines(self._clock, milliseconds / 1000, self._missed)
        return known

    def forget_unused(self) -> None:
        """After a change of configuration."""
        self._by_length = {length: one for length, one in self._by_length.items() if len(one)}
