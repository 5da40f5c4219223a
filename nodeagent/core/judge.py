"""`decide`, prepared: what does not depend on the request is computed once per destination and caller.

A Judge belongs to one Destination of one Snapshot and is thrown away with it.  It agrees with
`nodeagent.core.decide.decide` on every input (a property test compares them); it only
- keeps, per caller, the policies and rules left after sources and ports are judged, of the frontend and of the
  backends that its routes lead to,
- turns rules into tests that touch the request head as little as possible,
- hands out ready-made Decision objects, because making one costs more than the matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nodeagent.core import decide as plain
from nodeagent.core.backends import addresses_seen, audited_behind, brings_more, crosses_families, guarded_groups
from nodeagent.core.balance import choose_backend, endpoint_index
from nodeagent.core.cors import Cors, is_preflight
from nodeagent.core.filters import Redirect
from nodeagent.core.matching import Regex, mismatch
from nodeagent.core.model import Backend, Decision, Destination, Endpoint, PathKind, RequestHead, Rule, Workload
from nodeagent.core.paths import respell
from nodeagent.core.prepared_policies import PreparedPolicies
from nodeagent.core.treatment import treatment_of_redirect, treatment_of_rule, treatment_without_route

MAX_CALLERS = 4096  # views kept per destination; a pod is one caller per source address

Chooser = Callable[[float, RequestHead], Decision]
Gate = Callable[[Rule, Backend], PreparedPolicies | None]
Candidate = tuple[int, str, str, str, Rule | None, Chooser]
_EXACT, _PREFIX, _ANY_PATH, _SLOW = range(4)


class Judge:
    """Decides requests to one destination.  Not shared between threads."""

    __slots__ = ("_candidates", "_crosses", "_destination", "_guarded", "_plainly", "_prepared", "_regex", "_views")

    def __init__(self, destination: Destination, regex: Regex) -> None:
        self._destination = destination
        self._regex = regex
        self._views: dict[tuple[str, ...], _View] = {}
        self._prepared: dict[str, list[_PreparedRule]] = {}
        self._candidates: dict[str, tuple[Candidate, ...]] = {}
        self._guarded = guarded_groups(destination)
        self._crosses = bool(self._guarded) and crosses_families(destination)
        self._plainly = _plain_chooser(destination)

    def decide(self, caller: Workload, address: str, head: RequestHead, rand: float) -> Decision:
        """The same answer as `decide(destination, caller, address, head, rand, regex)`."""
        key: tuple[str, ...] = (caller.namespace, caller.service_account, address)
        if self._crosses:
            key += caller.addresses
        view = self._views.get(key) or self._view(key, caller, address)
        if view.judged:
            decision = view.judge(head, self._regex)
            if decision is not None:
                return decision
        candidates = view.candidates
        decision = self._plainly(rand, head) if candidates is None else self._route(candidates, head, rand)
        return view.with_audits(decision, head, self._regex) if view.audits else decision

    def _route(self, candidates: Sequence[Candidate], head: RequestHead, rand: float) -> Decision:
        path, method = head.path, head.method
        if "%" in path:
            path = respell(path)
        for kind, value, below, wanted, rule, choose in candidates:
            if kind == _PREFIX:
                if path != value and not path.startswith(below):
                    continue
            elif kind == _EXACT and path != value:
                continue
            if wanted and wanted != method:
                continue
            if rule is not None and mismatch(rule, head, self._regex):
                continue
            return choose(rand, head)
        return plain.no_route(self._destination)

    def _view(self, key: tuple[str, ...], caller: Workload, address: str) -> _View:
        if len(self._views) >= MAX_CALLERS:
            self._views.clear()
        rules = plain.rules_for(self._destination, caller)
        candidates = None if rules is None else self._candidates_for(caller, address, rules)
        view = self._views[key] = _View(self._destination, caller, address, candidates)
        return view

    def _candidates_for(self, caller: Workload, address: str, rules: Sequence[Rule]) -> tuple[Candidate, ...]:
        group = self._destination.rule_group(caller.namespace)
        if group not in self._prepared:
            self._prepared[group] = [_PreparedRule(self._destination, rule) for rule in rules]
            self._candidates[group] = tuple(rule.candidate for rule in self._prepared[group])
        if group not in self._guarded:
            return self._candidates[group]
        gate = partial(self._gate, caller, address)
        return tuple(rule.guarded(gate, self._regex) for rule in self._prepared[group])

    def _gate(self, caller: Workload, address: str, rule: Rule, backend: Backend) -> PreparedPolicies | None:
        """What the backend's policies leave to judge of this caller's requests, or None = nothing."""
        if backend.error or not brings_more(self._destination, backend):
            return None
        addresses = addresses_seen(self._destination, backend, caller, address)
        audited = audited_behind(self._destination, backend)
        gate = PreparedPolicies(backend, caller, addresses, audited, partial(plain.backend_denial, rule, backend))
        return gate if gate.judged or gate.audits else None


class _View(PreparedPolicies):
    """One caller's part of the destination."""

    __slots__ = ("candidates",)

    def __init__(
        self, destination: Destination, caller: Workload, address: str, candidates: tuple[Candidate, ...] | None
    ) -> None:
        audited = (policy for policy in destination.policies if policy.needs_http)
        super().__init__(destination, caller, (address,), audited, plain.denial)
        self.candidates = candidates


