"""`decide`, prepared: what does not depend on the request is computed once per destination and caller.

A Judge belongs to one Destination of one Snapshot and is thrown away with it.  It agrees with
`nodeagent.core.decide.decide` on every input (a property test compares them); it only
- keeps, per caller, the policies and rules left after sources and ports are judged, of the frontend and of the
  backends that its routes lead to; callers for whom the same is left share it,
- finds the first matching rule without trying all (`core.route_index`),
- hands out ready-made Decision objects, because making one costs more than the matching.

What belongs to one rule is prepared when the rule is first chosen, so that a big configuration stalls nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nodeagent.core import decide as plain
from nodeagent.core.authorization import denied_at_connect
from nodeagent.core.backends import addresses_seen, audited_behind, brings_more, crosses_families
from nodeagent.core.balance import choose_backend, endpoint_index
from nodeagent.core.cors import Cors, is_preflight
from nodeagent.core.filters import Redirect
from nodeagent.core.matching import Regex
from nodeagent.core.model import Backend, Decision, Destination, Endpoint, RequestHead, Rule, Workload
from nodeagent.core.prepared_policies import Applying, PreparedPolicies, applying
from nodeagent.core.recent import Recent, Room
from nodeagent.core.route_index import finder
from nodeagent.core.treatment import treatment_of_redirect, treatment_of_rule, treatment_without_route

MAX_CALLERS = 10_240
"""Callers remembered per destination, twice that at most; a pod is one caller per source address."""
MAX_ALIKE = 1024  # different sets of policies that callers leave to be judged; twice that at most
MAX_GATED = 10_240  # (caller, rule) pairs where the backend's policies are judged too; twice that at most
MAX_ALIKE_PER_RULE = 64  # then the rule's are forgotten
MAX_DECISIONS = 262_144  # kept ready, one per endpoint and rule, about 200 bytes each; others are made when needed

Chooser = Callable[[float, RequestHead], Decision]


class Judge:
    """Decides requests to one destination.  Not shared between threads."""

    __slots__ = ("_alike", "_destination", "_everyone", "_gated", "_plainly", "_regex", "_room", "_routes", "_views")

    def __init__(self, destination: Destination, regex: Regex) -> None:
        self._destination = destination
        self._regex = regex
        self._everyone: _View | None = None  # where callers cannot be told apart
        self._views: Recent[tuple[str, str, str], _View] = Recent(MAX_CALLERS)
        self._alike: Recent[tuple[str, Applying], _View] = Recent(MAX_ALIKE)
        self._gated: Recent[tuple[object, ...], Chooser] = Recent(MAX_GATED)
        self._routes: dict[str, _Routes] = {}  # by group of callers
        self._room = Room(MAX_DECISIONS)
        self._plainly = _plain_chooser(destination, self._room)

    def decide(self, caller: Workload, address: str, head: RequestHead, rand: float) -> Decision:
        """The same answer as `decide(destination, caller, address, head, rand, regex)`."""
        view = self._everyone
        if view is None:
            key = (caller.namespace, caller.service_account, address)
            view = self._views.get(key) or self._view(key, caller, address)
        if view.judged:
            decision = view.judge(head, self._regex)
            if decision is not None:
                return decision
        routes = view.routes
        if routes is None:
            decision = self._plainly(rand, head)
        else:
            position = routes.find(head)
            choose = routes.choosers[position] or self._chooser(routes, position, caller, address)
            decision = choose(rand, head)
        return view.noted(decision, head, self._regex) if view.notes else decision

    def _view(self, key: tuple[str, str, str], caller: Workload, address: str) -> _View:
        known = self._views.recall(key)
        if known is not None:
            return known
        group = self._destination.rule_group(caller.namespace)
        alike = group, applying(self._destination, caller, (address,))
        view = self._alike.get(alike) or self._alike.recall(alike)
        if view is None:
            unmet = denied_at_connect(self._destination, caller, (address,))
            view = _View(self._destination, alike[1], self._routes_for(group, caller), unmet)
            self._alike.keep(alike, view)
        if _treats_all_alike(self._destination):
            self._everyone = view
        return self._views.keep(key, view)

    def _routes_for(self, group: str, caller: Workload) -> _Routes | None:
        rules = plain.rules_for(self._destination, caller)
        if rules is None:
            return None
        if group not in self._routes:
            self._routes[group] = _Routes(self._destination, rules, self._regex, self._room)
        return self._routes[group]

    def _chooser(self, routes: _Routes, position: int, caller: Workload, address: str) -> Chooser:
        """Of a rule that was not chosen before, or that depends on the caller."""
        rule = routes.prepare(position)
        if not rule.is_guarded:
            routes.choosers[position] = rule.choose
            return rule.choose
        seen = caller.addresses if rule.crosses else ()
        key = (rule, caller.namespace, caller.service_account, address, *seen)
        known = self._gated.get(key) or self._gated.recall(key)
        return known or self._gated.keep(key, rule.guarded(caller, address, self._regex))


class _View(PreparedPolicies):
    """The destination's part that is for callers who are alike."""

    __slots__ = ("routes",)

    def __init__(self, destination: Destination, applies: Applying, routes: _Routes | None, unmet: str) -> None:
        audited = (policy for policy in destination.policies if policy.needs_http)
        super().__init__(destination, applies, audited, plain.denial, unmet)
        self.routes = routes


