"""Kubernetes objects as dicts, and the directory of YAML files that an agent watches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
GROUP = "mesh.nodeagent.dev"


@dataclass(frozen=True)
class Manifests:
    """A directory of manifests.  Files appear whole (written beside, then renamed), as editors do it."""

    path: Path

    def write(self, name: str, *documents: Document) -> Path:
        return self.write_text(name, yaml.safe_dump_all(documents, sort_keys=False))

    def write_text(self, name: str, text: str) -> Path:
        target = self.path / name
        beside = self.path / f".{name}.new"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, target)
        return target

    def remove(self, name: str) -> None:
        (self.path / name).unlink()


def namespace(name: str, *, enrolled: bool = True, annotations: Mapping[str, str] | None = None) -> Document:
    labels = {f"{GROUP}/dataplane": "enabled"} if enrolled else {}
    return _object("v1", "Namespace", {"name": name, "labels": labels, "annotations": dict(annotations or {})})


def pod(
    namespace: str,
    name: str,
    addresses: Sequence[str],
    netns: Path,
    *,
    service_account: str = "default",
    labels: Mapping[str, str] | None = None,
    workload: str = "",
    ports: Mapping[str, int] | None = None,
) -> Document:
    """A running Pod.  `workload` names its Deployment: it then owns the pod by way of a ReplicaSet."""
    metadata: Document = {
        "namespace": namespace,
        "name": name,
        "labels": dict(labels or {}),
        "annotations": {f"{GROUP}/netns": str(netns)},
    }
    if workload:
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-7d4b9c", "controller": True}
        metadata["ownerReferences"] = [{**owner, "uid": f"uid-{workload}"}]
        metadata["labels"] = {"pod-template-hash": "7d4b9c", **metadata["labels"]}
    container: Document = {"name": "app", "image": "app"}
    if ports:
        container["ports"] = [{"name": key, "containerPort": value} for key, value in ports.items()]
    return {
        **_object("v1", "Pod", metadata),
        "spec": {"serviceAccountName": service_account, "containers": [container]},
        "status": {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]},
    }


def service(
    namespace: str,
    name: str,
    addresses: Sequence[str],
    *,
    port: int = 80,
    target_port: int | str = 8080,
    port_name: str = "http",
    app_protocol: str | None = "http",
    selector: Mapping[str, str] | None = None,
) -> Document:
    one: Document = {"name": port_name, "port": port, "targetPort": target_port, "protocol": "TCP"}
    if app_protocol:
        one["appProtocol"] = app_protocol
    spec: Document = {"clusterIP": addresses[0], "clusterIPs": list(addresses), "type": "ClusterIP", "ports": [one]}
    if selector:
        spec["selector"] = dict(selector)
    return {**_object("v1", "Service", {"namespace": namespace, "name": name}), "spec": spec}


def endpoint_slice(
    namespace: str,
    service: str,
    addresses: Iterable[str],
    *,
    port: int = 8080,
    port_name: str = "http",
    suffix: str = "1",
) -> Document:
    """One slice of `service` with ready endpoints; the address family is that of the first address."""
    hosts = list(addresses)
    return {
        **_object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            {"namespace": namespace, "name": f"{service}-{suffix}", "labels": {"kubernetes.io/service-name": service}},
        ),
        "addressType": "IPv6" if hosts and ":" in hosts[0] else "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host in hosts],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


def http_route(
    namespace: str, name: str, service: str, rules: Sequence[Document], *, port: int | None = None
) -> Document:
    parent: Document = {"group": "", "kind": "Service", "name": service}
    if port is not None:
        parent["port"] = port
    return {
        **_object("gateway.networking.k8s.io/v1", "HTTPRoute", {"namespace": namespace, "name": name}),
        "spec": {"parentRefs": [parent], "rules": list(rules)},
    }


def backend(service: str, weight: int, port: int = 80) -> Document:
    return {"name": service, "port": port, "weight": weight}


def authorization_policy(
    namespace: str, name: str, service: str, *, action: str, level: str, rules: Sequence[Document]
) -> Document:
    return {
        **_object(f"{GROUP}/v1alpha1", "AuthorizationPolicy", {"namespace": namespace, "name": name}),
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": service}],
            "action": action,
            "enforcementLevel": level,
            "rules": list(rules),
        },
    }


def traffic_policy(namespace: str, name: str, *targets: Document, **spec: Any) -> Document:
    metadata = {"namespace": namespace, "name": name}
    policy = _object(f"{GROUP}/v1alpha1", "TrafficPolicy", metadata)
    return {**policy, "spec": {"targetRefs": list(targets), **spec}}


def rate_limit_policy(namespace: str, name: str, *targets: Document, **spec: Any) -> Document:
    return {**traffic_policy(namespace, name, *targets, **spec), "kind": "RateLimitPolicy"}


def _object(api_version: str, kind: str, metadata: Document) -> Document:
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
