"""Kubernetes objects that tests apply: pods of the tools image on a chosen node, and Services before them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.images import TOOLS_IMAGE

Document = dict[str, Any]
PORT = 8080
# Answers every GET with its pod's name.
SERVER = f"""\
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["HOSTNAME"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""


def pod(name: str, node: str, command: Sequence[str], **container: Any) -> Document:
    """A pod of one container on the node `node`, labelled app=NAME."""
    described = {"name": "main", "image": TOOLS_IMAGE, "command": list(command), **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [described]},
    }


def server(name: str, node: str) -> Document:
    """A pod that answers with its own name, ready when it does."""
    ready = {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}
    return pod(name, node, ["python3", "-c", SERVER], readinessProbe=ready)


def client(name: str, node: str) -> Document:
    """A pod to run commands in."""
    return pod(name, node, ["sleep", "infinity"])


def service(name: str) -> Document:
    """Port 80 of the pods labelled app=NAME."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def apply(cluster: Cluster, namespace: str, *documents: Document) -> None:
    """Applies them all, and waits for the pods among them to be Ready."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(listed))
    pods = [f"pod/{document['metadata']['name']}" for document in documents if document["kind"] == "Pod"]
    if pods:
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", *pods, "--timeout=60s")


def run(cluster: Cluster, namespace: str, name: str, *command: str) -> str:
    """What a command prints that runs in the pod `name`."""
    return cluster.kubectl("-n", namespace, "exec", name, "--", *command)
