"""Letting many requests in by one call of the ledger, where nobody can miss what is taken for those still to come.

The call takes the tokens of the next `COUNT` requests at once.  It does so only as long as half of every bucket is left
after it, and only from buckets so large that what all of a worker's gates have in hand is at most 1/512 of the burst.
A bucket that fills up again meanwhile would let in more at once than its burst, so it is made smaller by what workers
may have in hand (`narrowed`): never more than the limit, in any window.  Limits below 8,192 are exact to the request.

Requests are counted towards a retry budget after they were let in, so that a budget never allows too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nodeagent.core.ledger import BudgetRequest, Claim, Slot, Tokens

COUNT = 16
PART = 4096
"""Of a bucket's burst, the most that one gate has in hand."""
GATES = 8
"""Of a worker, that may have something in hand at the same time."""


@dataclass(frozen=True, slots=True)
class Prepayment:
    """What `count` requests cost, of which the first is made at once.

    `first` has the tokens of all and counts one request; `next` counts also the `count - 1` before it, which were let
    in by what was taken then.
    """

    count: int
    first: tuple[Claim, ...]
    next: tuple[Claim, ...]

    def settled(self, unused: int) -> tuple[tuple[Claim, ...], tuple[Claim, ...]]:
        """(given back, still to be counted) when `unused` of the `count` were not made."""
        back = tuple(replace(claim, count=unused) for claim in self.first if isinstance(claim, Tokens) and unused)
        made = self.count - 1 - unused
        counted = (claim for claim in self.first if isinstance(claim, BudgetRequest) and made)
        return back, tuple(replace(claim, count=made) for claim in counted)


def narrowed(tokens: Tokens, workers: int) -> Tokens:
    """The bucket that together with what `workers` have in hand of it is no larger than this one."""
    each = min(COUNT, tokens.burst // PART) - 1
    return replace(tokens, burst=max(1, tokens.burst - workers * GATES * each)) if each > 0 else tokens


def prepayment(claims: Sequence[Claim]) -> Prepayment | None:
    """Of what one request claims; None where it has to be claimed one by one."""
    if any(not isinstance(claim, Tokens | BudgetRequest) for claim in claims):
        raise ValueError(f"{claims}: only tokens and requests are paid for in advance, not a {Slot.__name__}")
    count = min((COUNT, *(claim.burst // PART for claim in claims if isinstance(claim, Tokens))))
    if count < 2 or not claims:
        return None
    first = tuple(_many(claim, count) if isinstance(claim, Tokens) else claim for claim in claims)
    later = tuple(replace(claim, count=count) if isinstance(claim, BudgetRequest) else claim for claim in first)
    return Prepayment(count, first, later)


def _many(claim: Tokens, count: int) -> Tokens:
    return replace(claim, count=count, leave=claim.burst // 2)
