"""A snapshot as the rows that `nodeagent get` shows: plain dictionaries, sorted, with stable keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent.admin.api import BadQueryError, NotFoundError
from nodeagent.agent.condition_rows import by_object, condition_rows, state_of
from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.policy_rows import rate_limit_rows, traffic_rows
from nodeagent.agent.rule_text import filters_text
from nodeagent.config.conditions import Condition
from nodeagent.config.objects import ObjectSet
from nodeagent.core.model import NODES, Backend, Destination, Policy, Rule, Rung, Snapshot, Workload
from nodeagent.core.route_timeouts import described as timeouts_described
from nodeagent.core.treatment_text import own_retry_text, session_text

Row = dict[str, Any]

HOST_NETWORK = "it is in the node's own network namespace (hostNetwork), and so never enrolled"


@dataclass(frozen=True, slots=True)
class World:
    """What there is to show.  `rejected`: rows of objects that are not in force as written.

    `objects` are those that `snapshot` was compiled from, `conditions` what was said about them.
    """

    snapshot: Snapshot
    pods: Mapping[str, EnrolledPod] = field(default_factory=dict)
    pod_problems: Mapping[str, str] = field(default_factory=dict)
    rejected: tuple[Row, ...] = ()  # {"kind", "namespace", "name", "reason", "message"}
    objects: ObjectSet = field(default_factory=ObjectSet)
    conditions: tuple[Condition, ...] = ()


def rows(world: World, kind: str, namespace: str, name: str) -> list[Row]:
    """NotFoundError if a name was given and nothing has it; BadQueryError for a kind that does not exist."""
    view = VIEWS.get(kind)
    if view is None:
        raise BadQueryError(f"no kind {kind!r}; there are {', '.join(sorted(VIEWS))}")
    found = [row for row in view(world) if namespace in ("", row["namespace"])]
    if name:
        found = [row for row in found if row["name"] == name]
        if not found:
            where = f" in namespace {namespace}" if namespace else ""
            raise NotFoundError(f"no {_singular(kind)} {name!r}{where}")
    return sorted(found, key=lambda row: (row["namespace"], row["name"], str(row.get("address", ""))))


def _singular(kind: str) -> str:
    return kind.removesuffix("ies") + "y" if kind.endswith("ies") else kind.removesuffix("s")


def split_name(text: str) -> tuple[str, str]:
    """ "shop/cart:80" -> ("shop", "cart:80"); "198.18.0.9:80" -> ("", "198.18.0.9:80")."""
    namespace, slash, name = text.partition("/")
    return (namespace, name) if slash else ("", text)


def rung_word(destination: Destination) -> str:
    if destination.refuse:
        return "refuse"
    return "proxy" if destination.rung is Rung.PROXY else "direct"


def services(world: World) -> Iterator[Row]:
    doors: dict[str, list[str]] = {}
    for destination in world.snapshot.destinations.values():
        if destination.is_door:
            doors.setdefault(destination.name, []).append(f"{destination.address}:{destination.port}")
    for destination in world.snapshot.destinations.values():
        if destination.is_frontend:
            namespace, name = split_name(destination.name)
            yield {
                "namespace": namespace,
                "name": name.rpartition(":")[0],
                "address": destination.address,
                "port": destination.port,
                "protocol": destination.protocol.value,
                "rung": rung_word(destination),
                "endpoints": [f"{e.address}:{e.port}" for e in destination.endpoints],
                "doors": sorted(doors.get(destination.name, ())),
                "routes": route_names(destination),
                "policies": [policy.name for policy in destination.policies],
                "refuse": destination.refuse,
            }


def route_names(destination: Destination) -> list[str]:
    return sorted({rule.route for _, rule in rules_of(destination)})


def rules_of(destination: Destination) -> Iterator[tuple[str, Rule]]:
    """(caller namespace or "" for every caller, rule)."""
    for rule in destination.producer_rules:
        yield "", rule
    for namespace, rules in destination.consumer_rules.items():
        for rule in rules:
            yield namespace, rule


def endpoints(world: World) -> Iterator[Row]:
    for destination in world.snapshot.destinations.values():
        if not (destination.is_frontend or destination.is_door or destination.name == NODES):
            owner = _owner(world.snapshot, destination.address)
            yield {
                "namespace": owner.namespace if owner else split_name(next(iter(destination.services), ""))[0],
                "name": owner.name if owner else destination.address,
                "address": destination.address,
                "port": destination.port,
                "protocol": destination.protocol.value,
                "rung": rung_word(destination),
                "services": list(destination.services),
                "policies": [policy.name for policy in destination.policies],
                "refuse": destination.refuse,
            }


def _owner(snapshot: Snapshot, address: str) -> Workload | None:
    return next((pod for pod in snapshot.workloads.values() if address in pod.addresses), None)


def routes(world: World) -> Iterator[Row]:
    found: dict[str, Row] = {}
    for destination in world.snapshot.destinations.values():
        for callers, rule in rules_of(destination):
            row = found.setdefault(rule.route, _route_row(rule))
            parent = f"{destination.name}" + (f" (callers in {callers})" if callers else "")
            if parent not in row["parents"]:
                row["parents"].append(parent)
            match = _rule_row(rule)
            if match not in row["rules"]:
                row["rules"].append(match)
    yield from _with_conditions(world, "HTTPRoute", found)


def _route_row(rule: Rule) -> Row:
    namespace, name = split_name(rule.route)
    return {"namespace": namespace, "name": name, "state": "in force", "message": "", "parents": [], "rules": []}


def _rule_row(rule: Rule) -> Row:
    return {
        "rule": rule.rule,
        "path": f"{rule.path_kind.value} {rule.path}",
        "method": rule.method,
        "headers": [f"{m.name}{'~' if m.regex else '='}{m.value}" for m in rule.headers],
        "query": [f"{m.name}{'~' if m.regex else '='}{m.value}" for m in rule.query],
        "filters": filters_text(rule),
        "timeouts": timeouts_described(rule.timeouts),
        "retry": own_retry_text(rule.retry) if rule.retry else "",
        "session": session_text(rule.session) if rule.session else "",
        "error": f"{rule.fault.reason}: {rule.fault.detail}" if rule.fault else "",
        "backends": [_backend_row(backend) for backend in rule.backends],
    }


def _backend_row(backend: Backend) -> Row:
    return {
        "name": backend.name,
        "weight": backend.weight,
        "endpoints": len(backend.endpoints),
        "error": backend.error,
        "filters": filters_text(backend),
    }


def policies(world: World) -> Iterator[Row]:
    """Also those of whose targets there is nothing to protect yet."""
    found = {key: _policy_row(one.policy) for key, one in world.objects.policies.items()}
    for destination in world.snapshot.destinations.values():
        for policy in destination.policies:
            row = found.setdefault(policy.name, _policy_row(policy))
            if destination.name not in row["targets"]:
                row["targets"].append(destination.name)
    yield from _with_conditions(world, "AuthorizationPolicy", found)


def _policy_row(policy: Policy) -> Row:
    namespace, name = split_name(policy.name)
    return {
        "namespace": namespace,
        "name": name,
        "state": "in force",
        "message": "",
        "action": policy.action.value,
        "level": policy.level.value,
        "mode": "DryRun" if policy.dry_run else "Enforce",
        "rules": len(policy.rules),
        "targets": [],
    }


def _with_conditions(world: World, kind: str, shown: dict[str, Row]) -> Iterator[Row]:
    """Those that are in force and those that are not, each with all that is said about it."""
    said = by_object(kind, world.conditions)
    for key, row in shown.items():
        row["state"] = state_of(said.get(key, ()))
    rejected = list(_rejected(world, kind, shown))
    for row in (*shown.values(), *rejected):
        yield {**row, "conditions": condition_rows(said.get(f"{row['namespace']}/{row['name']}", ()))}


def _rejected(world: World, kind: str, shown: dict[str, Row]) -> Iterator[Row]:
    """Objects of `kind` that are not in force as written: noted on their row, or a row of their own."""
    for item in world.rejected:
        if item["kind"] != kind:
            continue
        key = f"{item['namespace']}/{item['name']}"
        if key in shown:
            shown[key].update(state=item["reason"], message=item["message"])
        else:
            yield {
                "namespace": item["namespace"],
                "name": item["name"],
                "state": item["reason"],
                "message": item["message"],
            }


def workloads(world: World) -> Iterator[Row]:
    for workload in world.snapshot.workloads.values():
        pod = world.pods.get(workload.key)
        yield {
            "namespace": workload.namespace,
            "name": workload.name,
            "workload": workload.workload,
            "service_account": workload.service_account,
            "state": _state(workload, pod, world.pod_problems),
            "message": world.pod_problems.get(workload.key, HOST_NETWORK if workload.host_network else ""),
            "addresses": list(workload.addresses),
            "node": workload.node_id,
            "netns": workload.netns or "",
            "cookie": pod.cookie if pod else 0,
            "fail_mode": workload.fail_mode.value,
        }


def _state(workload: Workload, pod: EnrolledPod | None, problems: Mapping[str, str]) -> str:
    if pod is not None:
        return "enrolled"
    if workload.key in problems:
        return "failed"
    if workload.host_network:
        return "host network"
    if workload.is_judged_elsewhere:
        return "remote"
    if workload.enrolled:
        return "pending"
    return "not enrolled"


def traffic_policies(world: World) -> Iterator[Row]:
    return traffic_rows(world.objects, world.conditions)


def rate_limit_policies(world: World) -> Iterator[Row]:
    return rate_limit_rows(world.objects, world.conditions)


VIEWS: dict[str, Callable[[World], Iterator[Row]]] = {
    "services": services,
    "endpoints": endpoints,
    "routes": routes,
    "policies": policies,
    "trafficpolicies": traffic_policies,
    "ratelimitpolicies": rate_limit_policies,
    "workloads": workloads,
}
