"""Authorization: DENY before ALLOW; AUDIT only names itself.

All policies of a destination form one pool: a matching DENY denies; else, if any ALLOW policy is
there, one must match.  Where a request can be read in two ways (a header sent twice, an escaped
path, a value in another encoding), DENY and AUDIT match if any reading matches, ALLOW only by the
plain one, so that no spelling slips past.

Policies in DryRun (`core.dry_run`) deny nothing: `would` names the one that would have.

`network_verdict` is the part that the kernel enforces at connect(); `authorize` judges a request and
includes everything the kernel judged, so that a new rule reaches connections that already exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple
from typing import Protocol as Interface

from nodeagent.core import paths
from nodeagent.core.addresses import family, in_cidr
from nodeagent.core.dry_run import WOULD_DENY, WOULD_DENY_CONNECT, enforced, has_dry_run, normal_head, path_reader
from nodeagent.core.hosts import host_matches
from nodeagent.core.matching import Regex, field_spellings, header_value, path_matches, value_matches
from nodeagent.core.model import (
    Action,
    Destination,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Source,
    ValueMatch,
    Workload,
    Would,
)
from nodeagent.core.paths import PathError

RuleTest = Callable[[Policy, PolicyRule], bool]


class Guarded(Interface):
    """What policies protect: a Destination, or the Backend of a route."""

    @property
    def policies(self) -> tuple[Policy, ...]: ...
    @property
    def port_numbers(self) -> tuple[int, ...]:
        """Every number a policy may call its port by."""

    @property
    def refuse(self) -> str: ...


class Authorization(NamedTuple):
    """The outcome of one pool of policies.  `policy` denied: a DENY, or the first of the ALLOWs that did not match."""

    denied: bool
    policy: str = ""
    detail: str = ""
    audits: tuple[str, ...] = ()
    would: Would = ()  # what policies in DryRun would have made of it where it is not denied


def authorize(
    destination: Destination, caller: Workload, address: str, head: RequestHead, regex: Regex
) -> Authorization:
    """Judge one request by every policy of the destination."""
    audited = (policy for policy in destination.policies if policy.needs_http)
    access = judge_request(destination, caller, (address,), head, regex, audited)
    unmet = "" if access.denied else denied_at_connect(destination, caller, (address,))
    return access._replace(would=((WOULD_DENY_CONNECT, unmet),)) if unmet else access


def judge_request(
    guarded: Guarded,
    caller: Workload,
    addresses: tuple[str, ...],
    head: RequestHead,
    regex: Regex,
    audited: Iterable[Policy],
) -> Authorization:
    """Judge by every policy of `guarded`; of its AUDITs those in `audited` may name themselves."""

    access = _pool(guarded, enforced(guarded.policies), _at_request(guarded, caller, addresses, head, regex), audited)
    if access.denied or not has_dry_run(guarded.policies):
        return access
    policy = _denied_in_force(guarded, caller, addresses, head, regex)
    return access._replace(would=((WOULD_DENY, policy),)) if policy else access


def _denied_in_force(
    guarded: Guarded, caller: Workload, addresses: tuple[str, ...], head: RequestHead, regex: Regex
) -> str:
    """Of a request that is not denied: the policy that would have denied it with nothing in DryRun, or ""."""
    reader = path_reader(guarded.policies)
    try:
        judged = normal_head(head) if reader else head
    except PathError:
        return reader
    return _pool(guarded, guarded.policies, _at_request(guarded, caller, addresses, judged, regex), ()).policy


def _at_request(
    guarded: Guarded, caller: Workload, addresses: tuple[str, ...], head: RequestHead, regex: Regex
) -> RuleTest:
    def matches(policy: Policy, rule: PolicyRule) -> bool:
        return rule_applies(rule, guarded, caller, addresses, policy.action) and (
            not rule.http or any(operation_matches(op, policy.action, head, regex) for op in rule.http)
        )

    return matches


def network_verdict(destination: Destination, workload: Workload) -> Authorization:
    """Judge a connect() by what is decidable without reading HTTP.

    On an HTTP/1 port that leaves Application ALLOW and everything with an `http` part to the worker
    (which answers 403).  On any other port no worker will ever look: an `http` part matches every
    request there for DENY, and none for ALLOW.
    """
    addresses = addresses_of_family(workload, family(destination.address))
    audited = (p for p in destination.policies if _is_opaque(destination) or p.level is EnforcementLevel.NETWORK)
    here = _left_to_connect(destination, enforced(destination.policies))
    access = _pool(destination, here, _at_connect(destination, workload, addresses), audited)
    policy = "" if access.denied else denied_at_connect(destination, workload, addresses)
    return access._replace(would=((WOULD_DENY, policy),)) if policy else access


def denied_at_connect(destination: Destination, workload: Workload, addresses: tuple[str, ...]) -> str:
    """Of a connect() that is not denied: the policy that would have denied it with nothing in DryRun, or ""."""
    if not has_dry_run(destination.policies):
        return ""
    here = _left_to_connect(destination, destination.policies)
    return _pool(destination, here, _at_connect(destination, workload, addresses), ()).policy


def _left_to_connect(destination: Destination, policies: Iterable[Policy]) -> list[Policy]:
    """Of `policies`, which together are in force or taken to be: those that connect() judges by."""
    if _is_opaque(destination):
        return list(policies)
    policies = tuple(policies)
    here = [policy for policy in policies if _kernel_judges(policy)]
    worker_may_allow = any(policy.action is Action.ALLOW and policy.needs_http for policy in policies)
    return [policy for policy in here if policy.action is not Action.ALLOW] if worker_may_allow else here


def _at_connect(destination: Destination, workload: Workload, addresses: tuple[str, ...]) -> RuleTest:
    opaque = _is_opaque(destination)

    def matches(policy: Policy, rule: PolicyRule) -> bool:
        if rule.http and (policy.action is not Action.DENY or not opaque):
            return False
        return rule_applies(rule, destination, workload, addresses, policy.action)

    return matches


def _is_opaque(destination: Destination) -> bool:
    return destination.protocol is not Protocol.HTTP1


def has_network_part(destination: Destination) -> bool:
    """False when `network_verdict` allows every workload with nothing to count: no verdict table is needed."""
    if not destination.policies:
        return bool(destination.refuse)
    opaque = _is_opaque(destination)
    return bool(destination.refuse) or any(opaque or _kernel_judges(policy) for policy in destination.policies)


def rule_applies(
    rule: PolicyRule, guarded: Guarded, caller: Workload, addresses: tuple[str, ...], action: Action
) -> bool:
    """Judge what does not depend on the request: who calls, and the port."""
    if rule.ports and not port_matches(rule.ports, guarded):
        return False
    return not rule.sources or any(source_matches(source, caller, addresses, action) for source in rule.sources)


def port_matches(ports: Iterable[int], guarded: Guarded) -> bool:
    return not set(ports).isdisjoint(guarded.port_numbers)


def source_matches(source: Source, caller: Workload, addresses: tuple[str, ...], action: Action) -> bool:
    """With several possible addresses ALLOW needs all of them inside the CIDRs, DENY any."""
    if source.service_accounts and not _is_account(source.service_accounts, caller):
        return False
    if source.namespaces and caller.namespace not in source.namespaces:
        return False
    if not source.cidrs:
        return True
    inside = (any(in_cidr(address, cidr) for cidr in source.cidrs) for address in addresses)
    return bool(addresses) and (all(inside) if action is Action.ALLOW else any(inside))


def operation_matches(op: HttpOperation, action: Action, head: RequestHead, regex: Regex) -> bool:
    """True when every non-empty list of the operation matches the request."""
    if action is Action.ALLOW:
        return _allows(op, head, regex)
    return _catches(op, head, regex)


def _allows(op: HttpOperation, head: RequestHead, regex: Regex) -> bool:
    if op.methods and head.method not in op.methods:
        return False
    if op.hosts and not any(host_matches(pattern, head.host) for pattern in op.hosts):
        return False
    if op.paths and not _path_allowed(op.paths, head.path, regex):
        return False
    if not op.headers:
        return True
    return all(value_matches(match, header_value(head.headers, match.name), regex) for match in op.headers)


def _path_allowed(tests: Iterable[tuple[PathKind, str]], path: str, regex: Regex) -> bool:
    """One test must match the path in both spellings."""
    for kind, value in tests:
        if path_matches(kind, value, path, regex) and (
            "%" not in path or path_matches(kind, value, paths.respell(path), regex)
        ):
            return True
    return False


def _catches(op: HttpOperation, head: RequestHead, regex: Regex) -> bool:
    if op.methods and head.method.upper() not in op.methods:
        return False
    if op.hosts and not any(host_matches(pattern, head.host) for pattern in op.hosts):
        return False
    if op.paths:
        readings = paths.spellings(head.path)
        if not any(path_matches(kind, value, path, regex) for kind, value in op.paths for path in readings):
            return False
    if not op.headers:
        return True
    return all(_header_caught(match, head.headers, regex) for match in op.headers)


def _header_caught(match: ValueMatch, headers: Iterable[tuple[str, str]], regex: Regex) -> bool:
    """Try the joined value, each field line and each list element, in every character encoding that it may have.

    `x_env` counts as `x-env` (CGI reads it so).
    """
    lines = [value for name, value in headers if name == match.name or name.replace("_", "-") == match.name]
    elements = [element.strip(" \t") for line in lines for element in line.split(",")]
    readings = dict.fromkeys((",".join(lines), *lines, *elements)) if lines else {}
    return any(value_matches(match, text, regex) for reading in readings for text in field_spellings(reading))


def _is_account(accounts: Iterable[str], caller: Workload) -> bool:
    own = (f"{caller.namespace}/{caller.service_account}", f"{caller.namespace}/*")
    return any(account in own for account in accounts)


def addresses_of_family(workload: Workload, wanted: int) -> tuple[str, ...]:
    """Those a pod can dial a destination of this family from."""
    return tuple(address for address in workload.addresses if family(address) == wanted)


def _kernel_judges(policy: Policy) -> bool:
    return policy.level is EnforcementLevel.NETWORK or (
        policy.action is Action.DENY and any(not rule.http for rule in policy.rules)
    )


def _pool(guarded: Guarded, policies: Iterable[Policy], matches: RuleTest, audited: Iterable[Policy]) -> Authorization:
    """Judge by `policies`, whatever their mode."""

    def hit(policy: Policy) -> bool:
        return any(matches(policy, rule) for rule in policy.rules)

    audits = tuple(policy.name for policy in audited if policy.action is Action.AUDIT and hit(policy))
    if guarded.refuse:
        return Authorization(True, "", guarded.refuse, audits)
    policies = tuple(policies)
    for policy in policies:
        if policy.action is Action.DENY and hit(policy):
            return Authorization(True, policy.name, denied_by(policy.name), audits)
    allows = [policy for policy in policies if policy.action is Action.ALLOW]
    if allows and not any(hit(policy) for policy in allows):
        return Authorization(True, allows[0].name, allowed_by_none(allows), audits)
    return Authorization(False, "", "", audits)


def denied_by(policy: str) -> str:
    return f"denied by AuthorizationPolicy {policy}"


def allowed_by_none(policies: Iterable[Policy]) -> str:
    names = ", ".join(policy.name for policy in policies)
    return f"no ALLOW rule matches this caller and request (AuthorizationPolicy {names})"
