"""Objects as an API server sends them: with much that is not read."""

from __future__ import annotations

import json
from typing import Any

from nodeagent.kube.kinds import BY_NAME, Kind
from nodeagent.kube.records import Record, read_page
from tests.kube.model import Server, Value

NOISE: dict[str, Any] = {
    "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}],
    "finalizers": ["example.com/keep"],
    "creationTimestamp": "2026-01-01T00:00:00Z",
}
OURS = "mesh.nodeagent.dev/v1alpha1"


def metadata(namespace: str, name: str, **more: Any) -> Value:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "uid": f"uid-of-{name}", "generation": 1, **NOISE, **more}


def pod(namespace: str, name: str, address: str = "10.0.0.1", node: str = "n1", **more: Any) -> Value:
    """As in a list: without apiVersion and kind."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "u", "controller": True}
    labels = {"app": "web", "pod-template-hash": "abc", "mesh.nodeagent.dev/dataplane": "enabled"}
    return {
        "metadata": metadata(namespace, name, labels=labels, ownerReferences=[owner], **more),
        "spec": {
            "nodeName": node,
            "serviceAccountName": "web",
            "containers": [{"name": "app", "image": "app:1", "env": [{"name": "A", "value": "b"}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def namespace(name: str, labels: dict[str, str] | None = None) -> Value:
    return {"metadata": metadata("", name, labels={"kubernetes.io/metadata.name": name, **(labels or {})})}


def policy(namespace: str, name: str, service: str = "cart", action: str = "DENY", **spec: Any) -> Value:
    return {
        "apiVersion": OURS,
        "kind": "AuthorizationPolicy",
        "metadata": metadata(namespace, name),
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": service}],
            "action": action,
            "enforcementLevel": "Application",
            "rules": [{"http": {"methods": ["PUT"]}}],
            **spec,
        },
        "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
    }


def service(namespace: str, name: str, address: str = "10.96.0.10") -> Value:
    return {
        "metadata": metadata(namespace, name, annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"}),
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "type": "ClusterIP",
            "selector": {"app": name},
            "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"}],
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(namespace: str, service: str, *addresses: str) -> Value:
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "x"}
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": "p", "uid": "u"},
        }
        for address in addresses
    ]
    return {
        "metadata": metadata(namespace, f"{service}-x1", labels=labels),
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def path(kind: str) -> str:
    return BY_NAME[kind].path


def record(kind: Kind, value: Value) -> Record:
    """As it comes out of a list of one."""
    server = Server(kind.path)
    server.put(kind.path, value)
    return read_page(kind, server.page(kind.path, 10, "")).records[0]


def decoded(row: bytes) -> Value:
    found: Value = json.loads(row)
    return found
