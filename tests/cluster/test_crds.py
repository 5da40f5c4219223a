"""The manifest directory's verdict equals a real API server's, object by object; a refusal names the field.

Needs a cluster: KUBECONFIG (and KUBECTL, a kubectl that reaches it), with Gateway API's CRDs of either channel.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.config.verdicts import everything
from tests.config.verdicts.cases import Case, Object

CRDS = Path(__file__).resolve().parents[2] / "daemonset" / "crds"
KUBECTL = os.environ.get("KUBECTL", "kubectl")
NAMESPACE = "verdicts"
PLURALS = {
    "AuthorizationPolicy": "authorizationpolicies",
    "EndpointSlice": "endpointslices",
    "HTTPRoute": "httproutes",
    "MeshNode": "meshnodes",
    "MeshTLS": "meshtls",
    "Namespace": "namespaces",
    "Pod": "pods",
    "RateLimitPolicy": "ratelimitpolicies",
    "Service": "services",
    "TrafficPolicy": "trafficpolicies",
}
CLUSTER_SCOPED = ("Namespace", "MeshNode")


class UnixConnection(http.client.HTTPConnection):
    """To `kubectl proxy`, which knows the way to the API server and who we are."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Api:
    def __init__(self, connection: UnixConnection) -> None:
        self._connection = connection

    def verdict(self, value: Object) -> str:
        """What the API server would not take of the object; "" if it would create it.  Nothing is created."""
        status, answer = self._post(f"{_collection(value)}?dryRun=All&fieldValidation=Strict", value)
        if status == 201:
            return ""
        assert status in (400, 403, 422), answer  # 500 and 404 are no verdicts
        return str(answer["message"])

    def _post(self, path: str, value: Object) -> tuple[int, Any]:
        self._connection.request("POST", path, json.dumps(value), {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def _collection(value: Object) -> str:
    version, kind = value["apiVersion"], value["kind"]
    namespace = (value.get("metadata") or {}).get("namespace") or "default"
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/{PLURALS[kind]}" if kind in CLUSTER_SCOPED else f"{root}/namespaces/{namespace}/{PLURALS[kind]}"


def kubectl(*arguments: str, stdin: str = "") -> str:
    return subprocess.run(
        [KUBECTL, *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@contextmanager
def proxied(folder: Path) -> Iterator[Api]:
    path = folder / "api.sock"
    with subprocess.Popen([KUBECTL, "proxy", "--unix-socket", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until(path.exists, "kubectl proxy listens")
            connection = UnixConnection(path)
            yield Api(connection)
            connection.close()
        finally:
            process.terminate()


def _wait_until(condition: Any, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    kubectl("apply", "--server-side", "-k", str(CRDS))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS / "trafficpolicies.yaml"))
    kubectl("create", "namespace", NAMESPACE)
    try:
        with proxied(tmp_path_factory.mktemp("proxy")) as api:
            elsewhere = next(case for case in everything.OURS if case.kind == "MeshTLS" and _is_elsewhere(case))
            _wait_until(lambda: api.verdict(elsewhere.value), "the admission policy is in force")
            yield api
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _is_elsewhere(case: Case) -> bool:
    target: Object = ((case.value.get("spec") or {}).get("targetRefs") or [{}])[0]
    return bool(target.get("kind") == "Namespace" and target["name"] != NAMESPACE)


@pytest.mark.parametrize("case", everything.CASES, ids=lambda case: case.name)
def test_the_api_server_gives_the_same_verdict_and_names_the_field(case: Case, api: Api) -> None:
    said = api.verdict(case.value)
    assert bool(said) is bool(case.at), said
    undecoded = "cannot be handled as" in said  # a time, say: the API server itself cannot tell which
    assert not case.at or undecoded or names(said, case.at), f"does not name {case.at}: {said}"


def names(message: str, field: str) -> bool:
    """The API server names the field of a rule of CEL by its own path; what a rule says of items it says in words."""
    last = field.rpartition(".")[2].partition("[")[0]
    return field in message or last in message
