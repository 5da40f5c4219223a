"""AuthorizationPolicies joined to what they target, with whatever cannot be enforced made a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nodeagent.config.conditions import ACCEPTED, FALSE, PROGRAMMED, TRUE, UNKNOWN, Condition
from nodeagent.config.objects import Broken, ObjectSet
from nodeagent.config.resources import PolicyObject, ServiceObject, TargetRef
from nodeagent.core.differences import unequal
from nodeagent.core.dry_run import enforced
from nodeagent.core.model import Action, Policy, Protocol

KIND = "AuthorizationPolicy"
MOST_MERGED = 50_000  # answers that are remembered: more than Services can be shared in any sane cluster

TargetKey = tuple[str, str]  # "Service" and "namespace/name", or "Namespace" and its name


class PolicyIndex:
    """Which policies apply to the endpoints of a Service, or to every pod of a namespace; kept up to date in place."""

    def __init__(self, *, refuse_broken: bool) -> None:
        self._refuse_broken = refuse_broken
        self._policies: Mapping[str, PolicyObject] = {}
        self._broken: tuple[Broken, ...] = ()
        self._by_target: dict[TargetKey, dict[str, Policy]] = {}
        self._refusals: dict[TargetKey, str] = {}
        self._merged: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Policy, ...]] = {}

    def update(self, objects: ObjectSet) -> set[TargetKey]:
        """The targets to which others apply than before."""
        touched: set[TargetKey] = set()
        for key in unequal(self._policies, objects.policies):
            touched |= self._replace(key, self._policies.get(key), objects.policies.get(key))
        self._policies = objects.policies
        if objects.broken is not self._broken:
            refusals = self._refused(objects.broken)
            touched |= unequal(self._refusals, refusals)
            self._refusals, self._broken = refusals, objects.broken
        if touched or len(self._merged) > MOST_MERGED:
            self._merged.clear()
        return touched

    def _replace(self, key: str, before: PolicyObject | None, now: PolicyObject | None) -> set[TargetKey]:
        old = {_target_key(before.namespace, target) for target in before.targets} if before else set[TargetKey]()
        new = {_target_key(now.namespace, target) for target in now.targets} if now else set[TargetKey]()
        for target in old - new:
            del self._by_target[target][key]
            if not self._by_target[target]:
                del self._by_target[target]
        for target in new if now else ():
            self._by_target.setdefault(target, {})[key] = now.policy  # type: ignore[union-attr]  # not without `now`
        return old | new

    def _refused(self, broken: Iterable[Broken]) -> dict[TargetKey, str]:
        found: dict[TargetKey, str] = {}
        for one in broken if self._refuse_broken else ():
            for target in refused_targets(one):
                found.setdefault(_target_key(one.identity.namespace, target), refusal_by(one))
        return found

    def applied(self, services: tuple[str, ...], namespaces: tuple[str, ...] = ()) -> tuple[Policy, ...]:
        """Policies of all these Services, of their namespaces and of `namespaces`, each once, sorted by name."""
        key = (services, namespaces)
        found = self._merged.get(key)
        if found is None:
            tables = (self._by_target.get(target) for target in _targets(*key))
            found = self._merged[key] = _unique(policy for table in tables if table for policy in table.values())
        return found

    def refusal(self, services: tuple[str, ...], namespaces: tuple[str, ...] = ()) -> str:
        """Why everything to these Services and namespaces is refused, or ""."""
        if not self._refusals:
            return ""
        found = (self._refusals.get(target, "") for target in _targets(services, namespaces))
        return next((reason for reason in found if reason), "")


def named_ports(policies: Iterable[Policy]) -> list[int]:
    """Port numbers that the policies speak of, sorted."""
    return sorted({port for policy in policies for rule in policy.rules for port in rule.ports})


def unenforceable(policies: Iterable[Policy], protocol: Protocol, ports: tuple[int, ...], name: str) -> str:
    """Why connections to a port that is not HTTP/1 are refused: a DENY for anybody that reads HTTP; or ""."""
    if protocol is Protocol.HTTP1:
        return ""
    for policy in enforced(policies):
        for rule in policy.rules if policy.action is Action.DENY else ():
            if rule.http and not rule.sources and (not rule.ports or set(rule.ports) & set(ports)):
                return (
                    f"AuthorizationPolicy {policy.name} denies by HTTP fields, which cannot be read on {name} "
                    f"({protocol.value}); set appProtocol: http on the Service port if it is plain HTTP/1"
                )
    return ""


def refused_targets(broken: Broken) -> list[TargetRef]:
    """What a policy that never was good protects, as far as its manifest can be read.

    AUDIT protects nothing, and nothing in DryRun does.
    """
    spec = broken.value.get("spec")
    if broken.identity.kind != KIND or broken.last_good or not isinstance(spec, dict):
        return []
    if spec.get("action") == "AUDIT" or spec.get("mode") == "DryRun":
        return []
    refs = spec.get("targetRefs")
    refs = [refs] if isinstance(refs, dict) else refs  # the dash that is easily forgotten
    found = [_readable_target(ref, broken.identity.namespace) for ref in refs] if isinstance(refs, list) else []
    return [target for target in found if target]


def refusal_by(broken: Broken) -> str:
    first = broken.problems[0]
    return (
        f"AuthorizationPolicy {broken.identity.key} is broken ({first.field}: {first.message}) and was never good, "
        f"so what it protects is refused; mend or delete it"
    )


def policy_conditions(policy: PolicyObject, objects: ObjectSet, generation: int) -> tuple[Condition, ...]:
    """Conditions of a policy towards every target."""
    return tuple(
        condition
        for index, target in enumerate(policy.targets)
        for condition in _target_conditions(policy, index, target, objects.services, generation)
    )


def judged_by(policy: PolicyObject) -> set[TargetKey]:
    """The targets that its conditions depend on; a Namespace stands for every Service in it."""
    return {_target_key(policy.namespace, target) for target in policy.targets}


def _target_conditions(
    policy: PolicyObject, index: int, target: TargetRef, services: Mapping[str, ServiceObject], generation: int
) -> Iterator[Condition]:
    where = (
        f"{target.kind} {target.name}" if target.kind == "Namespace" else f"Service {policy.namespace}/{target.name}"
    )
    service = services.get(f"{policy.namespace}/{target.name}") if target.kind == "Service" else None
    if target.kind == "Service" and service is None:
        message = f"{where} does not exist; the policy takes effect when it does"
        field = f"spec.targetRefs[{index}].name"
        yield Condition(KIND, policy.key, where, ACCEPTED, FALSE, "TargetNotFound", message, field, generation, index)
        return
    message, field = _http_on_other_ports(policy, service, services)
    yield Condition(KIND, policy.key, where, ACCEPTED, TRUE, "Accepted", message, field, generation, index)
    yield Condition(KIND, policy.key, where, PROGRAMMED, UNKNOWN, "Pending", "", "", generation, index)


def _http_on_other_ports(
    policy: PolicyObject, service: ServiceObject | None, services: Mapping[str, ServiceObject]
) -> tuple[str, str]:
    """(message, field) when HTTP fields meet ports where HTTP is not read, of `service` or of all in the namespace."""
    index = next((number for number, rule in enumerate(policy.policy.rules) if rule.http), None)
    if index is None:
        return "", ""
    covered = [service] if service else [one for one in services.values() if one.namespace == policy.namespace]
    ports = [f"{s.key}:{port.port}" for s in covered for port in s.ports if port.protocol is not Protocol.HTTP1]
    if not ports:
        return "", ""
    effect = {
        Action.DENY: "connections that the rule's sources and ports match are refused there",
        Action.ALLOW: "the rule allows nothing there",
        Action.AUDIT: "the rule audits nothing there",
    }[policy.policy.action]
    if policy.policy.dry_run:
        effect = f"in DryRun it is counted as if {effect}"
    return f"HTTP is not read on {', '.join(sorted(ports))}: {effect}", f"spec.rules[{index}].http"


def _target_key(namespace: str, target: TargetRef) -> TargetKey:
    return (target.kind, namespace if target.kind == "Namespace" else f"{namespace}/{target.name}")


def _targets(services: Iterable[str], namespaces: Iterable[str]) -> Iterator[TargetKey]:
    for service in services:
        yield "Service", service
        yield "Namespace", service.partition("/")[0]
    for namespace in namespaces:
        yield "Namespace", namespace


def _readable_target(ref: object, namespace: str) -> TargetRef | None:
    if not isinstance(ref, dict) or not isinstance(ref.get("name"), str):
        return None
    kind = ref.get("kind")
    if kind == "Namespace":
        return TargetRef("Namespace", namespace) if ref["name"] == namespace else None
    return TargetRef("Service", ref["name"]) if kind == "Service" else None


def _unique(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    return tuple(sorted({policy.name: policy for policy in policies}.values(), key=lambda policy: policy.name))
