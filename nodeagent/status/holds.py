"""Which objects have to wait before their status is written (again), and until when.

Because a write failed, or because somebody changed what we wrote a moment ago: it takes two to fight.  Of thousands
that were written few wait, and only these are looked at whenever the writer asks how long it may sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nodeagent.status.book import Key
from nodeagent.status.pace import Backoff


@dataclass(slots=True)
class _Hold:
    backoff: Backoff
    last: object = None  # what was written
    written: float = 0.0
    until: float = 0.0
    waited: bool = False  # before it is written the same way again


class Holds:
    """Seconds of any steady clock.  `jitter` returns 0 <= x < 1."""

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """A pause after a failure, and between two writes that say the same, doubles from `first` to `longest`."""
        self._first, self._longest, self._jitter = first, longest, jitter
        self._all: dict[Key, _Hold] = {}
        self._waiting: set[Key] = set()
        self._swept = 0.0

    def __len__(self) -> int:
        """Objects that anything is remembered of."""
        return len(self._all)

    def has_to_wait(self, key: Key, now: float) -> bool:
        hold = self._all.get(key)
        return hold is not None and now < hold.until

    def failed(self, key: Key, now: float) -> None:
        hold = self._hold(key)
        hold.until = now + hold.backoff.failed()
        self._waiting.add(key)

    def wrote(self, key: Key, content: object, now: float) -> None:
        hold = self._hold(key)
        if content != hold.last:
            hold.backoff = self._new_backoff()
        hold.last, hold.written = content, now

    def repeats(self, key: Key, content: object, now: float) -> bool:
        """True = we wrote just that a moment ago: from now on it waits, after which it may be written once."""
        hold = self._all.get(key)
        if hold is None:
            return False
        hold.waited = content == hold.last and not hold.waited
        if hold.waited:
            self.failed(key, now)
        return hold.waited

    def next(self, now: float) -> float | None:
        """Seconds until one has waited long enough; None = nobody waits."""
        self._waiting = {key for key in self._waiting if self.has_to_wait(key, now)}
        return min((self._all[key].until - now for key in self._waiting), default=None)

    def forget(self, now: float) -> None:
        """What was written, or last waited, longer ago than the longest pause.  Call as often as you like."""
        if now - self._swept < self._longest / 2:
            return
        self._swept, old = now, now - self._longest
        self._all = {key: hold for key, hold in self._all.items() if max(hold.until, hold.written) >= old}

    def _hold(self, key: Key) -> _Hold:
        found = self._all.get(key)
        if found is None:
            found = self._all[key] = _Hold(self._new_backoff())
        return found

    def _new_backoff(self) -> Backoff:
        return Backoff(self._first, self._longest, self._jitter)
