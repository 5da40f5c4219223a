"""Bytes that are held because a peer does not take them, or because they are no whole head yet: how many, of whom."""

from __future__ import annotations

READ_BYTES = 64 * 1024
"""One recv: large enough for 1 GB/s, small enough that a read which cannot be passed on stays cheap to hold."""
LAST_READ_BYTES = 4 * 1024
"""One recv once the worker's budget is used up: what is read then and cannot be passed on stays small."""


class Budget:
    """A sum with a limit, kept by all who hold bytes.  What is held here is held `within` other budgets too, the
    first of which leads to the worker's.

    `full`: more is held here than allowed; `exhausted`: here or in one of the outer budgets.
    """

    __slots__ = ("full", "held", "limit", "peak", "root", "within")

    def __init__(self, limit: int, *within: Budget) -> None:
        self.held = 0
        self.limit = limit
        self.peak = 0
        self.full = False
        self.within = within
        self.root: Budget = within[0].root if within else self  # the worker's

    def add(self, count: int) -> None:
        """`count` bytes more, or fewer when it is negative."""
        held = self.held = self.held + count
        self.full = held > self.limit
        if held > self.peak:  # noqa: PLR1730 - max() is a call
            self.peak = held
        for outer in self.within:
            outer.add(count)

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self.full = self.held > limit

    @property
    def exhausted(self) -> bool:
        return self.full or any(outer.exhausted for outer in self.within)
