"""How fast something is done, and when again after it failed.  Time comes in as seconds of any steady clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Bucket:
    """`rate` a second, of which `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        self._fill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is one to take."""
        self._fill(now)
        return max(0.0, (1 - self._level) / self._rate)

    def _fill(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._level, self._at = min(self._burst, self._level + passed * self._rate), now


class Backoff:
    """Pauses that double from `first` to `longest`, each shortened by up to half.  `jitter` returns 0 <= x < 1."""

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0  # in a row

    def failed(self, at_least: float = 0.0) -> float:
        """Seconds to wait; `at_least` is what the server asked for."""
        pause = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(at_least, pause * (1 - self._jitter() / 2))


class Spacing:
    """Seconds between two writes: at least `least`.  The second after a pause may follow `quick`.

    What is applied together comes bit by bit, and who waits for it waits for the last.
    """

    def __init__(self, least: float, quick: float) -> None:
        self._least, self._quick = least, quick
        self._wrote = -math.inf

    def wrote(self, wanted: float, now: float) -> float:
        """Seconds until the next one.  `wanted` of them because many others write, too: then none is quick."""
        spacing = max(self._least, wanted)
        is_first = now - self._wrote > 2 * spacing
        self._wrote = now
        return self._quick if is_first and spacing == self._least else spacing


class Slowly(Generic[Value]):
    """A value that may move often: each change is taken over, but not sooner than so many seconds after the last."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._value: Value | None = None
        self._at = 0.0

    def __call__(self, value: Value, now: float) -> Value:
        if self._value is None or now - self._at >= self._seconds:
            return self.at_once(value, now)
        return self._value

    def at_once(self, value: Value, now: float) -> Value:
        if value != self._value:
            self._value, self._at = value, now
        return value
