"""Pods to workloads: who is enrolled, and what its namespace asks for."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import NamespaceObject, PodObject
from nodeagent.core.differences import Edition, changed, gone, unequal
from nodeagent.core.model import FailMode, Workload
from nodeagent.core.traffic import PodLimits

PodCaps = tuple[PodLimits | None, PodLimits | None]  # that are enforced, and in DryRun

DATAPLANE = "mesh.nodeagent.dev/dataplane"
FAIL_MODE = "mesh.nodeagent.dev/fail-mode"
UNPOLICED = "mesh.nodeagent.dev/unpoliced-connections"
_NO_NAMESPACE = NamespaceObject("")


Pods = Edition[str, Workload]


def workloads(objects: ObjectSet, node: str = "", before: ObjectSet | None = None, made: Pods | None = None) -> Pods:
    """Every pod by "namespace/name", enrolled or not: all of them can be callers and targets.

    `made` of `before`, on the same `node`; what did not change is the same object again.
    """
    if before is None or made is None:
        return Edition({key: _workload(pod, objects, node) for key, pod in objects.pods.items()})
    different, places = unequal(before.pods, objects.pods), unequal(before.namespaces, objects.namespaces)
    if places:
        different |= {key for key, pod in objects.pods.items() if pod.namespace in places}
    new = {key: _workload(objects.pods[key], objects, node) for key in different if key in objects.pods}
    return made.next({key: one for key, one in new.items() if made.get(key) != one}, different - new.keys())


def is_enrolled(pod: PodObject, namespace: NamespaceObject) -> bool:
    """A pod in the node's own network namespace never is."""
    return wish(pod, namespace) == "enabled" and not pod.host_network


def wish(pod: PodObject, namespace: NamespaceObject | None) -> str:
    """The pod's label decides when it has one."""
    return pod.dataplane or (namespace.labels.get(DATAPLANE, "") if namespace else "")


@dataclass(frozen=True, slots=True)
class Capped:
    """`pods` with what `caps` says of their namespaces: `made`."""

    caps: Mapping[str, PodCaps]
    pods: Pods
    made: Pods


def capped(pods: Pods, caps: Mapping[str, PodCaps], before: Capped | None = None) -> Capped:
    """Pods that are as before, with the same caps, are the same objects as in `before`."""
    if before is None:
        return Capped(caps, pods, pods.next({key: _with_caps(pod, caps) for key, pod in _in(caps, pods)}))
    if before.pods is pods and before.caps == caps:
        return before
    new = changed(before.pods, pods)
    if others := unequal(before.caps, caps):
        new |= dict(_in(others, pods))
    made = {key: _with_caps(pod, caps) for key, pod in new.items()}
    return Capped(caps, pods, before.made.next(made, gone(before.pods, pods)))


def _in(namespaces: Container[str], pods: Pods) -> Iterable[tuple[str, Workload]]:
    return ((key, pod) for key, pod in pods.items() if pod.namespace in namespaces)


def _with_caps(pod: Workload, caps: Mapping[str, PodCaps]) -> Workload:
    found = caps.get(pod.namespace)
    return replace(pod, limits=found[0], shadow_limits=found[1]) if found else pod


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
