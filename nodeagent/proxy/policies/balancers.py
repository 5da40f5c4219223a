"""The state behind a `loadBalancer`, of one worker: whose turn it is, what is in flight where, how fast each answers.

The choice itself is `nodeagent.core.balance` and `nodeagent.core.ring`.  State is the worker's own, as it is in other
proxies: each sees enough of the traffic to choose well, and shared state would cost every request a system call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import random

from nodeagent.core import balance
from nodeagent.core.balance import Ewma
from nodeagent.core.model import Endpoint, RequestHead
from nodeagent.core.ring import Ring, hash_key
from nodeagent.core.traffic import Balancing, LoadBalancer

Picker = Callable[[RequestHead, str, Collection[int]], int | None]
"""(request, caller's address, excluded indexes) -> index of an endpoint, None when each is excluded."""


class Loads:
    """What this worker has under way at each endpoint, and how long it took lately; by index."""

    __slots__ = ("_ewmas", "_index", "_now", "endpoints", "outstanding")

    def __init__(self, endpoints: Sequence[Endpoint], now: Callable[[], float]) -> None:
        self._now = now
        self.endpoints: Sequence[Endpoint] = ()
        self.outstanding: list[int] = []
        self._ewmas: list[Ewma] = []
        self._index: dict[Endpoint, int] = {}
        self.update(endpoints)

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """What is known of endpoints that stay is kept."""
        before, outstanding, ewmas = self._index, self.outstanding, self._ewmas
        now = self._now()
        places = [before.get(one, -1) for one in endpoints]
        self.endpoints = endpoints
        self.outstanding = [outstanding[place] if place >= 0 else 0 for place in places]
        self._ewmas = [ewmas[place] if place >= 0 else Ewma(now) for place in places]
        self._index = {one: index for index, one in enumerate(endpoints)}

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return any(self.outstanding)

    def index(self, endpoint: Endpoint) -> int | None:
        return self._index.get(endpoint)

    def enter(self, endpoint: Endpoint) -> None:
        index = self._index.get(endpoint)
        if index is not None:
            self.outstanding[index] += 1

    def leave(self, endpoint: Endpoint) -> None:
        """An endpoint that left and came back meanwhile has nothing under way: never below 0."""
        index = self._index.get(endpoint)
        if index is not None and self.outstanding[index]:
            self.outstanding[index] -= 1

    def observe(self, endpoint: Endpoint, seconds: float) -> None:
        index = self._index.get(endpoint)
        if index is not None:
            self._ewmas[index].observe(seconds, self._now())

    def requests(self, index: int) -> float:
        return self.outstanding[index]

    def latency_cost(self, index: int) -> float:
        return self._ewmas[index].cost(self._now(), self.outstanding[index])


def picker(config: LoadBalancer, loads: Loads) -> Picker:
    """For as long as the endpoints of `loads` stay."""
    if config.type is Balancing.RING_HASH:
        return _ring_picker(config, loads)
    if config.type is Balancing.ROUND_ROBIN:
        return _turns(loads)
    if config.type is Balancing.LEAST_REQUEST:
        return _two_choices(loads, loads.requests)
    if config.type is Balancing.PEAK_EWMA:
        return _two_choices(loads, loads.latency_cost)
    return lambda _head, _address, excluded: balance.random_endpoint(len(loads.endpoints), random(), excluded)


def _turns(loads: Loads) -> Picker:
    turn = int(random() * 1024)  # workers that start together must not walk in step

    def pick(_head: RequestHead, _address: str, excluded: Collection[int]) -> int | None:
        nonlocal turn
        turn += 1
        return balance.round_robin(len(loads.endpoints), turn, excluded)

    return pick


def _two_choices(loads: Loads, cost: Callable[[int], float]) -> Picker:
    def pick(_head: RequestHead, _address: str, excluded: Collection[int]) -> int | None:
        return balance.two_choices(len(loads.endpoints), cost, random(), random(), excluded)

    return pick


def _ring_picker(config: LoadBalancer, loads: Loads) -> Picker:
    ring = Ring([f"{one.address}:{one.port}" for one in loads.endpoints])
    count = len(loads.endpoints)

    def pick(head: RequestHead, address: str, excluded: Collection[int]) -> int | None:
        place = hash_key(config, head.headers, address)
        if place is None:  # nothing to hash on: as good as any
            return balance.random_endpoint(count, random(), excluded)
        return ring.pick(place, excluded)

    return pick
