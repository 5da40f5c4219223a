"""Pods to workloads: who is enrolled, and what its namespace asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nodeagent.config.resources import NamespaceObject, PodObject
from nodeagent.core.model import FailMode, Workload
from nodeagent.core.traffic import PodLimits

PodCaps = tuple[PodLimits | None, PodLimits | None]  # that are enforced, and in DryRun

DATAPLANE = "mesh.nodeagent.dev/dataplane"
FAIL_MODE = "mesh.nodeagent.dev/fail-mode"
UNPOLICED = "mesh.nodeagent.dev/unpoliced-connections"
_NO_NAMESPACE = NamespaceObject("")


def workloads(pods: Mapping[str, PodObject], namespaces: Mapping[str, NamespaceObject]) -> dict[str, Workload]:
    """Every pod by "namespace/name", enrolled or not: all of them can be callers and targets."""
    return {key: _workload(pod, namespaces.get(pod.namespace, _NO_NAMESPACE)) for key, pod in pods.items()}


def is_enrolled(pod: PodObject, namespace: NamespaceObject) -> bool:
    """The pod's label decides when it has one; a pod in the node's own network namespace never is."""
    wish = pod.dataplane or namespace.labels.get(DATAPLANE, "")
    return wish == "enabled" and not pod.host_network


def capped(pods: Mapping[str, Workload], caps: Mapping[str, PodCaps]) -> dict[str, Workload]:
    """The same pods, with what `caps` says of their namespaces."""
    found = dict(pods)
    for key, pod in pods.items():
        if pod.namespace in caps:
            limits, shadow = caps[pod.namespace]
            found[key] = replace(pod, limits=limits, shadow_limits=shadow)
    return found


def _workload(pod: PodObject, namespace: NamespaceObject) -> Workload:
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
    )
