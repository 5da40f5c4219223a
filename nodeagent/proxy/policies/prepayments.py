"""Requests that a gate has paid for in advance (`nodeagent.core.prepaid`).  Of a worker's gates a few may: the busy."""

from __future__ import annotations

from nodeagent.core.ledger import TAKEN, Ledger, Prepared
from nodeagent.core.prepaid import GATES, Prepayment

BUSY = 32
"""Calls of one gate within a tick, after which it pays for many requests at once."""


class Prepayments:
    """`turn` counts ticks.  Who did not pay during the last one is not busy any more, and has nothing in hand."""

    def __init__(self) -> None:
        self.turn = 0
        self._paid: dict[Paid, int] = {}  # in which turn last

    def admit(self, paid: Paid) -> bool:
        """True if it may pay in advance now."""
        if paid not in self._paid and len(self._paid) >= GATES:
            return False
        self._paid[paid] = self.turn
        return True

    def withdraw(self, paid: Paid) -> None:
        """It cannot pay in advance now: another one may."""
        del self._paid[paid]
        paid.settle()

    def tick(self) -> None:
        self._settle(before=self.turn)
        self.turn += 1

    def close(self) -> None:
        """Nobody has anything in hand afterwards."""
        self._settle(before=self.turn + 1)

    def _settle(self, before: int) -> None:
        for paid in [paid for paid, turn in self._paid.items() if turn < before]:
            self.withdraw(paid)


class Paid:
    """What one gate has in hand: `left` requests may enter without a call."""

    __slots__ = ("_calls", "_first", "_ledger", "_next", "_owes", "_prepayment", "_prepayments", "_turn", "left")

    def __init__(self, ledger: Ledger, prepayment: Prepayment, prepayments: Prepayments) -> None:
        self._ledger = ledger
        self._prepayment = prepayment
        self._prepayments = prepayments
        self._first: Prepared | None = None  # made when first needed: most gates are never busy
        self._next: Prepared | None = None
        self._turn = 0
        self._calls = 0  # of this turn
        self._owes = False  # requests since the last payment were not counted yet
        self.left = 0

    def pay(self) -> bool:
        """For this request and the next ones; False: this one is to be claimed alone.  None may be `left`."""
        if self._turn != self._prepayments.turn:
            self._turn, self._calls = self._prepayments.turn, 0
        self._calls += 1
        if not (self._owes or self._calls > BUSY) or not self._prepayments.admit(self):
            return False
        if self._ledger.take(self._claims()) != TAKEN:
            self._prepayments.withdraw(self)
            self._calls = 0
            return False
        self._owes = True
        self.left = self._prepayment.count - 1
        return True

    def _claims(self) -> Prepared:
        if self._owes:
            self._next = self._next or self._ledger.prepare(self._prepayment.next)
            return self._next
        self._first = self._first or self._ledger.prepare(self._prepayment.first)
        return self._first

    def settle(self) -> None:
        """Give back what is in hand, and count what was let in."""
        if not self._owes:
            return
        back, made = self._prepayment.settled(self.left)
        self._owes, self.left = False, 0
        if back:
            self._ledger.give(self._ledger.prepare(back))
        if made:
            self._ledger.take(self._ledger.prepare(made))
