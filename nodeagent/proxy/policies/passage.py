"""One request on its way under a Treatment: what it holds of the policies' limits, and where it may go."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from nodeagent.core.faults import Fault, fault_of
from nodeagent.core.ledger import TAKEN
from nodeagent.core.model import Decision, Endpoint, RequestHead
from nodeagent.core.policy_refusals import NO_HEALTHY_ENDPOINT, RETRY_BUDGET, no_healthy_detail, retry_budget_detail
from nodeagent.core.traffic import FaultInjection
from nodeagent.proxy.policies.cluster import Refusing
from nodeagent.proxy.policies.connection_caps import IdleConnections
from nodeagent.proxy.policies.gate import Gate
from nodeagent.proxy.policies.lease import Lease
from nodeagent.proxy.policies.shadow import Shadow
from nodeagent.proxy.policies.stickiness import Sticky

if TYPE_CHECKING:
    from nodeagent.proxy.policies.handling import Handling


class Passage:
    """`decision` is an answer of ours if the request was not let in.  `gate` is what it was let in by, None = nothing
    is to be given back; `shadow` is its dry run."""

    __slots__ = (
        "_address",
        "_counted",
        "_gate",
        "_head",
        "_probe",
        "_retrying",
        "_sticky",
        "decision",
        "first",
        "handling",
        "shadow",
    )

    def __init__(
        self,
        handling: Handling,
        decision: Decision,
        head: RequestHead,
        address: str,
        gate: Gate | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self.handling = handling
        self.decision = decision
        self.shadow = shadow
        self._head = head
        self._address = address
        self._gate = gate
        self.first = True
        self._sticky: Sticky | None = None  # what ties the client to an endpoint, if anything does
        self._probe = 0  # the name of the probe that the current try is, 0 = none
        self._retrying = False
        self._counted = False  # the current try is among its endpoint's loads

    def choose(self, tried: tuple[Endpoint, ...], *, again: bool) -> Endpoint | None:
        """Where to try, or None: no endpoint is fit."""
        preferred = self.decision.endpoint if self.first else None
        handling = self.handling
        if self.first and handling.sticks:
            self._sticky = sticky = handling.sticky(self._head)
            preferred, self._head = sticky.endpoint or preferred, sticky.head
        self.first = False
        cluster = handling.cluster
        if cluster is None:
            return preferred or handling.any_endpoint(tried, again=again)
        home = self._sticky.endpoint if self._sticky is not None else None
        if home is not None and cluster.is_fit(home, tried):
            return home
        chosen = cluster.choose(preferred, self._head, self._address, tried, again=again)
        if chosen is None:
            return None
        endpoint, self._probe = chosen
        return endpoint

    def pass_over(self, endpoint: Endpoint) -> None:
        """It was chosen, and has no room."""
        probe, self._probe = self._probe, 0
        if probe and self.handling.cluster is not None:
            self.handling.cluster.unanswered(endpoint, probe)

    def decision_for(self, endpoint: Endpoint) -> Decision:
        self.decision = self.handling.decision_for(self.decision, endpoint)
        return self.decision

    def fault(self, config: FaultInjection) -> Fault:
        return fault_of(config, random(), random())

    def lease(self, pool: IdleConnections) -> Lease | Refusing | None:
        cluster = self.handling.cluster
        return cluster.lease(pool) if cluster is not None else None

    def unhealthy(self) -> Refusing:
        handling = self.handling
        return Refusing(NO_HEALTHY_ENDPOINT, no_healthy_detail(handling.policy, handling.treatment.backend))

    def take_retry(self) -> Refusing | None:
        """None when one more retry is allowed; the place among parallel retries is taken with the first."""
        handling = self.handling
        claims = handling.retry_claims(first=not self._retrying)
        refused = handling.ledger.take(claims)
        if refused == TAKEN:
            self._retrying = True
            return None
        slot = handling.retry_slot
        if slot is not None and claims.claims[refused] == slot:
            assert handling.cluster is not None
            return handling.cluster.overflow(slot, handling.caps)
        return Refusing(RETRY_BUDGET, retry_budget_detail(handling.policy, handling.treatment.backend))

    def response_field(self, endpoint: Endpoint) -> tuple[str, str] | None:
        """What tells the client where it belongs from now on, if it does not know."""
        return self._sticky.response_field(endpoint) if self._sticky is not None else None

    # ---- how a try went ----

    def enter(self, endpoint: Endpoint) -> None:
        cluster = self.handling.cluster
        if cluster is not None and cluster.weighs_load:
            cluster.loads.enter(endpoint)
            self._counted = True
        if self.shadow is not None:
            self.shadow.tried(endpoint)

    def leave(self, endpoint: Endpoint) -> None:
        """Whether it was counted says the balancer at its start, which a snapshot may have changed since."""
        cluster = self.handling.cluster
        if cluster is not None:
            if self._counted:
                self._counted = False
                cluster.loads.leave(endpoint)
            if self._probe:
                cluster.unanswered(endpoint, self._probe)
                self._probe = 0
        if self.shadow is not None:
            self.shadow.left()

    def answered(self, endpoint: Endpoint, status: int, seconds: float) -> None:
        probe, self._probe = self._probe, 0
        if self.handling.cluster is not None:
            self.handling.cluster.answered(endpoint, status, seconds, probe)
        if self.shadow is not None:
            self.shadow.answered(endpoint, status)

    def failed(self, endpoint: Endpoint) -> None:
        probe, self._probe = self._probe, 0
        if self.handling.cluster is not None:
            self.handling.cluster.failed(endpoint, probe)
        if self.shadow is not None:
            self.shadow.failed(endpoint)

    def end(self) -> None:
        """The request is over: give everything back."""
        gate, self._gate = self._gate, None
        if self._retrying:
            self._retrying = False
            self.handling.give_retry_slot()
        if gate is not None:
            gate.leave()
