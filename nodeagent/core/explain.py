"""Every step of one decision, each judged by the function that the data path uses.

Where `decide` stops at the first answer, this goes on: it says of each policy and each routing rule
whether it matched, and of the chosen rule what every backend's share would get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodeagent.core.authorization import (
    Authorization,
    Guarded,
    network_verdict,
    operation_matches,
    port_matches,
    source_matches,
)
from nodeagent.core.backends import addresses_seen
from nodeagent.core.balance import shares
from nodeagent.core.decide import decide, rules_for
from nodeagent.core.matching import Regex, first_match, mismatch
from nodeagent.core.model import (
    Action,
    Backend,
    Decision,
    Destination,
    Policy,
    PolicyRule,
    RequestHead,
    Rule,
    Workload,
)


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One AuthorizationPolicy.  `rule` is the index of its first rule that matched, -1 = none.

    `protects` is the destination, or the backend of the chosen rule, whose pool it was judged in.
    """

    protects: str
    policy: str
    action: str
    level: str
    matched: bool
    rule: int = -1
    why: tuple[str, ...] = ()  # of each rule: "port", "sources", "http"; "" for one that matched


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One routing rule in order of precedence.  `mismatch`: "path", "method", "header x", "query x"; "" = matches."""

    route: str
    rule: str
    match: str  # the match in words
    mismatch: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a share of the requests gets.  `status` 0 = forwarded to one of `endpoints`, each as often."""

    share: float
    backend: str
    status: int
    reason: str
    detail: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`decision` is the data path's own for the random number 0; `routed` False = no route applies to this caller."""

    destination: str
    rung: str
    protocol: str
    network: Authorization
    policies: tuple[PolicyStep, ...]
    routed: bool
    rules: tuple[RuleStep, ...]
    decision: Decision
    outcomes: tuple[Outcome, ...]


def explain(destination: Destination, caller: Workload, address: str, head: RequestHead, regex: Regex) -> Explanation:
    """Explain one request.  `address` is the caller's source address, canonical."""
    decision = decide(destination, caller, address, head, 0.0, regex)
    rules = rules_for(destination, caller)
    steps = rule_steps(rules or (), head, regex)
    chosen = _chosen(rules or (), steps)
    return Explanation(
        destination=destination.name,
        rung=destination.rung.value,
        protocol=destination.protocol.value,
        network=network_verdict(destination, caller),
        policies=tuple(_policy_steps(destination, chosen, caller, address, head, regex)),
        routed=rules is not None,
        rules=steps,
        decision=decision,
        outcomes=outcomes(destination, caller, address, head, regex),
    )


def _policy_steps(
    destination: Destination, chosen: Rule | None, caller: Workload, address: str, head: RequestHead, regex: Regex
) -> Iterator[PolicyStep]:
    for policy in destination.policies:
        yield policy_step(policy, destination, caller, (address,), head, regex)
    for backend in chosen.backends if chosen else ():
        addresses = addresses_seen(destination, backend, caller, address)
        for policy in backend.policies:
            yield policy_step(policy, backend, caller, addresses, head, regex)


def policy_step(  # an unmatched rule names the first part that failed
    policy: Policy,
    guarded: Destination | Backend,
    caller: Workload,
    addresses: tuple[str, ...],
    head: RequestHead,
    regex: Regex,
) -> PolicyStep:
    why = tuple(_rule_fault(rule, policy.action, guarded, caller, addresses, head, regex) for rule in policy.rules)
    rule = why.index("") if "" in why else -1
    return PolicyStep(guarded.name, policy.name, policy.action.value, policy.level.value, rule >= 0, rule, why)


def _rule_fault(
    rule: PolicyRule,
    action: Action,
    guarded: Guarded,
    caller: Workload,
    addresses: tuple[str, ...],
    head: RequestHead,
    regex: Regex,
) -> str:
    if rule.ports and not port_matches(rule.ports, guarded):
        return "port"
    if rule.sources and not any(source_matches(source, caller, addresses, action) for source in rule.sources):
        return "sources"
    if rule.http and not any(operation_matches(operation, action, head, regex) for operation in rule.http):
        return "http"
    return ""


def rule_steps(rules: Iterable[Rule], head: RequestHead, regex: Regex) -> tuple[RuleStep, ...]:
    """Each rule judged, the first that matches chosen."""
    steps: list[RuleStep] = []
    open_choice = True
    for rule in rules:
        fault = mismatch(rule, head, regex)
        steps.append(RuleStep(rule.route, rule.rule, match_text(rule), fault, open_choice and not fault))
        open_choice = open_choice and bool(fault)
    return tuple(steps)


def match_text(rule: Rule) -> str:
    """`GET PathPrefix /api, header x-env = test`."""
    words = f"{rule.method or 'any method'} {rule.path_kind.value} {rule.path}"
    for label, matches in (("header", rule.headers), ("query", rule.query)):
        for match in matches:
            words += f", {label} {match.name} {'~' if match.regex else '='} {match.value}"
    return words


def outcomes(
    destination: Destination, caller: Workload, address: str, head: RequestHead, regex: Regex
) -> tuple[Outcome, ...]:
    """What this request gets, share by share; the shares add up to 1."""
    first = decide(destination, caller, address, head, 0.0, regex)
    rules = rules_for(destination, caller)
    if rules is None:
        return (_outcome(1.0, first, () if first.status else _plain_endpoints(destination)),)
    rule = first_match(rules, head, regex)
    if rule is None or not first.backend:  # one answer for all: denied by the frontend, no route, no weight
        return (_outcome(1.0, first, ()),)

    def ask(rand: float) -> Decision:
        return decide(destination, caller, address, head, rand, regex)

    return tuple(_by_backend(rule, ask))


def _by_backend(rule: Rule, ask: Callable[[float], Decision]) -> Iterator[Outcome]:
    """Ask once per backend, with a random number from the middle of its share."""
    start = 0.0
    for backend, share in zip(rule.backends, shares(rule.backends), strict=True):
        if share:
            decision = ask(start + share / 2)
            endpoints = () if decision.status else backend.endpoints
            yield _outcome(share, decision, tuple(f"{one.address}:{one.port}" for one in endpoints))
        start += share


def _outcome(share: float, decision: Decision, endpoints: tuple[str, ...]) -> Outcome:
    return Outcome(share, decision.backend, decision.status, decision.reason, decision.detail, endpoints)


def _plain_endpoints(destination: Destination) -> tuple[str, ...]:
    if not destination.is_frontend:
        return (f"{destination.address}:{destination.port}",)
    return tuple(f"{endpoint.address}:{endpoint.port}" for endpoint in destination.endpoints)


def _chosen(rules: Sequence[Rule], steps: Sequence[RuleStep]) -> Rule | None:
    return next((rule for rule, step in zip(rules, steps, strict=True) if step.chosen), None)
