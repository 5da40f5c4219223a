"""A Treatment in a worker: everything about it that is prepared once and used by every request that goes its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from random import random
from typing import NamedTuple

from nodeagent.core import balance
from nodeagent.core.dry_run import WOULD_LIMIT, WOULD_OVERFLOW
from nodeagent.core.ledger import BudgetRequest, Claim, Ledger, Prepared, Slot
from nodeagent.core.ledger_keys import DRY_RUN, budget_names
from nodeagent.core.model import Decision, Endpoint, RequestHead, Treatment, Workload, Would
from nodeagent.core.policy_refusals import RATE_LIMITED, rate_limited_detail
from nodeagent.core.prepaid import narrowed
from nodeagent.core.rate_limits import MAX_KNOWN_TOGETHER, Applied, Limits, LimitsOf, rate_limit_headers
from nodeagent.core.recent import Room
from nodeagent.core.retries import budget_claims
from nodeagent.core.traffic import TrafficPolicy
from nodeagent.core.treatment import retry_of
from nodeagent.proxy.policies.cluster import NO_CAPS, Cluster
from nodeagent.proxy.policies.gate import Gate
from nodeagent.proxy.policies.passage import Passage
from nodeagent.proxy.policies.prepayments import Prepayments
from nodeagent.proxy.policies.reserve import Reserve
from nodeagent.proxy.policies.shadow import Shadow
from nodeagent.proxy.policies.stickiness import Stickiness, Sticky

MAX_CALLERS = 4096
MAX_DECISIONS = 4096
"""Of each kind kept per Treatment; past it what came first is made anew when it is needed again."""
KEEP_SECONDS = 60.0
"""A cluster that nothing led to is kept for so long: snapshots may follow each other faster than its requests do."""

Caller = tuple[str, str, str]
Gates = tuple[Gate | None, Gate | None]  # what a request enters by, and what its dry run does; None = by nothing
ClusterKey = tuple[str, str, str, bool]  # backend, policy, variant, whether its endpoints are IPv6


class Way(NamedTuple):
    """A Treatment for one caller.  `is_short`: `gate` alone lets its requests in, always, and there is no dry run."""

    handling: Handling
    gate: Gate | None
    is_short: bool


class Handling:
    """Made per Treatment and snapshot; `cluster` and `shadow` are those of the worker, and outlive it."""

    def __init__(
        self,
        ledger: Ledger,
        treatment: Treatment,
        cluster: Cluster | None,
        shadow: Cluster | None,
        prepayments: Prepayments,
        workers: int,
        room: Room,
    ) -> None:
        """`room`: for gates of requests that are told apart by their headers."""
        self.ledger = ledger
        self._prepayments = prepayments
        self._workers = workers
        self._room = room
        self.treatment = treatment
        self.cluster = cluster
        self.shadow = shadow
        traffic = treatment.traffic
        self.policy = traffic.name if traffic is not None else ""
        self.retry = retry_of(treatment)
        self._stickiness = Stickiness(treatment, treatment.backend)
        self.sticks = bool(self._stickiness)
        # a policy has a say in how requests are forwarded; else it is only about letting them in
        self.goes_on = cluster is not None or shadow is not None or self.retry is not None or self.sticks
        self.fault = traffic.fault_injection if traffic is not None else None
        self.connect = traffic.timeouts.connect / 1000 if traffic is not None else 0.0
        self.idle_ms = traffic.timeouts.idle if traffic is not None else 0
        self.idle = self.idle_ms / 1000
        self.health = cluster.health if cluster is not None else None
        any_will_do = cluster is None or cluster.is_indifferent
        # requests may go the short way as long as no endpoint is in trouble: see ManagedExchange
        self.may_be_usual = any_will_do and not (self.sticks or self.fault or self.idle_ms or shadow)
        self.pulse_cell = ledger.pulse_cell
        self.tallies: dict[Endpoint, list[int]] = self.health.tallies if self.health is not None else {}
        self.group = cluster.group if cluster is not None else ""
        self.caps = cluster.caps if cluster is not None else NO_CAPS
        self.retry_slot = self.caps.parallel_retries
        self._slot = self.caps.parallel_requests
        self._shadow_slot = shadow.caps.parallel_requests if shadow is not None else None
        self._prepare_retries()
        self._prepare_shadow(treatment)
        self._limits: dict[Caller, LimitsOf[Gates]] = {}
        self._decisions: dict[tuple[Endpoint, tuple[str, ...], Would], Decision] = {}

    def _prepare_retries(self) -> None:
        self._budget: BudgetRequest | None = None
        self._first_retry = self._next_retry = self.ledger.prepare([])
        self._slot_alone = self.ledger.prepare([self.retry_slot]) if self.retry_slot is not None else None
        if self.retry is None:
            return
        self._budget, retry = budget_claims(
            self.retry.budget, *budget_names(self.treatment.traffic, self.treatment.backend)
        )
        claims: list[Claim] = [self.retry_slot] if self.retry_slot is not None else []
        self._first_retry = self.ledger.prepare([*claims, retry])
        self._next_retry = self.ledger.prepare([retry])

    def _prepare_shadow(self, treatment: Treatment) -> None:
        self._shadow_budget: BudgetRequest | None = None
        self._shadow_retry: Prepared | None = None
        shadow = treatment.shadow
        if shadow is not None and shadow.retry is not None:
            names = budget_names(shadow, treatment.backend, DRY_RUN)
            self._shadow_budget, retry = budget_claims(shadow.retry.budget, *names)
            self._shadow_retry = self.ledger.prepare([retry])

    # ---- letting a request in ----

    def way(self, caller: Workload, address: str) -> Way:
        """For who asks again and again: one connection's requests."""
        key = (caller.namespace, caller.service_account, address)
        limits = self._limits.get(key) or self._limits_of(key, caller, address)
        gate, shadow = limits.static
        return Way(self, gate, limits.is_static and shadow is None and self.may_be_usual and self.goes_on)

    def enter(self, decision: Decision, caller: Workload, address: str, head: RequestHead) -> Passage:
        """The passage's decision is an answer of ours when the request is not let in.

        What would have been denied would not have come here: nothing is simulated for it.
        """
        gate, shadow = self._gates_for(caller, address, head)
        if gate is not None and (refused := gate.enter()) is not None:
            return Passage(self, self.refusal(decision, refused), head, address)
        simulated = None
        if not decision.would and (shadow is not None or self.shadow is not None):
            try:
                simulated = self._simulate(shadow)
            except Exception:
                if gate is not None:
                    gate.leave()
                raise
        return Passage(self, decision, head, address, gate, simulated)

    def _simulate(self, gate: Gate | None) -> Shadow:
        shadow = Shadow(self.ledger, self.shadow, gate, self._shadow_retry)
        if gate is not None and (refused := gate.enter()) is not None:
            shadow.refused(*self._would(refused))
        return shadow

    def _gates_for(self, caller: Workload, address: str, head: RequestHead) -> Gates:
        key = (caller.namespace, caller.service_account, address)
        limits = self._limits.get(key) or self._limits_of(key, caller, address)
        return limits.static if limits.is_static else limits.of(head.headers)

    def _limits_of(self, key: Caller, caller: Workload, address: str) -> LimitsOf[Gates]:
        if len(self._limits) >= MAX_CALLERS:
            del self._limits[next(iter(self._limits))]
        limits = self._limits[key] = LimitsOf(
            self.treatment.rate_limits, caller, address, self._make_gates, self._room
        )
        return limits

    def _make_gates(self, limits: Limits) -> Gates:
        reserve = self.cluster.reserve if self.cluster is not None else None
        applied = tuple(one._replace(tokens=narrowed(one.tokens, self._workers)) for one in limits.enforced)
        enforced = self._gate(applied, self._slot, self._budget, reserve, self._prepayments)
        return enforced, self._gate(limits.dry_run, self._shadow_slot, self._shadow_budget)

    def _gate(
        self,
        applied: tuple[Applied, ...],
        slot: Slot | None,
        budget: BudgetRequest | None,
        reserve: Reserve | None = None,
        prepayments: Prepayments | None = None,
    ) -> Gate | None:
        """Of a dry run nothing is kept or paid in advance: it may be compared with what is counted later."""
        if not applied and slot is None and budget is None:
            return None
        return Gate(self.ledger, applied, slot, budget, reserve, prepayments)

    # ---- words ----

    def refusal(self, decision: Decision, refused: Applied | Slot) -> Decision:
        if isinstance(refused, Slot):
            assert self.cluster is not None
            overflow, detail = self.cluster.overflow(refused)
            return replace(
                decision,
                status=overflow.status,
                reason=overflow.reason,
                flag=overflow.flag,
                detail=detail,
                policy=self.policy,
                endpoint=None,
                location="",
            )
        policy, rule, tokens = refused
        fields = rate_limit_headers(rule, self.ledger.left(tokens), self.ledger.wait(tokens))
        return replace(
            decision,
            status=policy.status,
            reason=RATE_LIMITED.reason,
            flag=RATE_LIMITED.flag,
            detail=rate_limited_detail(policy.name, rule.name),
            policy=policy.name,
            endpoint=None,
            location="",
            fields=(*fields, *policy.headers),
        )

    def _would(self, refused: Applied | Slot) -> tuple[str, str]:
        if isinstance(refused, Slot):
            assert self.shadow is not None
            return WOULD_OVERFLOW, self.shadow.policy
        return WOULD_LIMIT, refused.policy.name

    # ---- while it is under way ----

    def decision_for(self, decision: Decision, endpoint: Endpoint) -> Decision:
        """The same decision, with another endpoint."""
        if decision.changes is not None and decision.changes.is_for_one:
            return replace(decision, endpoint=endpoint)
        key = (endpoint, decision.audits, decision.would)
        known = self._decisions.get(key)
        if known is None:
            if len(self._decisions) >= MAX_DECISIONS:
                self._decisions.clear()
            known = self._decisions[key] = replace(decision, endpoint=endpoint)
        return known

    def any_endpoint(self, tried: Collection[Endpoint], *, again: bool) -> Endpoint | None:
        """Without a policy that chooses: another one at random."""
        endpoints = self.treatment.endpoints
        excluded = {index for index, one in enumerate(endpoints) if one in tried}
        index = balance.random_endpoint(len(endpoints), random(), excluded)
        if index is None and again:
            index = balance.random_endpoint(len(endpoints), random())
        return None if index is None else endpoints[index]

    def sticky(self, head: RequestHead) -> Sticky:
        return self._stickiness.of(head)

    def retry_claims(self, *, first: bool) -> Prepared:
        """What one more retry of a request takes."""
        return self._first_retry if first else self._next_retry

    def give_retry_slot(self) -> None:
        if self._slot_alone is not None:
            self.ledger.give(self._slot_alone)


