"""Policies in DryRun: the words for what they would have done; of AuthorizationPolicies, who they are.

A verdict is made twice: by the policies in force, which is what happens, and by those together with the ones in
DryRun, which is what would happen if these were in force too.  Where only the second denies, the policy that denied
is counted.  Policies of other kinds are simulated as the request goes (`nodeagent.proxy.policies.shadow`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodeagent.core.model import Backend, Destination, Policy, RequestHead, Rule
from nodeagent.core.paths import normalize

WOULD_DENY = "would-deny"
WOULD_DENY_CONNECT = "would-deny-connect"
"""Said of a request: its connect() would have been refused, and it would not have come this way."""
WOULD_LIMIT = "would-limit"
WOULD_OVERFLOW = "would-overflow"
WOULD_TIME_OUT = "would-time-out"
WOULD_RETRY = "would-retry"
WOULD_EJECT = "would-eject"


def enforced(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """Those in force, in their order."""
    return tuple([policy for policy in policies if not policy.dry_run])


def path_reader(policies: Iterable[Policy]) -> str:
    """The first policy in DryRun that reads paths, or "".

    Put in force, it has requests refused whose path has no normal form: that is counted as its denial.
    """
    return next((policy.name for policy in policies if policy.dry_run and policy.reads_paths), "")


def normal_head(head: RequestHead) -> RequestHead:
    """The head as it would be judged if the path were read.  Raises PathError."""
    path = normalize(head.path)
    return head if path == head.path else RequestHead(head.method, path, head.query, head.host, head.headers)


def put_in_force(destination: Destination) -> Destination:
    """The same destination with nothing in DryRun, of its own policies and of those behind its routes."""
    groups = {group: _rules_in_force(rules) for group, rules in destination.consumer_rules.items()}
    return replace(
        destination,
        policies=_in_force(destination.policies),
        producer_rules=_rules_in_force(destination.producer_rules),
        consumer_rules=groups,
    )


def _rules_in_force(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(replace(rule, backends=tuple(map(_backend_in_force, rule.backends))) for rule in rules)


def _backend_in_force(backend: Backend) -> Backend:
    return replace(backend, policies=_in_force(backend.policies))


def _in_force(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    return tuple(replace(policy, dry_run=False) for policy in policies)


def has_dry_run(policies: Iterable[Policy]) -> bool:
    return any(policy.dry_run for policy in policies)
