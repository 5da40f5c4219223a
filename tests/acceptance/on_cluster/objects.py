"""Kubernetes objects of the acceptance list, and their way into force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.images import TOOLS_IMAGE
from tests.testbed import echo
from tests.testbed.manifests import Document

PORT = 8080
ECHO = Path(echo.__file__).read_text(encoding="utf-8")
SECONDS = 60


def namespace(name: str, **annotations: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}


def account(namespace: str, name: str) -> Document:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}


def pod(namespace: str, name: str, node: str, command: Sequence[str], **spec: Any) -> Document:
    """A pod of one container on that node, labelled app=NAME up to its first dash."""
    container = {"name": "main", "image": TOOLS_IMAGE, "command": list(command), **spec.pop("container", {})}
    labels = {"app": name.partition("-")[0], **spec.pop("labels", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def client(namespace: str, name: str, node: str, **spec: Any) -> Document:
    """A pod to run commands in."""
    return pod(namespace, name, node, ["sleep", "infinity"], **spec)


def server(namespace: str, name: str, node: str, *options: str, **spec: Any) -> Document:
    """A pod that answers what it is asked for (tests/testbed/echo.py), ready when it listens."""
    ready = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    command = ["python3", "-c", ECHO, f"--port={PORT}", f"--name={name}", *options]
    return pod(namespace, name, node, command, container={"readinessProbe": ready}, **spec)


def service(namespace: str, name: str, **selector: str) -> Document:
    """HTTP at port 80."""
    port = {"name": "http", "port": 80, "targetPort": PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": selector, "ports": [port]},
    }


def apply(cluster: Cluster, *documents: Document) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=_listed(documents))


def create_namespace(cluster: Cluster, made: Document, seconds: int = SECONDS) -> None:
    """Applies it, and waits for what pods in it need."""
    apply(cluster, made)
    name = made["metadata"]["name"]
    cluster.kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", f"--timeout={seconds}s")


def delete(cluster: Cluster, *documents: Document) -> None:
    cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=_listed(documents))


def _listed(documents: Sequence[Document]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


def wait_pods(cluster: Cluster, *documents: Document, seconds: int = SECONDS) -> None:
    """Until the pods among them are Ready."""
    for one in documents:
        if one["kind"] == "Pod":
            where = ("-n", one["metadata"]["namespace"])
            name = f"pod/{one['metadata']['name']}"
            cluster.kubectl(*where, "wait", "--for=condition=Ready", name, f"--timeout={seconds}s")


def wait_programmed(cluster: Cluster, *documents: Document) -> None:
    """Until the status of routes and policies says that every node has them in force."""
    for one in documents:
        if one["kind"].endswith(("Policy", "HTTPRoute")):
            of_parent = '{.status.parents[0].conditions[?(@.type=="Programmed")].status}'
            how = f"jsonpath={of_parent}=True" if one["kind"] == "HTTPRoute" else "condition=Programmed"
            name = f"{one['kind'].lower()}/{one['metadata']['name']}"
            where = ("-n", one["metadata"]["namespace"])
            cluster.kubectl(*where, "wait", f"--for={how}", name, f"--timeout={SECONDS}s")


def run(cluster: Cluster, namespace: str, name: str, *command: str) -> str:
    """What a command prints that runs in the pod `name`."""
    return cluster.kubectl("-n", namespace, "exec", name, "-c", "main", "--", *command)
