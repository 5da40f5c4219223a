"""What protects the backend of a route beyond the frontend that was dialled.

Authorization belongs to endpoints, by whatever name a request gets there.  connect() and `authorize`
judge the frontend; where a route leads on to the endpoints of another Service, a request is judged
once more, by every policy of that Service: those of level Network too, because no connect() of the
caller ever met them.  The worker has read the request, so HTTP fields count here even where the
backend's own port does not say that it carries HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nodeagent.core.addresses import family
from nodeagent.core.authorization import Authorization, addresses_of_family, judge_request, port_matches
from nodeagent.core.dry_run import enforced
from nodeagent.core.matching import Regex
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    Policy,
    PolicyRule,
    RequestHead,
    Rule,
    Workload,
)


def authorize_backend(
    destination: Destination, backend: Backend, caller: Workload, address: str, head: RequestHead, regex: Regex
) -> Authorization:
    """Judge a request that the frontend let pass, before it is sent to `backend`."""
    addresses = addresses_seen(destination, backend, caller, address)
    return judge_request(backend, caller, addresses, head, regex, audited_behind(destination, backend))


def addresses_seen(destination: Destination, backend: Backend, caller: Workload, address: str) -> tuple[str, ...]:
    """Which addresses the caller may have for the backend: `address`, unless the backend is of the other family."""
    if not crosses_families(destination, backend):
        return (address,)
    return addresses_of_family(caller, family(backend.endpoints[0].address))


def audited_behind(destination: Destination, backend: Backend) -> tuple[Policy, ...]:
    """Policies whose AUDIT is noted here: all but those of level Network that connect() noted already."""
    return tuple(p for p in backend.policies if p.needs_http or not _judged_alike(p, destination, backend))


def brings_more(destination: Destination, backend: Backend) -> bool:
    """False when whoever passes the frontend's policies passes the backend's, and leaves the same audits.

    Policies in DryRun count like those in force, since what they would have done is to be found out.
    """
    return bool(backend.refuse) or _bring_more(destination, backend, destination.policies, backend.policies)


def enforces_more(destination: Destination, backend: Backend) -> bool:
    """The same, where nobody counts what a policy in DryRun would have done."""
    policies, policies_here = enforced(destination.policies), enforced(backend.policies)
    return bool(backend.refuse) or _bring_more(destination, backend, policies, policies_here)


def _bring_more(
    destination: Destination, backend: Backend, policies: Sequence[Policy], policies_here: Sequence[Policy]
) -> bool:
    if not policies_here:  # most backends, and there may be thousands
        return False
    if not all(_judged_alike(policy, destination, backend) for policy in policies_here):
        return True
    allows, allows_here = _allows(policies), _allows(policies_here)
    return bool(allows_here) and len(allows_here) < len(allows)  # what another ALLOW let pass may not pass here


def guarded_groups(destination: Destination) -> frozenset[str]:
    """Of `consumer_rules` and "" (the producer's): whose requests a backend's policies may yet deny or audit."""
    groups = {"": destination.producer_rules if destination.has_producer_route else (), **destination.consumer_rules}
    return frozenset(group for group, rules in groups.items() if _is_guarded(destination, rules))


def _is_guarded(destination: Destination, rules: Iterable[Rule]) -> bool:
    serving = (backend for rule in rules for backend in rule.backends if backend.weight and not backend.error)
    return any(enforces_more(destination, backend) for backend in serving)


def crosses_families(destination: Destination, backend: Backend) -> bool:
    """True when a caller may have another address for the backend than for the frontend."""
    return bool(backend.endpoints) and family(backend.endpoints[0].address) != family(destination.address)


def _judged_alike(policy: Policy, destination: Destination, backend: Backend) -> bool:
    """True when the frontend has the policy too, and it means the same there."""
    if policy not in destination.policies:
        return False
    return all(_means_the_same(rule, destination, backend) for rule in policy.rules)


def _means_the_same(rule: PolicyRule, destination: Destination, backend: Backend) -> bool:
    if rule.ports and port_matches(rule.ports, destination) != port_matches(rule.ports, backend):
        return False
    return not (crosses_families(destination, backend) and any(source.cidrs for source in rule.sources))


def _allows(policies: Iterable[Policy]) -> list[Policy]:
    return [policy for policy in policies if policy.action is Action.ALLOW]
