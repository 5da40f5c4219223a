"""One backend under one TrafficPolicy, as a worker sees it: which endpoint is next, how each fares, what caps leave.

Cluster is Envoy's word for it.  It outlives snapshots, so that a change of configuration forgets no load and no
ejection; what it shares with other workers is in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from random import random
from typing import NamedTuple

from nodeagent.core import balance
from nodeagent.core.breaker import Cap, Caps, caps_of, overflow, overflow_detail
from nodeagent.core.ledger import Ledger, Slot
from nodeagent.core.ledger_keys import family_names, names_of
from nodeagent.core.model import Endpoint, RequestHead
from nodeagent.core.outlier import Kind, kind_of
from nodeagent.core.policy_refusals import PolicyRefusal
from nodeagent.core.traffic import Balancing, TrafficPolicy
from nodeagent.proxy.policies.balancers import Loads, Picker, picker
from nodeagent.proxy.policies.connection_caps import ConnectionCaps, IdleConnections
from nodeagent.proxy.policies.endpoint_health import Chosen, EndpointHealth
from nodeagent.proxy.policies.lease import Lease
from nodeagent.proxy.policies.reserve import Reserve

NO_CAPS = Caps(None, None, None, None)


class Refusing(NamedTuple):
    """An answer in the upstream's place."""

    refusal: PolicyRefusal
    detail: str


