"""A pool of policies, prepared for callers that are alike: what sources and ports decide is decided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nodeagent.core.authorization import Guarded, allowed_by_none, denied_by, operation_matches, rule_applies
from nodeagent.core.decide import merged
from nodeagent.core.matching import Regex
from nodeagent.core.model import Action, Decision, HttpOperation, Policy, RequestHead, Workload

Deny = Callable[[str, str], Decision]  # (policy, detail) -> the ready-made answer
Applying = tuple[bool, ...]  # by policy, and by rule in it: whether it is about the caller


def applying(guarded: Guarded, caller: Workload, addresses: tuple[str, ...]) -> Applying:
    """All that PreparedPolicies depend on about a caller: callers for whom this is equal can share them."""
    return tuple(
        [
            rule_applies(rule, guarded, caller, addresses, policy.action)
            for policy in guarded.policies
            for rule in policy.rules
        ]
    )


class PreparedPolicies:
    """What is left to judge: pairs (policy name, operation or None for "any request")."""

    __slots__ = ("_allows", "_denies", "_not_allowed", "_refusal", "audits", "judged")

    def __init__(self, guarded: Guarded, applies: Applying, audited: Iterable[Policy], deny: Deny) -> None:
        policies = guarded.policies
        noted = {policy.name for policy in audited}
        left = _operations(policies, applies)
        self.audits = [pair for pair in left[Action.AUDIT] if pair[0] in noted]
        self._denies = [(deny(name, denied_by(name)), operation) for name, operation in left[Action.DENY]]
        self._allows = [operation for _, operation in left[Action.ALLOW]]
        self._refusal = deny("", guarded.refuse) if guarded.refuse else None
        self._not_allowed = _not_allowed(policies, deny) if None not in self._allows else None
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
        """The decision, naming the AUDITs that match before those that it names already."""
        hits = dict.fromkeys(
            policy
            for policy, operation in self.audits
            if operation is None or operation_matches(operation, Action.AUDIT, head, regex)
        )
        return _audited(decision, merged(tuple(hits), decision.audits)) if hits else decision


def _not_allowed(policies: Sequence[Policy], deny: Deny) -> Decision | None:
    allowing = [policy for policy in policies if policy.action is Action.ALLOW]
    return deny(allowing[0].name, allowed_by_none(allowing)) if allowing else None


def _operations(policies: Iterable[Policy], applies: Applying) -> dict[Action, list[tuple[str, HttpOperation | None]]]:
    left: dict[Action, list[tuple[str, HttpOperation | None]]] = {action: [] for action in Action}
    pairs = ((policy, rule) for policy in policies for rule in policy.rules)
    for (policy, rule), applied in zip(pairs, applies, strict=True):
        if applied:
            left[policy.action] += [(policy.name, operation) for operation in (rule.http or (None,))]
    return left


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
        decision.location,
        decision.changes,
        decision.timeouts,
        decision.treatment,
        decision.fields,
    )
