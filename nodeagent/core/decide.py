"""What to do with one request: the reference, plain and slow.

`decide` is a pure function of the configuration, the caller, the request head and one random number.
The data path uses `nodeagent.core.judge.Judge`, which prepares the same decision per destination
and is tested to agree with this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nodeagent.core.authorization import Authorization, authorize
from nodeagent.core.backends import authorize_backend
from nodeagent.core.balance import choose_backend, choose_endpoint
from nodeagent.core.cors import Cors, is_preflight, origin_of, preflight_fields, response_change
from nodeagent.core.filters import Changes, Redirect, changes_of, redirect_location
from nodeagent.core.matching import Regex, first_match
from nodeagent.core.model import (
    Backend,
    Decision,
    Destination,
    Endpoint,
    Fault,
    RequestHead,
    Rule,
    Treatment,
    Workload,
    Would,
)
from nodeagent.core.route_timeouts import joined
from nodeagent.core.treatment import treatment_of_redirect, treatment_of_rule, treatment_without_route

DENIED = "denied"
NO_ROUTE = "no-route"
BACKEND_NOT_FOUND = "backend-not-found"
NO_ENDPOINT = "no-endpoint"
REDIRECT = "redirect"
PREFLIGHT = "cors-preflight"
FILTER_NOT_FOUND = "filter-not-found"
UNSUPPORTED = "unsupported-value"

Gate = Callable[[Backend], Authorization]


def decide(
    destination: Destination, caller: Workload, caller_address: str, head: RequestHead, rand: float, regex: Regex
) -> Decision:
    """Authorize, route, and authorize again by what the backend brings.

    `rand` in [0, 1) picks backend and endpoint; `caller_address` is canonical text.
    """
    access = authorize(destination, caller, caller_address, head, regex)
    if access.denied:
        return denial(access.policy, access.detail, access.audits)

    def gate(backend: Backend) -> Authorization:
        return authorize_backend(destination, backend, caller, caller_address, head, regex)

    rules = rules_for(destination, caller)
    if rules is None:
        decision = forward_plainly(destination, rand, access.audits)
    else:
        decision = routed(destination, rules, head, rand, regex, gate, access.audits)
    return with_would(decision, access.would)


def routed(
    destination: Destination,
    rules: Sequence[Rule],
    head: RequestHead,
    rand: float,
    regex: Regex,
    gate: Gate,
    audits: tuple[str, ...] = (),
) -> Decision:
    """By the first of the rules that matches."""
    rule = first_match(rules, head, regex)
    if rule is None:
        return no_route(destination, audits)
    if rule.fault is not None:
        return broken_rule(rule, rule.fault, audits)
    treatment = treatment_of_redirect(destination, rule)
    if rule.cors is not None and is_preflight(head.method, head.headers):
        return preflight(rule, rule.cors, treatment, head, audits)
    if rule.filters.redirect is not None:
        answer = redirected(rule, rule.filters.redirect, destination.port, treatment, head, audits)
        return across(rule.cors, head, answer)
    return across(rule.cors, head, forward_by_rule(destination, rule, head, rand, gate, audits))


def rules_for(destination: Destination, caller: Workload) -> Sequence[Rule] | None:
    """The rules that apply to this caller, in order; None when no route is attached for it (pass through)."""
    consumer = destination.consumer_rules.get(caller.namespace)
    if consumer is not None:
        return consumer
    return destination.producer_rules if destination.has_producer_route else None


def forward_plainly(destination: Destination, rand: float, audits: tuple[str, ...] = ()) -> Decision:
    """Without routes: to an endpoint of the Service dialled, or to the very address dialled."""
    if not destination.is_frontend:
        endpoint: Endpoint | None = Endpoint(destination.address, destination.port)
    else:
        endpoint = choose_endpoint(destination.endpoints, rand)
    if endpoint is None:
        return no_endpoint(destination.name, audits=audits)
    return unrouted(destination, treatment_without_route(destination), endpoint, audits)


def unrouted(
    destination: Destination, treatment: Treatment | None, endpoint: Endpoint, audits: tuple[str, ...] = ()
) -> Decision:
    timeouts = joined(None, treatment.traffic) if treatment is not None else None
    return Decision(backend=destination.name, endpoint=endpoint, audits=audits, timeouts=timeouts, treatment=treatment)


def forward_by_rule(
    destination: Destination, rule: Rule, head: RequestHead, rand: float, gate: Gate, audits: tuple[str, ...] = ()
) -> Decision:
    """`gate` judges the chosen backend; which of its endpoints are ready does not matter to who may call it."""
    choice = choose_backend(rule.backends, rand)
    if choice is None:
        return no_backend(rule, audits)
    backend, rest = rule.backends[choice[0]], choice[1]
    if backend.error:
        return broken_backend(rule, backend, audits)
    access = gate(backend)
    audits = merged(audits, access.audits)
    if access.denied:
        return backend_denial(rule, backend, access.policy, access.detail, audits)
    return with_would(_let_in(destination, rule, backend, head, rest, audits), access.would)


def _let_in(
    destination: Destination, rule: Rule, backend: Backend, head: RequestHead, rand: float, audits: tuple[str, ...]
) -> Decision:
    cors = backend.cors if rule.cors is None else None
    if cors is not None and is_preflight(head.method, head.headers):
        return preflight(rule, cors, treatment_of_redirect(destination, rule), head, audits)
    endpoint = choose_endpoint(backend.endpoints, rand)
    if endpoint is None:
        return no_endpoint(backend.name, rule, audits)
    treatment = treatment_of_rule(destination, rule, backend)
    return across(cors, head, forwarded(rule, backend, treatment, endpoint, audits))


def forwarded(
    rule: Rule, backend: Backend, treatment: Treatment | None, endpoint: Endpoint, audits: tuple[str, ...] = ()
) -> Decision:
    return Decision(
        route=rule.route,
        rule=rule.rule,
        backend=backend.name,
        endpoint=endpoint,
        audits=audits,
        changes=changes_of(rule.filters, backend.filters),
        timeouts=joined(rule.timeouts, backend.traffic),
        treatment=treatment,
        mirrors=rule.mirrors + backend.mirrors,
    )


def redirected(
    rule: Rule,
    redirect: Redirect,
    dialled_port: int,
    treatment: Treatment | None,
    head: RequestHead,
    audits: tuple[str, ...] = (),
) -> Decision:
    """The answer of a rule with a redirect, which has no backend."""
    target = head.path + ("?" + head.query if head.query else "")
    location = redirect_location(redirect, head.host, dialled_port, target)
    return Decision(
        status=redirect.status,
        reason=REDIRECT,
        detail=f"rule {rule.rule} of HTTPRoute {rule.route} redirects this request",  # a body that quotes no client
        route=rule.route,
        rule=rule.rule,
        audits=audits,
        location=location,
        changes=changes_of(rule.filters),
        treatment=treatment,
    )


def preflight(
    rule: Rule, cors: Cors, treatment: Treatment | None, head: RequestHead, audits: tuple[str, ...] = ()
) -> Decision:
    """The answer to a browser that asks beforehand; an origin that may not learns it from what is not said."""
    return Decision(
        status=200,
        reason=PREFLIGHT,
        detail=f"rule {rule.rule} of HTTPRoute {rule.route} answers CORS preflights",
        route=rule.route,
        rule=rule.rule,
        audits=audits,
        treatment=treatment,
        fields=preflight_fields(cors, head.headers),
    )


def across(cors: Cors | None, head: RequestHead, decision: Decision) -> Decision:
    """With what the response says of other origins, where one asks and the response is not a failure of ours."""
    origin = origin_of(head.headers) if cors is not None and decision.status < 400 else None
    if cors is None or origin is None:
        return decision
    changes, change = decision.changes or Changes(), response_change(cors, origin)
    response = changes.response.then(change) if changes.response is not None else change
    return replace(decision, changes=replace(changes, response=response, is_for_one=True))


def denial(policy: str, detail: str, audits: tuple[str, ...] = ()) -> Decision:
    return Decision(status=403, reason=DENIED, detail=detail, policy=policy, audits=audits)


def backend_denial(rule: Rule, backend: Backend, policy: str, detail: str, audits: tuple[str, ...] = ()) -> Decision:
    """What the backend's own Service would answer; `detail` is for the client, who need not know of the route."""
    return Decision(
        status=403,
        reason=DENIED,
        detail=detail,
        route=rule.route,
        rule=rule.rule,
        policy=policy,
        backend=backend.name,
        audits=audits,
    )