class Cluster:
    """`backend` and the policy's name are what its shared state is found by; `variant` sets a dry run's apart.

    Of a backend with endpoints of both families there is one cluster for each (`v6`).  They have their caps in common;
    the health of endpoints they keep apart, since each forgets those that it does not know.
    """

    def __init__(
        self,
        ledger: Ledger,
        backend: str,
        traffic: TrafficPolicy,
        endpoints: Sequence[Endpoint],
        variant: str = "",
        *,
        v6: bool = False,
    ) -> None:
        self._ledger = ledger
        self.backend = backend
        self._variant = variant
        self._v6 = v6
        self.loads = Loads(endpoints, time.monotonic)
        self.health: EndpointHealth | None = None
        self._ejections = 0  # of a dry run, by success rate: not reported yet
        self._traffic: TrafficPolicy | None = None
        self.reserve: Reserve | None = None  # of the cap on parallel requests
        self.update(traffic, endpoints)

    def update(self, traffic: TrafficPolicy, endpoints: Sequence[Endpoint]) -> None:
        """Under a new snapshot."""
        if traffic == self._traffic and endpoints == self.loads.endpoints:
            return
        self._traffic = None  # until all is done: the ledger may fail in between
        self.policy = traffic.name
        self.timeouts = traffic.timeouts
        self.retry = traffic.retry
        self.loads.update(endpoints)
        breaker = traffic.circuit_breaker
        names = names_of(traffic, self.backend, self._variant)
        self.caps = caps_of(breaker, *names) if breaker is not None else NO_CAPS
        self._update_reserve()
        self._connections = ConnectionCaps(self._ledger, names, self.caps)
        balancer = traffic.load_balancer
        self._pick: Picker | None = picker(balancer, self.loads) if balancer is not None else None
        self.weighs_load = balancer is not None and balancer.type in {Balancing.LEAST_REQUEST, Balancing.PEAK_EWMA}
        self._update_health(traffic, endpoints)
        self._traffic = traffic

    def _update_reserve(self) -> None:
        """A dry run keeps nothing: it may be compared with what is counted later."""
        slot = self.caps.parallel_requests if not self._variant else None
        if self.reserve is not None and self.reserve.slot == slot:
            return
        self.close()
        self.reserve = Reserve(self._ledger, slot) if slot is not None else None

    def close(self) -> None:
        """Nothing leads here any more."""
        if self.reserve is not None:
            self.reserve.close()

    def _update_health(self, traffic: TrafficPolicy, endpoints: Sequence[Endpoint]) -> None:
        config = traffic.outlier_detection
        if config is None:
            self.health = None
        elif self.health is None:
            names = family_names(names_of(traffic, self.backend, self._variant), v6=self._v6)
            self.health = EndpointHealth(self._ledger, names, config, endpoints, time.monotonic_ns())
        else:
            self.health.update(config, endpoints, time.monotonic_ns())

    @property
    def is_indifferent(self) -> bool:
        """No balancer chooses between the endpoints: any will do that is not in trouble."""
        return self._pick is None

    # ---- choosing ----

    def choose(
        self, preferred: Endpoint | None, head: RequestHead, address: str, tried: Collection[Endpoint], *, again: bool
    ) -> Chosen | None:
        """Where the next try goes; None when nothing is fit.

        `preferred` is the random choice made already, taken where no `loadBalancer` chooses.  One that was `tried`
        comes only when there is no other, and then only if `again`.
        """
        unfit: tuple[int, ...] = ()
        if self.health is not None:
            now = time.monotonic_ns()
            unfit = self.health.unfit(now)
            if unfit and (probe := self.health.take_probe(now)) is not None:
                return probe
        if not unfit and not tried and self._pick is None and preferred is not None:
            return preferred, 0
        index = self._other(preferred, head, address, {*unfit, *self._indexes(tried)})
        if index is None and again and tried:
            index = self._other(preferred, head, address, set(unfit))
        return None if index is None else (self.loads.endpoints[index], 0)

    def is_fit(self, endpoint: Endpoint, tried: Collection[Endpoint]) -> bool:
        """True for one that may get the next try; a session goes elsewhere while its endpoint is ejected."""
        index = self.loads.index(endpoint)
        if index is None or endpoint in tried:
            return False
        return self.health is None or index not in self.health.unfit(time.monotonic_ns())

    def _other(self, preferred: Endpoint | None, head: RequestHead, address: str, excluded: set[int]) -> int | None:
        if self._pick is not None:
            return self._pick(head, address, excluded)
        index = self.loads.index(preferred) if preferred is not None else None
        if index is not None and index not in excluded:
            return index
        return balance.random_endpoint(len(self.loads.endpoints), random(), excluded)

    def _indexes(self, endpoints: Collection[Endpoint]) -> set[int]:
        found = (self.loads.index(endpoint) for endpoint in endpoints)
        return {index for index in found if index is not None}

    # ---- how it went ----

    def answered(self, endpoint: Endpoint, status: int, seconds: float, probe: int = 0) -> bool:
        """The head of a response came, after so long.  True when that ejected the endpoint."""
        if self.weighs_load:
            self.loads.observe(endpoint, seconds)
        if self.health is None:
            return False
        kind = kind_of(status)
        if kind is not None:
            return self.health.failed(endpoint, kind, time.monotonic_ns(), probe)
        self.health.succeeded(endpoint, time.monotonic_ns(), probe)
        return False

    def failed(self, endpoint: Endpoint, probe: int = 0) -> bool:
        """No response: the connection failed or broke, or its time was over.  True when that ejected it."""
        if self.health is None:
            return False
        return self.health.failed(endpoint, Kind.LOCAL_ORIGIN, time.monotonic_ns(), probe)

    def unanswered(self, endpoint: Endpoint, probe: int) -> None:
        """A try that was a probe ended with no outcome."""
        if self.health is not None:
            self.health.unanswered(endpoint, time.monotonic_ns(), probe)

    # ---- what a dry run asks ----

    def simulated_probe(self, endpoint: Endpoint) -> int:
        """The name of the probe that a request to this endpoint would have been, 0 = none."""
        return self.health.take_probe_of(endpoint, time.monotonic_ns()) if self.health is not None else 0

    def take_unreported(self) -> int:
        """How many ejections a dry run has not counted yet: those by success rate, which no request brings about."""
        count, self._ejections = self._ejections, 0
        return count

    # ---- in between ----

    def tick(self) -> tuple[int, int]:
        """(endpoints ejected, events lost) by this worker since the last one.

        What a dry run ejects is not out: those of a finished interval wait for `take_unreported`.
        """
        if self.reserve is not None:
            self.reserve.tick()
        if self.health is None:
            return 0, 0
        by_rate = self.health.tick(time.monotonic_ns())
        ejected, lost = self.health.taken()
        if not self._variant:
            return ejected, lost
        self._ejections += by_rate
        return 0, lost

    @property
    def ejected(self) -> int:
        """How many endpoints are out now."""
        return self.health.out if self.health is not None and not self._variant else 0

    # ---- connections ----

    @property
    def group(self) -> str:
        """What the pool keeps its connections by."""
        return self._connections.group

    def lease(self, pool: IdleConnections) -> Lease | Refusing | None:
        """A new connection's places, or what is answered when there are none; None = no caps."""
        lease = self._connections.lease(pool, time.monotonic_ns())
        return self.overflow(lease) if isinstance(lease, Slot) else lease

    def make_room(self, pool: IdleConnections) -> None:
        """For connections of other workers."""
        self._connections.make_room(pool, time.monotonic_ns())

    def overflow(self, slot: Slot, caps: Caps | None = None) -> Refusing:
        """`caps`: those that the slot is of, for a request that began under an older snapshot."""
        cap = (caps or self.caps).refused_by(slot)
        return Refusing(overflow(cap), overflow_detail(Cap(cap), slot.limit, self.policy, self.backend))
