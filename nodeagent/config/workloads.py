"""Pods to workloads: who is enrolled, and what its namespace asks for."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import NamespaceObject, PodObject
from nodeagent.core.differences import unequal
from nodeagent.core.model import FailMode, Workload
from nodeagent.core.traffic import PodLimits

PodCaps = tuple[PodLimits | None, PodLimits | None]  # that are enforced, and in DryRun

DATAPLANE = "mesh.nodeagent.dev/dataplane"
FAIL_MODE = "mesh.nodeagent.dev/fail-mode"
UNPOLICED = "mesh.nodeagent.dev/unpoliced-connections"
_NO_NAMESPACE = NamespaceObject("")


@dataclass(frozen=True, slots=True)
class Workloads:
    """Every pod by "namespace/name", enrolled or not: all of them can be callers and targets.

    `moved`: addresses at which a pod came, left or became another one since the workloads before.
    """

    pods: Mapping[str, Workload]
    moved: AbstractSet[str] = frozenset()


def workloads(
    objects: ObjectSet, node: str = "", before: ObjectSet | None = None, made: Mapping[str, Workload] | None = None
) -> Workloads:
    """`made` of `before`, on the same `node`; what did not change is the same object again."""
    if before is None or made is None:
        return Workloads({key: _workload(pod, objects, node) for key, pod in objects.pods.items()})
    changed, places = unequal(before.pods, objects.pods), unequal(before.namespaces, objects.namespaces)
    if places:
        changed |= {key for key, pod in objects.pods.items() if pod.namespace in places}
    new = {key: _workload(objects.pods[key], objects, node) for key in changed & objects.pods.keys()}
    now = {**made, **new}
    for key in changed - new.keys():
        del now[key]
    moved = {address for key in changed for table in (made, new) if key in table for address in table[key].addresses}
    return Workloads(now, moved)


def is_enrolled(pod: PodObject, namespace: NamespaceObject) -> bool:
    """The pod's label decides when it has one; a pod in the node's own network namespace never is."""
    wish = pod.dataplane or namespace.labels.get(DATAPLANE, "")
    return wish == "enabled" and not pod.host_network


@dataclass(frozen=True, slots=True)
class Capped:
    """`pods` with what `caps` says of their namespaces: `made`."""

    caps: Mapping[str, PodCaps]
    pods: Mapping[str, Workload]
    made: Mapping[str, Workload]


def capped(pods: Mapping[str, Workload], caps: Mapping[str, PodCaps], before: Capped | None = None) -> Capped:
    """Pods that are as before, with the same caps, are the same objects as in `before`."""
    if not caps:
        return Capped(caps, pods, pods)
    if before and before.pods is pods and before.caps == caps:
        return before
    found, same = dict(pods), {name for name in caps if before and before.caps.get(name) == caps[name]}
    for key, pod in pods.items():
        if pod.namespace in caps:
            if before and pod.namespace in same and before.pods.get(key) is pod:
                found[key] = before.made[key]
            else:
                limits, shadow = caps[pod.namespace]
                found[key] = replace(pod, limits=limits, shadow_limits=shadow)
    return Capped(caps, pods, found)


def _workload(pod: PodObject, objects: ObjectSet, node: str) -> Workload:
    namespace = objects.namespaces.get(pod.namespace, _NO_NAMESPACE)
    closed = namespace.annotations.get(FAIL_MODE) == FailMode.CLOSED.value
    return Workload(
        namespace=pod.namespace,
        name=pod.name,
        service_account=pod.service_account,
        workload=pod.workload,
        addresses=pod.addresses,
        netns=pod.netns or None,
        enrolled=is_enrolled(pod, namespace),
        fail_mode=FailMode.CLOSED if closed else FailMode.OPEN,
        cut_unpoliced=namespace.annotations.get(UNPOLICED) == "cut",
        node_id=pod.node,
        uid=pod.uid if node and pod.node == node else "",
        host_network=pod.host_network,
    )
