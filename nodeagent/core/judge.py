"""`decide`, prepared: what does not depend on the request is computed once per destination and caller.

A Judge belongs to one Destination of one Snapshot and is thrown away with it.  It agrees with
`nodeagent.core.decide.decide` on every input (a property test compares them); it only
- keeps, per caller, the policies and rules left after sources and ports are judged,
- turns rules into tests that touch the request head as little as possible,
- hands out ready-made Decision objects, because making one costs more than the matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodeagent.core import decide as plain
from nodeagent.core.authorization import allowed_by_none, denied_by, operation_matches, rule_applies
from nodeagent.core.balance import choose_backend, endpoint_index
from nodeagent.core.matching import Regex, mismatch
from nodeagent.core.model import (
    Action,
    Backend,
    Decision,
    Destination,
    Endpoint,
    HttpOperation,
    PathKind,
    Policy,
    RequestHead,
    Rule,
    Workload,
)
from nodeagent.core.paths import respell

MAX_CALLERS = 4096  # views kept per destination; a pod is one caller per source address

Chooser = Callable[[float], Decision]
Candidate = tuple[int, str, str, str, Rule | None, Chooser]
_EXACT, _PREFIX, _ANY_PATH, _SLOW = range(4)


class Judge:
    """Decides requests to one destination.  Not shared between threads."""

    __slots__ = ("_candidates", "_destination", "_plainly", "_regex", "_views")

    def __init__(self, destination: Destination, regex: Regex) -> None:
        self._destination = destination
        self._regex = regex
        self._views: dict[tuple[str, str, str], _View] = {}
        self._candidates: dict[str, tuple[Candidate, ...]] = {}
        self._plainly = _plain_chooser(destination)

    def decide(self, caller: Workload, address: str, head: RequestHead, rand: float) -> Decision:
        """The same answer as `decide(destination, caller, address, head, rand, regex)`."""
        key = (caller.namespace, caller.service_account, address)
        view = self._views.get(key) or self._view(key, caller)
        if view.judged:
            decision = view.judge(head, self._regex)
            if decision is not None:
                return decision
        candidates = view.candidates
        decision = self._plainly(rand) if candidates is None else self._route(candidates, head, rand)
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
            return choose(rand)
        return plain.no_route(self._destination)

    def _view(self, key: tuple[str, str, str], caller: Workload) -> _View:
        if len(self._views) >= MAX_CALLERS:
            self._views.clear()
        rules = plain.rules_for(self._destination, caller)
        candidates = None if rules is None else self._prepared(caller.namespace, rules)
        view = self._views[key] = _View(self._destination, caller, key[2], candidates)
        return view

    def _prepared(self, namespace: str, rules: Sequence[Rule]) -> tuple[Candidate, ...]:
        group = namespace if namespace in self._destination.consumer_rules else ""
        if group not in self._candidates:
            self._candidates[group] = tuple(_candidate(rule) for rule in rules)
        return self._candidates[group]


class _View:
    """One caller's part of the policies: pairs (policy name, operation or None for "any request")."""

    __slots__ = ("_allows", "_denies", "_not_allowed", "_refusal", "audits", "candidates", "judged")

    def __init__(
        self, destination: Destination, caller: Workload, address: str, candidates: tuple[Candidate, ...] | None
    ) -> None:
        policies = destination.policies

        def left(action: Action) -> list[tuple[str, HttpOperation | None]]:
            return _operations([p for p in policies if p.action is action], destination, caller, address)

        self.candidates = candidates
        self.audits = [pair for pair in left(Action.AUDIT) if pair[0] in _audited_by_worker(policies)]
        self._denies = [(plain.denial(name, denied_by(name)), operation) for name, operation in left(Action.DENY)]
        self._allows = [operation for _, operation in left(Action.ALLOW)]
        self._refusal = plain.denial("", destination.refuse) if destination.refuse else None
        self._not_allowed = _not_allowed(policies) if None not in self._allows else None
        self.judged = bool(self._refusal or self._denies or self._not_allowed)

    def judge(self, head: RequestHead, regex: Regex) -> Decision | None:
        """The denial of this request, or None."""
        denial = self._refusal or self._denial(head, regex)
        return self.with_audits(denial, head, regex) if denial is not None else None

    def _denial(self, head: RequestHead, regex: Regex) -> Decision | None:
        for denial, operation in self._denies:
            if operation is None or operation_matches(operation, Action.DENY, head, regex):
                return denial
        if self._not_allowed is None:
            return None
        for operation in self._allows:
            if operation is None or operation_matches(operation, Action.ALLOW, head, regex):
                return None
        return self._not_allowed

    def with_audits(self, decision: Decision, head: RequestHead, regex: Regex) -> Decision:
        hits = [
            policy
            for policy, operation in self.audits
            if operation is None or operation_matches(operation, Action.AUDIT, head, regex)
        ]
        return _audited(decision, tuple(dict.fromkeys(hits))) if hits else decision