class Handlings:
    """Of one worker: by Treatment, until the next snapshot; clusters stay as long as something leads to them.

    `now`: seconds of a monotonic clock.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], float] = time.monotonic, workers: int = 1) -> None:
        """`workers`: how many of them share the ledger."""
        self._ledger = ledger
        self._workers = workers
        self._room = Room(MAX_KNOWN_TOGETHER)
        self._now = now
        self.prepayments = Prepayments()
        self._by_treatment: dict[int, Handling] = {}
        self._clusters: dict[ClusterKey, Cluster] = {}
        self._used: dict[ClusterKey, float] = {}  # until when something led there
        self._leading: set[ClusterKey] = set()  # what handlings of this snapshot lead to

    def of(self, treatment: Treatment) -> Handling:
        """By identity: a judge hands out the same one again and again, and the Handling keeps it alive."""
        return self._by_treatment.get(id(treatment)) or self._make(treatment)

    def _make(self, treatment: Treatment) -> Handling:
        cluster = self._cluster(treatment, treatment.traffic, "")
        shadow = self._cluster(treatment, treatment.shadow, DRY_RUN)
        handling = Handling(self._ledger, treatment, cluster, shadow, self.prepayments, self._workers, self._room)
        self._by_treatment[id(treatment)] = handling
        return handling

    def _cluster(self, treatment: Treatment, traffic: TrafficPolicy | None, variant: str) -> Cluster | None:
        if traffic is None:
            return None
        v6 = bool(treatment.endpoints) and ":" in treatment.endpoints[0].address
        key = (treatment.backend, traffic.name, variant, v6)
        cluster = self._clusters.get(key)
        if cluster is None:
            cluster = Cluster(self._ledger, treatment.backend, traffic, treatment.endpoints, variant, v6=v6)
            self._clusters[key] = cluster
        else:
            cluster.update(traffic, treatment.endpoints)
        self._leading.add(key)
        return cluster

    def forget(self) -> None:
        """A new snapshot: clusters go that nothing led to for KEEP_SECONDS, and that have nothing under way.

        Before it `prepayments` are to be closed.
        """
        now = self._now()
        self._used.update(dict.fromkeys(self._leading, now))
        self._leading.clear()
        self._by_treatment.clear()
        self._room = Room(MAX_KNOWN_TOGETHER)
        for key in [key for key, used in self._used.items() if used <= now - KEEP_SECONDS]:
            if not self._clusters[key].loads.busy:
                self._clusters[key].close()
                del self._clusters[key], self._used[key]

    def clusters(self) -> list[Cluster]:
        return list(self._clusters.values())