class _PreparedRule:
    """What a rule's callers share: its candidate, and a chooser of the endpoint for each backend."""

    __slots__ = ("_choosers", "_destination", "_rule", "candidate")

    def __init__(self, destination: Destination, rule: Rule) -> None:
        self._destination = destination
        self._rule = rule
        self._choosers = [_backend_chooser(destination, rule, backend) for backend in rule.backends]
        choose = _answering(destination, rule) or _weighing(rule, self._choosers)
        self.candidate = _candidate(rule, _crossing(destination, rule, rule.cors, choose))

    def guarded(self, gate: Gate, regex: Regex) -> Candidate:
        """The same for one caller: `gate` says what its requests to each backend must pass."""
        gates = [gate(self._rule, backend) for backend in self._rule.backends]
        if not any(gates) or self._rule.answers:
            return self.candidate
        pairs = zip(gates, self._choosers, strict=True)
        choosers = [choose if gate is None else _gated(gate, choose, regex) for gate, choose in pairs]
        choose = _crossing(self._destination, self._rule, self._rule.cors, _weighing(self._rule, choosers))
        return (*self.candidate[:5], choose)


def _gated(policies: PreparedPolicies, choose: Chooser, regex: Regex) -> Chooser:
    def judge(rand: float, head: RequestHead) -> Decision:
        denial = policies.judge(head, regex)
        if denial is not None:
            return denial
        return policies.with_audits(choose(rand, head), head, regex)

    return judge


def _candidate(rule: Rule, choose: Chooser) -> Candidate:
    """Split a rule into what is compared in line and, only where needed, the rule itself for the full test."""
    simple = not rule.headers and not rule.query and rule.path_kind is not PathKind.REGEX
    value = respell(rule.path)
    kind = _EXACT if rule.path_kind is PathKind.EXACT else _SLOW
    if rule.path_kind is PathKind.PREFIX:
        value = value.rstrip("/")
        kind = _PREFIX if value else _ANY_PATH
    return kind, value, value + "/", rule.method, None if simple else rule, choose


def _answering(destination: Destination, rule: Rule) -> Chooser | None:
    """A chooser for a rule whose requests go to no backend; None for the others."""
    if rule.fault is not None:
        return _constant(plain.broken_rule(rule, rule.fault))
    return _redirecting(destination, rule, rule.filters.redirect) if rule.filters.redirect else None


def _redirecting(destination: Destination, rule: Rule, redirect: Redirect) -> Chooser:
    treatment = treatment_of_redirect(destination, rule)
    return lambda _rand, head: plain.redirected(rule, redirect, destination.port, treatment, head)


def _crossing(destination: Destination, rule: Rule, cors: Cors | None, choose: Chooser) -> Chooser:
    """`choose`, behind a CORS filter where there is one."""
    if cors is None or rule.fault is not None:
        return choose
    treatment = treatment_of_redirect(destination, rule)

    def choose_across(rand: float, head: RequestHead) -> Decision:
        if is_preflight(head.method, head.headers):
            return plain.preflight(rule, cors, treatment, head)
        return plain.across(cors, head, choose(rand, head))

    return choose_across


def _weighing(rule: Rule, choosers: Sequence[Chooser]) -> Chooser:
    """A chooser of the backend, by one chooser per backend; the usual single backend skips the weighing."""
    if len(choosers) == 1 and rule.backends[0].weight > 0:
        return choosers[0]

    def choose(rand: float, head: RequestHead) -> Decision:
        choice = choose_backend(rule.backends, rand)
        if choice is None:
            return plain.no_backend(rule)
        return choosers[choice[0]](choice[1], head)

    return choose


def _backend_chooser(destination: Destination, rule: Rule, backend: Backend) -> Chooser:
    if backend.error:
        return _constant(plain.broken_backend(rule, backend))
    cors = backend.cors if rule.cors is None else None
    return _crossing(destination, rule, cors, _serving_chooser(destination, rule, backend))


def _serving_chooser(destination: Destination, rule: Rule, backend: Backend) -> Chooser:
    if not backend.endpoints:
        return _constant(plain.no_endpoint(backend.name, rule))

    treatment = treatment_of_rule(destination, rule, backend)
    return _endpoint_chooser(backend.endpoints, partial(plain.forwarded, rule, backend, treatment))


def _plain_chooser(destination: Destination) -> Chooser:
    if not destination.is_frontend or not destination.endpoints:
        return _constant(plain.forward_plainly(destination, 0.0))

    treatment = treatment_without_route(destination)
    return _endpoint_chooser(destination.endpoints, partial(plain.unrouted, destination, treatment))


def _constant(decision: Decision) -> Chooser:
    return lambda _rand, _head: decision


def _endpoint_chooser(endpoints: Sequence[Endpoint], make: Callable[[Endpoint], Decision]) -> Chooser:
    """Decisions are made when an endpoint is first chosen, then reused."""
    made: list[Decision | None] = [None] * len(endpoints)

    def choose(rand: float, _head: RequestHead) -> Decision:
        index = endpoint_index(len(endpoints), rand)
        decision = made[index]
        if decision is None:
            decision = made[index] = make(endpoints[index])
        return decision

    return choose
