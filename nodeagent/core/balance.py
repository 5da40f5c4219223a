"""Which backend, by weight, and which of its endpoints, by a TrafficPolicy's `loadBalancer` (`core.ring`: RingHash).

Random numbers are in [0, 1).  Pickers of endpoints return an index below `count`, never one of `excluded` (distinct
indexes below `count`: ejected, or tried before), and None when nothing is left.  What is left is equally likely: the
load of an excluded endpoint does not fall on its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import exp

from nodeagent.core.model import Backend, Endpoint


def choose_backend(backends: Sequence[Backend], rand: float) -> tuple[int, float] | None:
    """Return (index, what is left of `rand`, again in [0, 1)), or None when the weights add up to nothing."""
    total = sum(backend.weight for backend in backends)
    if total <= 0:
        return None
    point = rand * total
    for index, backend in enumerate(backends):
        if point < backend.weight:
            return index, point / backend.weight
        point -= backend.weight
    return _last_positive(backends), 0.0  # rounding carried the point past the end


def choose_endpoint(endpoints: Sequence[Endpoint], rand: float) -> Endpoint | None:
    """Every endpoint is equally likely; None when there is none."""
    return endpoints[endpoint_index(len(endpoints), rand)] if endpoints else None


def endpoint_index(count: int, rand: float) -> int:
    """An index below `count` (> 0); the product may round up to `count` itself."""
    return min(int(rand * count), count - 1)


def shares(backends: Sequence[Backend]) -> tuple[float, ...]:
    """The fraction of requests that each backend gets; all 0 when the weights add up to nothing."""
    total = sum(backend.weight for backend in backends)
    return tuple(backend.weight / total if total else 0.0 for backend in backends)


# ---- endpoints, by a policy ----


def random_endpoint(count: int, rand: float, excluded: Collection[int] = ()) -> int | None:
    left = count - len(excluded)
    return nth_allowed(endpoint_index(left, rand), excluded) if left > 0 else None


def round_robin(count: int, turn: int, excluded: Collection[int] = ()) -> int | None:
    """`turn` counts requests, from wherever."""
    left = count - len(excluded)
    return nth_allowed(turn % left, excluded) if left > 0 else None


def two_choices(
    count: int, cost: Callable[[int], float], rand1: float, rand2: float, excluded: Collection[int] = ()
) -> int | None:
    """Power of two choices: two that differ, and of these the cheaper one.

    LeastRequest: the cost is the requests in flight there.  PeakEWMA: it is `Ewma.cost`.
    """
    left = count - len(excluded)
    if left <= 0:
        return None
    first = endpoint_index(left, rand1)
    if left == 1:
        return nth_allowed(first, excluded)
    second = endpoint_index(left - 1, rand2)
    second += second >= first
    first, second = nth_allowed(first, excluded), nth_allowed(second, excluded)
    return second if cost(second) < cost(first) else first


def nth_allowed(nth: int, excluded: Collection[int]) -> int:
    """The index of the `nth` (from 0) that is not excluded."""
    if excluded:
        for index in sorted(excluded):
            if index > nth:
                break
            nth += 1
    return nth


DECAY_SECONDS = 10.0
"""After so long a latency counts for 1/e of what it did."""
DEFAULT_LATENCY = 0.03
"""Seconds that an endpoint is taken to need which nobody asked yet."""


class Ewma:
    """The latency of one endpoint as PeakEWMA sees it, in seconds (Finagle's and Linkerd's rule).

    A latency above the average is believed at once, one below it slowly; and without news the average fades, so that
    an endpoint that was slow once is asked again.
    """

    __slots__ = ("_at", "_average")

    def __init__(self, now: float, latency: float = DEFAULT_LATENCY) -> None:
        self._average = latency
        self._at = now

    def observe(self, latency: float, now: float) -> None:
        weight = self._weight(now)
        self._average = max(latency, self._average * weight + latency * (1 - weight))
        self._at = max(now, self._at)

    def cost(self, now: float, outstanding: int) -> float:
        """What one more request there costs, with so many in flight."""
        return self._average * self._weight(now) * (outstanding + 1)

    def _weight(self, now: float) -> float:
        return exp((self._at - now) / DECAY_SECONDS) if now > self._at else 1.0


def _last_positive(backends: Sequence[Backend]) -> int:
    return max(index for index, backend in enumerate(backends) if backend.weight > 0)
