"""A pool of policies, prepared for callers that are alike: what sources and ports decide is decided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nodeagent.core.authorization import Guarded, allowed_by_none, denied_by, operation_matches, rule_applies
from nodeagent.core.decide import DENIED, merged
from nodeagent.core.dry_run import WOULD_DENY, WOULD_DENY_CONNECT, enforced, has_dry_run, normal_head, path_reader
from nodeagent.core.matching import Regex
from nodeagent.core.model import Action, Decision, HttpOperation, Policy, RequestHead, Workload, Would
from nodeagent.core.paths import PathError

Deny = Callable[[str, str], Decision]  # (policy, detail) -> the ready-made answer
Applying = tuple[bool, ...]  # by policy, and by rule in it: whether it is about the caller
Left = list[tuple[str, HttpOperation | None]]
ByAction = dict[Action, Left]


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
    """What is left to judge: pairs (policy name, operation or None for "any request").

    `judged` False: `judge` denies nothing.  `notes` False: `noted` changes nothing.
    """

    __slots__ = ("_allows", "_audits", "_denies", "_dry_run", "_not_allowed", "_refusal", "judged", "notes")

    def __init__(
        self, guarded: Guarded, applies: Applying, audited: Iterable[Policy], deny: Deny, unmet: str = ""
    ) -> None:
        """`unmet` is the policy in DryRun that would have refused the caller's connect() already, or ""."""
        policies = guarded.policies
        in_force = enforced(policies)
        noted = {policy.name for policy in audited}
        left, tried = _operations(policies, applies)
        self._audits = [pair for pair in left[Action.AUDIT] if pair[0] in noted]
        self._denies = [(deny(name, denied_by(name)), operation) for name, operation in left[Action.DENY]]
        self._allows = [operation for _, operation in left[Action.ALLOW]]
        self._refusal = deny("", guarded.refuse) if guarded.refuse else None
        self._not_allowed = _not_allowed(in_force, deny) if None not in self._allows else None
        self._dry_run = None
        if has_dry_run(policies):
            self._dry_run = PreparedDryRun(policies, tried[Action.DENY], tried[Action.ALLOW], unmet)
        self.judged = bool(self._refusal or self._denies or self._not_allowed)
        self.notes = bool(self._audits or self._dry_run)

    def judge(self, head: RequestHead, regex: Regex) -> Decision | None:
        """The denial of this request, or None."""
        denial = self._refusal or self._denial(head, regex)
        return self.noted(denial, head, regex) if denial is not None else None

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

    def noted(self, decision: Decision, head: RequestHead, regex: Regex) -> Decision:
        """The decision, naming what the policies leave beside it.

        The AUDITs that match come before those that it names already; what would have been denied here would not have
        come to where the decision was made.
        """
        hits = dict.fromkeys(
            policy
            for policy, operation in self._audits
            if operation is None or operation_matches(operation, Action.AUDIT, head, regex)
        )
        dry_run = self._dry_run if decision.reason != DENIED else None
        would = (dry_run.of(head, regex) if dry_run is not None else ()) or decision.would
        if not hits and would == decision.would:
            return decision
        return _noted(decision, merged(tuple(hits), decision.audits), would)


class PreparedDryRun:
    """What a request would have met, had the policies in DryRun been in force with the others; these let it pass.

    `denies` and `allows` are what is left of those in DryRun alone.
    """

    __slots__ = ("_allows", "_denies", "_not_allowed", "_reader", "_unmet")

    def __init__(self, policies: Sequence[Policy], denies: Left, allows: Left, unmet: str) -> None:
        allowing = [policy for policy in policies if policy.action is Action.ALLOW]
        self._unmet: Would = ((WOULD_DENY_CONNECT, unmet),) if unmet else ()
        self._reader = path_reader(policies)
        self._denies = [(_denied(name), operation) for name, operation in denies]
        self._allows = [operation for _, operation in allows]
        alone = bool(allowing) and all(policy.dry_run for policy in allowing)  # else one in force has matched
        self._not_allowed: Would = _denied(allowing[0].name) if alone and None not in self._allows else ()

    def of(self, head: RequestHead, regex: Regex) -> Would:
        if self._unmet:
            return self._unmet
        try:
            judged = normal_head(head) if self._reader else head
        except PathError:
            return _denied(self._reader)
        for would, operation in self._denies:
            if operation is None or operation_matches(operation, Action.DENY, judged, regex):
                return would
        matching = (operation_matches(one, Action.ALLOW, judged, regex) for one in self._allows if one is not None)
        return () if not self._not_allowed or any(matching) else self._not_allowed


def _denied(policy: str) -> Would:
    return ((WOULD_DENY, policy),)


def _not_allowed(policies: Sequence[Policy], deny: Deny) -> Decision | None:
    allowing = [policy for policy in policies if policy.action is Action.ALLOW]
    return deny(allowing[0].name, allowed_by_none(allowing)) if allowing else None


def _operations(policies: Iterable[Policy], applies: Applying) -> tuple[ByAction, ByAction]:
    """Of the policies in force, and of those in DryRun."""
    left: tuple[ByAction, ByAction] = ({action: [] for action in Action}, {action: [] for action in Action})
    pairs = ((policy, rule) for policy in policies for rule in policy.rules)
    for (policy, rule), applied in zip(pairs, applies, strict=True):
        if applied:
            left[policy.dry_run][policy.action] += [(policy.name, operation) for operation in (rule.http or (None,))]
    return left


def _noted(decision: Decision, audits: tuple[str, ...], would: Would) -> Decision:
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
        decision.mirrors,
        would,
    )
