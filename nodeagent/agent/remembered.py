"""A good answer that stays good for a moment, where asking again costs more than the news is worth."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 2.0  # the canary finds out by effect, every 5 s


class Remembered:
    """Asks `ask`, unless it said yes within the last `seconds`.  A no is never remembered."""

    def __init__(
        self, ask: Callable[[], bool], seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._seconds, self._clock = ask, seconds, clock
        self._until = 0.0

    def __call__(self) -> bool:
        now = self._clock()
        if now < self._until:
            return True
        good = self._ask()
        self._until = now + self._seconds if good else 0.0
        return good