def _not_allowed(policies: Sequence[Policy]) -> Decision | None:
    allowing = [policy for policy in policies if policy.action is Action.ALLOW]
    return plain.denial(allowing[0].name, allowed_by_none(allowing)) if allowing else None


def _operations(
    policies: Sequence[Policy], destination: Destination, caller: Workload, address: str
) -> list[tuple[str, HttpOperation | None]]:
    pairs: list[tuple[str, HttpOperation | None]] = []
    for policy in policies:
        for rule in policy.rules:
            if rule_applies(rule, destination, caller, (address,), policy.action):
                pairs += [(policy.name, operation) for operation in (rule.http or (None,))]
    return pairs


def _audited_by_worker(policies: Sequence[Policy]) -> set[str]:
    return {policy.name for policy in policies if policy.needs_http}


def _audited(decision: Decision, audits: tuple[str, ...]) -> Decision:
    return Decision(
        decision.status,
        decision.reason,
        decision.detail,
        decision.flag,
        decision.route,
        decision.rule,
        decision.policy,
        decision.backend,
        decision.endpoint,
        audits,
    )


def _candidate(rule: Rule) -> Candidate:
    """Split a rule into what is compared in line and, only where needed, the rule itself for the full test."""
    simple = not rule.headers and not rule.query and rule.path_kind is not PathKind.REGEX
    value = respell(rule.path)
    kind = _EXACT if rule.path_kind is PathKind.EXACT else _SLOW
    if rule.path_kind is PathKind.PREFIX:
        value = value.rstrip("/")
        kind = _PREFIX if value else _ANY_PATH
    return kind, value, value + "/", rule.method, None if simple else rule, _rule_chooser(rule)


def _rule_chooser(rule: Rule) -> Chooser:
    """A chooser of (backend, endpoint); the usual single backend skips the weighing."""
    choosers = [_backend_chooser(rule, backend) for backend in rule.backends]
    if len(choosers) == 1 and rule.backends[0].weight > 0:
        return choosers[0]

    def choose(rand: float) -> Decision:
        choice = choose_backend(rule.backends, rand)
        if choice is None:
            return plain.no_backend(rule)
        return choosers[choice[0]](choice[1])

    return choose


def _backend_chooser(rule: Rule, backend: Backend) -> Chooser:
    if backend.error:
        return _constant(plain.broken_backend(rule, backend))
    if not backend.endpoints:
        return _constant(plain.no_endpoint(backend.name, rule))

    def make(endpoint: Endpoint) -> Decision:
        return Decision(route=rule.route, rule=rule.rule, backend=backend.name, endpoint=endpoint)

    return _endpoint_chooser(backend.endpoints, make)


def _plain_chooser(destination: Destination) -> Chooser:
    if not destination.is_frontend or not destination.endpoints:
        return _constant(plain.forward_plainly(destination, 0.0))

    def make(endpoint: Endpoint) -> Decision:
        return Decision(backend=destination.name, endpoint=endpoint)

    return _endpoint_chooser(destination.endpoints, make)


def _constant(decision: Decision) -> Chooser:
    return lambda _rand: decision


def _endpoint_chooser(endpoints: Sequence[Endpoint], make: Callable[[Endpoint], Decision]) -> Chooser:
    """Decisions are made when an endpoint is first chosen, then reused."""
    made: list[Decision | None] = [None] * len(endpoints)

    def choose(rand: float) -> Decision:
        index = endpoint_index(len(endpoints), rand)
        decision = made[index]
        if decision is None:
            decision = made[index] = make(endpoints[index])
        return decision

    return choose
