"""Weighted backend choice and uniform endpoint choice, both from one random number in [0, 1)."""

from __future__ import annotations

from collections.abc import Sequence

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


def _last_positive(backends: Sequence[Backend]) -> int:
    return max(index for index, backend in enumerate(backends) if backend.weight > 0)