class _Routes:
    """The rules for one group of callers.  `find` tells a position in `choosers`, the last one when no rule matches.

    A chooser is None until its rule is first chosen, and stays so where it depends on the caller.
    """

    __slots__ = ("_destination", "_prepared", "_room", "_rules", "choosers", "find")

    def __init__(self, destination: Destination, rules: Sequence[Rule], regex: Regex, room: Room) -> None:
        self._destination = destination
        self._room = room
        self._rules = rules
        self._prepared: dict[int, _PreparedRule] = {}
        self.find = finder(rules, regex)
        self.choosers: list[Chooser | None] = [*[None] * len(rules), _constant(plain.no_route(destination))]

    def prepare(self, position: int) -> _PreparedRule:
        rule = self._prepared.get(position)
        if rule is None:
            rule = self._prepared[position] = _PreparedRule(self._destination, self._rules[position], self._room)
        return rule


class _PreparedRule:
    """What a rule's callers share: a chooser of the endpoint for each backend, and one for them all.

    `is_guarded`: a backend's policies may deny or audit what the frontend's let pass.  `crosses`: and the caller's
    address there may be another one.
    """

    __slots__ = ("_alike", "_choosers", "_destination", "_guarded", "_rule", "choose", "crosses", "is_guarded")

    def __init__(self, destination: Destination, rule: Rule, room: Room) -> None:
        self._destination = destination
        self._rule = rule
        self._choosers = [_backend_chooser(destination, rule, backend, room) for backend in rule.backends]
        choose = _answering(destination, rule) or _weighing(rule, self._choosers)
        self.choose = _crossing(destination, rule, rule.cors, choose)
        serving = {index: one for index, one in enumerate(rule.backends) if one.weight and not one.error}
        guarded = {index: one for index, one in serving.items() if brings_more(destination, one)}
        self._guarded = guarded if not rule.answers else {}
        self.is_guarded = bool(self._guarded)
        self.crosses = any(crosses_families(destination, one) for one in self._guarded.values())
        self._alike: dict[tuple[Applying, ...], Chooser] = {}

    def guarded(self, caller: Workload, address: str, regex: Regex) -> Chooser:
        """The same for callers who are alike to the backends' policies."""
        here = self._destination
        backends = self._guarded.values()
        alike = tuple([applying(one, caller, addresses_seen(here, one, caller, address)) for one in backends])
        if alike not in self._alike:
            if len(self._alike) >= MAX_ALIKE_PER_RULE:
                self._alike.clear()
            self._alike[alike] = self._gate(alike, regex)
        return self._alike[alike]

    def _gate(self, alike: tuple[Applying, ...], regex: Regex) -> Chooser:
        choosers = list(self._choosers)
        for (index, backend), applies in zip(self._guarded.items(), alike, strict=True):
            deny = partial(plain.backend_denial, self._rule, backend)
            gate = PreparedPolicies(backend, applies, audited_behind(self._destination, backend), deny)
            if gate.judged or gate.notes:
                choosers[index] = _gated(gate, choosers[index], regex)
        if choosers == self._choosers:
            return self.choose
        return _crossing(self._destination, self._rule, self._rule.cors, _weighing(self._rule, choosers))


def _treats_all_alike(destination: Destination) -> bool:
    return not destination.consumer_rules and not any(
        rule.sources for policy in destination.policies for rule in policy.rules
    )


def _gated(policies: PreparedPolicies, choose: Chooser, regex: Regex) -> Chooser:
    def judge(rand: float, head: RequestHead) -> Decision:
        denial = policies.judge(head, regex)
        if denial is not None:
            return denial
        return policies.noted(choose(rand, head), head, regex)

    return judge


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


def _backend_chooser(destination: Destination, rule: Rule, backend: Backend, room: Room) -> Chooser:
    if backend.error:
        return _constant(plain.broken_backend(rule, backend))
    cors = backend.cors if rule.cors is None else None
    return _crossing(destination, rule, cors, _serving_chooser(destination, rule, backend, room))


def _serving_chooser(destination: Destination, rule: Rule, backend: Backend, room: Room) -> Chooser:
    if not backend.endpoints:
        return _constant(plain.no_endpoint(backend.name, rule))

    treatment = treatment_of_rule(destination, rule, backend)
    return _endpoint_chooser(backend.endpoints, partial(plain.forwarded, rule, backend, treatment), room)


def _plain_chooser(destination: Destination, room: Room) -> Chooser:
    if not destination.is_frontend or not destination.endpoints:
        return _constant(plain.forward_plainly(destination, 0.0))

    treatment = treatment_without_route(destination)
    return _endpoint_chooser(destination.endpoints, partial(plain.unrouted, destination, treatment), room)


def _constant(decision: Decision) -> Chooser:
    return lambda _rand, _head: decision


def _endpoint_chooser(endpoints: Sequence[Endpoint], make: Callable[[Endpoint], Decision], room: Room) -> Chooser:
    """Decisions are made when an endpoint is first chosen, then reused as far as there is room for them."""
    if not room.take(len(endpoints)):
        return lambda rand, _head: make(endpoints[endpoint_index(len(endpoints), rand)])
    return _Kept(endpoints, make).choose


class _Kept:
    """Of one backend: an object, and not a closure, because a request then looks at half as much memory."""

    __slots__ = ("_count", "_endpoints", "_made", "_make")

    def __init__(self, endpoints: Sequence[Endpoint], make: Callable[[Endpoint], Decision]) -> None:
        self._endpoints = endpoints
        self._make = make
        self._count = len(endpoints)
        # one more than there are: see `endpoint_index` for when the product rounds up
        self._made: list[Decision | None] = [None] * (len(endpoints) + 1)

    def choose(self, rand: float, _head: RequestHead) -> Decision:
        return self._made[int(rand * self._count)] or self._first(rand)

    def _first(self, rand: float) -> Decision:
        decision = self._make(self._endpoints[endpoint_index(self._count, rand)])
        self._made[int(rand * self._count)] = decision
        return decision
