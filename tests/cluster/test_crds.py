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
from hypothesis import HealthCheck, assume, given, settings

from tests.config.verdicts import core_kinds, everything, http_route, mesh_tls, traffic_policy, variants
from tests.config.verdicts.cases import Case, Object
from tests.config.verdicts.ours import dropped_field, refusals

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
# Of the refusals of one channel alone; what either takes, we take.
ONE_CHANNEL = ("should match '^[!-~]+", "Rule name must be unique", "includes 2 or more references to the same parent")
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
    def __init__(self, connection: UnixConnection, *, channel: str) -> None:
        self._connection = connection
        self.channel = channel  # of Gateway API's CRDs

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
    done = subprocess.run(
        [KUBECTL, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    assert not done.returncode, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def proxied(folder: Path) -> Iterator[Api]:
    path = folder / "api.sock"
    with subprocess.Popen([KUBECTL, "proxy", "--unix-socket", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until(path.exists, "kubectl proxy listens")
            connection = UnixConnection(path)
            yield Api(connection, channel=_channel())
            connection.close()
        finally:
            process.terminate()


def _channel() -> str:
    crd = json.loads(kubectl("get", "crd", "httproutes.gateway.networking.k8s.io", "-o", "json"))
    return str(crd["metadata"]["annotations"]["gateway.networking.k8s.io/channel"])


def _wait_until(condition: Any, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CRDS))  # an agent may be installed, by another way
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS / "trafficpolicies.yaml"))
    kubectl("create", "namespace", NAMESPACE)
    try:
        with proxied(tmp_path_factory.mktemp("proxy")) as api:
            elsewhere = next(case for case in everything.OURS if case.kind == "MeshTLS" and _is_elsewhere(case))
            _wait_until(lambda: api.verdict(elsewhere.value), "the admission policy is in force")
            _wait_until(lambda: not api.verdict(core_kinds.POD), "the namespace has its service account")
            yield api
    finally:
        kubectl("delete", "namespace", NAMESPACE)


def _is_elsewhere(case: Case) -> bool:
    target: Object = ((case.value.get("spec") or {}).get("targetRefs") or [{}])[0]
    return bool(target.get("kind") == "Namespace" and target["name"] != NAMESPACE)


@pytest.mark.parametrize("case", everything.CASES, ids=lambda case: case.name)
def test_the_api_server_gives_the_same_verdict_and_names_the_field(case: Case, api: Api) -> None:
    said = api.verdict(case.value)
    if http_route.is_experimental(case.value) and api.channel == "standard":
        assert "unknown field" in said
        return
    refused = bool(case.at) or case.channel not in {"", api.channel}
    assert bool(said) is refused, said
    undecoded = "cannot be handled as" in said  # a time, say: the API server itself cannot tell which
    assert not case.at or undecoded or names(said, case.at), f"does not name {case.at}: {said}"


def names(message: str, field: str) -> bool:
    """The API server names the field of a rule of CEL by its own path; what a rule says of items it says in words."""
    last = field.rpartition(".")[2].partition("[")[0]
    return field in message or last in message


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=variants.of([*everything.OURS, *http_route.CASES]))
def test_whatever_is_put_into_an_object_gets_the_same_verdict(value: Object, api: Api) -> None:
    said, found = api.verdict(value), refusals(value)
    assume(api.channel == "experimental" or not http_route.is_experimental(value))
    newer = value["kind"] == "HTTPRoute" and not found and dropped_field(value)
    of_one_channel = any(text in said for text in ONE_CHANNEL)
    assert newer or of_one_channel or bool(said) is bool(found), (said, found)


NOW = "2026-01-31T12:00:00Z"
CONDITION = {"status": "True", "lastTransitionTime": NOW, "message": "", "observedGeneration": 1}
NODE_STATUS = {
    "conditions": [{**CONDITION, "type": "Ready", "reason": "Ready"},
                   {**CONDITION, "type": "ConfigSynced", "reason": "Synced"}],
    "mode": "Enforcing", "kernel": "6.1.0-32-amd64", "agentVersion": "0.1.0", "layoutVersion": 7,
    "pods": {"enrolled": 12, "failed": 0, "hostNetwork": 3},
}  # fmt: skip
POLICY_STATUS = {
    "conditions": [{**CONDITION, "type": "Accepted", "reason": "Accepted"}],
    "ancestors": [
        {
            "ancestorRef": {"group": "", "kind": "Service", "namespace": NAMESPACE, "name": "cart"},
            "controllerName": "mesh.nodeagent.dev/controller",
            "conditions": [{**CONDITION, "type": "Accepted", "reason": "Accepted"}],
        }
    ],
}


def test_kubectl_shows_what_an_agent_wrote_of_its_node(api: Api) -> None:
    node = {**mesh_tls.MESH_NODE, "metadata": {"name": "verdicts-node"}}
    kubectl("create", "-f", "-", stdin=json.dumps(node))
    try:
        write_status("meshnode", "verdicts-node", NODE_STATUS)
        header, row = kubectl("get", "meshnodes", "verdicts-node").splitlines()
        assert header.split() == ["NAME", "NODE", "READY", "MODE", "KERNEL", "VERSION", "SYNC", "AGE"]
        assert row.split()[1:-1] == ["verdicts-node", "True", "Enforcing", "6.1.0-32-amd64", "0.1.0", "Synced"]
    finally:
        kubectl("delete", "mnode", "verdicts-node")


def test_a_policy_has_its_ancestors_and_its_place_among_all_of_them(api: Api) -> None:
    """Where an agent runs it writes the same, as the policy has a target."""
    kubectl("create", "service", "clusterip", "cart", "--tcp=80", "-n", NAMESPACE)
    kubectl("create", "-f", "-", stdin=json.dumps(traffic_policy.BASE))
    try:
        write_status("tpol", "cart", POLICY_STATUS, "-n", NAMESPACE)
        header, _ = kubectl("get", "tpol", "-n", NAMESPACE).splitlines()
        assert header.split() == ["NAME", "TARGET-KIND", "TARGET", "MODE", "ACCEPTED", "PROGRAMMED", "AGE"]
        _wait_until(lambda: shown()[:4] == ["cart", "Service", "cart", "True"], "it is shown as accepted")
    finally:
        kubectl("delete", "service", "cart", "-n", NAMESPACE)
    assert "trafficpolicy.mesh.nodeagent.dev/cart" in kubectl("get", "nodeagent", "-n", NAMESPACE, "-o", "name")


def shown() -> list[str]:
    """Its mode is empty; so is Programmed, unless an agent runs."""
    _, row = kubectl("get", "tpol", "-n", NAMESPACE).splitlines()
    return row.split()


def write_status(kind: str, name: str, status: Object, *where: str) -> None:
    patch = json.dumps({"status": status})
    kubectl("patch", kind, name, *where, "--subresource=status", "--type=merge", "-p", patch)
