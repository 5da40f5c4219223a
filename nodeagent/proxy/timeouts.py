"""Many deadlines of one length for the price of one timer: the oldest is always first."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Timeouts(Generic[Item]):
    """Items that must be stopped within `seconds`; restarting an item moves it to the end."""

    __slots__ = ("_deadlines", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadlines: dict[Item, float] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def start(self, item: Item, now: float) -> None:
        self._deadlines.pop(item, None)
        self._deadlines[item] = now + self.seconds

    def stop(self, item: Item) -> None:
        self._deadlines.pop(item, None)

    def take_expired(self, now: float, most: int) -> list[Item]:
        """Up to `most` items whose time is up; they are forgotten."""
        expired: list[Item] = []
        for item, deadline in self._deadlines.items():
            if deadline > now or len(expired) == most:
                break
            expired.append(item)
        for item in expired:
            del self._deadlines[item]
        return expired
