"""What a request has to be let in by, prepared: tokens of rate limits, a place under the breaker, a count for retries.

A gate is made once per caller (and set of limits) and entered by each of its requests: one system call, or none where
a place in reserve and what was paid in advance are all it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeagent.core.ledger import MAX_CLAIMS, TAKEN, BudgetRequest, Claim, Ledger, Prepared, Slot
from nodeagent.core.prepaid import prepayment
from nodeagent.core.rate_limits import Applied
from nodeagent.proxy.policies.prepayments import Paid, Prepayments
from nodeagent.proxy.policies.reserve import Reserve


class Gate:
    """All or nothing, up to MAX_CLAIMS claims.

    Of more, tokens of earlier batches are spent though a later one refuses: stricter than asked for, never laxer.
    """

    __slots__ = ("_batches", "_beside", "_first", "_give", "_held", "_paid", "_reserve", "_take", "applied", "slot")

    def __init__(
        self,
        ledger: Ledger,
        applied: Sequence[Applied],
        slot: Slot | None,
        budget: BudgetRequest | None,
        reserve: Reserve | None = None,
        prepayments: Prepayments | None = None,
    ) -> None:
        """`reserve` has places of `slot`; without it none is kept.  Without `prepayments` nothing is paid ahead."""
        self._take, self._give = ledger.take, ledger.give
        self.applied = tuple(applied)
        self.slot = slot
        claims: list[Claim] = [one.tokens for one in applied]
        claims += [claim for claim in (slot, budget) if claim is not None]
        self._batches: list[tuple[int, Prepared]] = [
            (start, ledger.prepare(claims[start : start + MAX_CLAIMS])) for start in range(0, len(claims), MAX_CLAIMS)
        ]
        self._first = self._batches.pop(0)[1]
        self._held = ledger.prepare([slot]) if slot is not None else None
        self._reserve = reserve if not self._batches else None
        beside = [claim for claim in claims if claim is not slot] if not self._batches else []
        keeps = self._reserve is not None
        self._beside = ledger.prepare(beside) if beside and keeps else None  # what a place does not cover
        many = prepayment(beside) if slot is None or keeps else None
        self._paid = Paid(ledger, many, prepayments) if many is not None and prepayments is not None else None

    def enter(self) -> Applied | Slot | None:
        """None, or what refused: then nothing is held."""
        paid, reserve = self._paid, self._reserve
        if paid is not None and paid.left and (reserve is None or reserve.spare):
            paid.left -= 1
            if reserve is not None:
                reserve.spare -= 1
            return None
        return self._enter(paid, reserve)

    def _enter(self, paid: Paid | None, reserve: Reserve | None) -> Applied | Slot | None:
        if reserve is None:
            return None if paid is not None and paid.pay() else self._claim_all()
        if reserve.spare:
            return self._enter_by(reserve, paid)
        if paid is None or not paid.left:
            return self._claim_all()
        if self._held is not None and self._take(self._held) != TAKEN:
            return self.slot
        paid.left -= 1
        return None

    def _enter_by(self, reserve: Reserve, paid: Paid | None) -> Applied | Slot | None:
        if self._beside is not None and (paid is None or not paid.pay()):
            refused = self._take(self._beside)
            if refused != TAKEN:
                return self._claim(refused)
        reserve.spare -= 1
        return None

    def _claim_all(self) -> Applied | Slot | None:
        refused = self._take(self._first)
        if refused != TAKEN:
            return self._claim(refused)
        for start, prepared in self._batches:
            refused = self._take(prepared)
            if refused != TAKEN:
                return self._claim(start + refused)
        return None

    def _claim(self, place: int) -> Applied | Slot | None:
        return self.applied[place] if place < len(self.applied) else self.slot

    def leave(self) -> None:
        """Give back the place under the breaker, if there is one."""
        if self._reserve is not None:
            self._reserve.give()
        elif self._held is not None:
            self._give(self._held)
