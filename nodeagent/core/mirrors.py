"""Who gets a copy of a request: what is drawn, what the mirror's own policies let pass, and to which endpoint.

A copy that is not sent is no fault of the request, which goes its way; the outcome is for the counters.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from nodeagent.core.backends import authorize_backend
from nodeagent.core.balance import choose_endpoint
from nodeagent.core.matching import Regex
from nodeagent.core.model import Destination, Endpoint, Mirror, RequestHead, Workload


class Unsent(enum.Enum):
    """Why there is no copy."""

    NOT_DRAWN = "not drawn"
    DENIED = "denied"
    NO_ENDPOINT = "no endpoint"


def endpoint_of_copy(
    destination: Destination,
    mirror: Mirror,
    caller: Workload,
    address: str,
    head: RequestHead,
    rand: float,
    regex: Regex,
) -> Endpoint | Unsent:
    """`rand` in [0, 1) draws the copy, and what is left of it the endpoint; else as `core.backends` judges a backend.

    The request is judged as it came, by the policies of the mirror: they hold for copies, too.
    """
    point = rand * mirror.denominator
    if point >= mirror.numerator:
        return Unsent.NOT_DRAWN
    if authorize_backend(destination, mirror.backend, caller, address, head, regex).denied:
        return Unsent.DENIED
    return choose_endpoint(mirror.backend.endpoints, point / mirror.numerator) or Unsent.NO_ENDPOINT


def described(mirrors: Iterable[Mirror]) -> list[str]:
    """One line for each, for people."""
    return [f"mirror {_share(mirror)} to {mirror.backend.name}" for mirror in mirrors]


def _share(mirror: Mirror) -> str:
    return f"{mirror.numerator}%" if mirror.denominator == 100 else f"{mirror.numerator} of {mirror.denominator}"