def with_would(decision: Decision, would: Would) -> Decision:
    """Who would have been denied earlier would not have come further; who is denied as it is counts nowhere else."""
    return replace(decision, would=would) if would and decision.reason != DENIED else decision


def merged(audits: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Each policy once."""
    return tuple(dict.fromkeys((*audits, *more))) if more else audits


def no_route(destination: Destination, audits: tuple[str, ...] = ()) -> Decision:
    detail = f"no HTTPRoute rule of {destination.name} matches this request"
    return Decision(status=404, reason=NO_ROUTE, detail=detail, flag="NR", audits=audits)


def broken_rule(rule: Rule, fault: Fault, audits: tuple[str, ...] = ()) -> Decision:
    detail = f"rule {rule.rule} of HTTPRoute {rule.route} cannot be applied: {fault.detail}"
    return _failure(rule, "", fault.reason, detail, audits)


def no_backend(rule: Rule, audits: tuple[str, ...] = ()) -> Decision:
    detail = f"rule {rule.rule} of HTTPRoute {rule.route} has no backend with a weight above 0"
    return _failure(rule, "", BACKEND_NOT_FOUND, detail, audits)


def broken_backend(rule: Rule, backend: Backend, audits: tuple[str, ...] = ()) -> Decision:
    detail = f"backend {backend.name} of HTTPRoute {rule.route} cannot serve: {backend.error}"
    return _failure(rule, backend.name, backend.reason or BACKEND_NOT_FOUND, detail, audits)


def no_endpoint(backend: str, rule: Rule | None = None, audits: tuple[str, ...] = ()) -> Decision:
    detail = f"{backend} has no ready endpoint"
    return Decision(
        status=503,
        reason=NO_ENDPOINT,
        detail=detail,
        flag="UH",
        route=rule.route if rule else "",
        rule=rule.rule if rule else "",
        backend=backend,
        audits=audits,
    )


def _failure(rule: Rule, backend: str, reason: str, detail: str, audits: tuple[str, ...]) -> Decision:
    return Decision(
        status=500,
        reason=reason,
        detail=detail,
        route=rule.route,
        rule=rule.rule,
        backend=backend,
        audits=audits,
    )
