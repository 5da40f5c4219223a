"""Places under a cap that a worker keeps between two requests, instead of giving them back and taking them again.

A call of the ledger costs 2 to 3 us in the middle of a request, so it is saved where nobody can miss the place: while
less than half of the cap is in use, a worker may keep a sixteenth of it, at most SPARES, until the next tick.  Near the
cap nothing is kept, and what is kept counts as in use: so the cap is never exceeded, by anybody.
"""

from __future__ import annotations

from nodeagent.core.ledger import Ledger, Slot

SPARES = 32
PART = 16


class Reserve:
    """Of one cap, for all gates that lead to it.  `spare` places are held and not in use, `most` may be."""

    __slots__ = ("_give", "_ledger", "_one", "most", "slot", "spare")

    def __init__(self, ledger: Ledger, slot: Slot) -> None:
        self._ledger = ledger
        self._give = ledger.give
        self._one = ledger.prepare([slot])
        self.slot = slot
        self.spare = 0
        self.most = 0  # known at the first tick

    def give(self) -> None:
        """A request leaves its place."""
        if self.spare < self.most:
            self.spare += 1
        else:
            self._give(self._one)

    def tick(self) -> None:
        """Give back what is kept, and look whether there is room to keep any."""
        self.close()
        roomy = self._ledger.held(self.slot) * 2 < self.slot.limit
        self.most = min(SPARES, self.slot.limit // PART) if roomy else 0

    def close(self) -> None:
        """Keep nothing from now on."""
        self.most = 0
        while self.spare:
            self.spare -= 1  # first: what is given back twice would be the place of a request under way
            self._give(self._one)
