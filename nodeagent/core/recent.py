"""Tables with a bound; `Recent` has what was asked for lately, at a steady cost: nothing is scanned or dropped."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Room:
    """How many entries several tables may still keep together."""

    __slots__ = ("_left",)

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, count: int) -> bool:
        """False, and nothing is taken, when so many are not left."""
        if count > self._left:
            return False
        self._left -= count
        return True


class Recent(dict[K, V]):
    """The last `most` different keys asked for are here, and at most twice as many.

    `get` finds the young ones at the cost of a dict; ask `recall` for the rest.  When the young are `most`, they
    become the old, and the old of before are forgotten.
    """

    __slots__ = ("_most", "_old")

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._old: dict[K, V] = {}

    @property
    def held(self) -> int:
        return len(self.keys() | self._old.keys())

    def recall(self, key: K) -> V | None:
        """An old entry, young again; None when there is none."""
        value = self._old.get(key)
        if value is not None:
            self.keep(key, value)
        return value

    def keep(self, key: K, value: V) -> V:
        if len(self) >= self._most:
            self._old = self.copy()
            self.clear()
        self[key] = value
        return value
