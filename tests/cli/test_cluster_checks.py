"""What doctor says of a cluster, from answers that a test makes up; what it asks for is what the ClusterRole grants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.agent.preflight import Finding, Level
from nodeagent.cli import checks
from nodeagent.cli.cluster_checks import (
    CRD_PATH,
    GATEWAY_CRD,
    OUR_CRDS,
    REVIEW_PATH,
    Cluster,
    Right,
    clock_finding,
    cluster_checks,
    gateway_finding,
    needed,
)
from nodeagent.core.own_taint import TAINT
from nodeagent.kube.api import ApiError

RBAC = Path(__file__).resolve().parents[2] / "daemonset" / "base" / "rbac.yaml"
NODE = "/api/v1/nodes/node1"


def crd(version: str = "v1.6.3", channel: str = "standard", served: tuple[str, ...] = ("v1",)) -> dict[str, Any]:
    prefix = "gateway.networking.k8s.io"
    annotations = {f"{prefix}/bundle-version": version, f"{prefix}/channel": channel}
    versions = [{"name": name, "served": True} for name in served]
    return {"metadata": {"annotations": annotations}, "spec": {"versions": versions}}


@dataclass
class Server:
    """Answers from `objects`; 404 for what is not there."""

    objects: dict[str, Any] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    stamp: str = ""
    refuses: set[str] = field(default_factory=set)

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        if path in self.refuses:
            raise ApiError(403, "forbidden")
        if path not in self.objects:
            raise ApiError(404, "not found")
        return json.dumps(self.objects[path]).encode()

    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        assert method == "POST"
        if path == REVIEW_PATH:
            asked = body["spec"]["resourceAttributes"]
            allowed = f"{asked['verb']} {asked['resource']}" not in self.denied
            return json.dumps({"status": {"allowed": allowed}}).encode()
        assert path == "/api/v1/namespaces/mesh/events?dryRun=All"
        return json.dumps({"metadata": {"creationTimestamp": self.stamp}}).encode()


@pytest.fixture
def server() -> Server:
    """A cluster in which all is well."""
    objects: dict[str, Any] = {f"{CRD_PATH}/{name}": crd() for name in (*OUR_CRDS, GATEWAY_CRD)}
    return Server(objects | {"/version": {}, NODE: {"metadata": {"resourceVersion": "1"}, "spec": {}}}, stamp=now())


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def findings(server: Server, *, ready: bool = True) -> dict[str, Finding]:
    found = asyncio.run(cluster_checks(Cluster(server, "mesh", "node1", ready)))
    assert all(one.what and one.why and one.fix for one in found if one.level is not Level.OK)
    return {one.check: one for one in found}


def test_a_cluster_in_which_all_is_well(server: Server) -> None:
    found = findings(server)
    assert {one.level for one in found.values()} == {Level.OK}
    assert found.keys() == {"CRDs", "Gateway API", "rights", "taint", "clock"}
    assert found["Gateway API"].what == "Gateway API v1.6.3, channel standard"


def test_crds_that_are_missing_are_named(server: Server) -> None:
    del server.objects[f"{CRD_PATH}/meshnodes.mesh.nodeagent.dev"], server.objects[f"{CRD_PATH}/{GATEWAY_CRD}"]
    found = findings(server)
    assert (found["CRDs"].level, found["CRDs"].what) == (Level.ERROR, "not installed: meshnodes.mesh.nodeagent.dev")
    assert found["Gateway API"].level is Level.WARNING


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (crd("v1.1.0"), Level.OK),
        (crd("v1.6.3", "experimental", ("v1", "v1beta1")), Level.OK),
        (crd("v1.0.0"), Level.ERROR),
        (crd("v0.8.1", served=("v1beta1",)), Level.ERROR),
        (crd("unreadable"), Level.OK),
        ({"metadata": {}, "spec": {"versions": [{"name": "v1", "served": False}]}}, Level.ERROR),
    ],
)
def test_a_gateway_api_without_routes_of_services_is_too_old(found: dict[str, Any], level: Level) -> None:
    assert gateway_finding(found).level is level


def test_rights_that_are_missing_are_named(server: Server) -> None:
    server.denied = {"list httproutes", "watch httproutes", "create leases"}
    found = findings(server)["rights"]
    assert found.level is Level.ERROR
    words = "list, watch httproutes.gateway.networking.k8s.io; create leases.coordination.k8s.io in namespace mesh"
    assert found.what == f"may not: {words}"


def granted(right: Right) -> bool:
    """By the roles of the base."""
    asked = right.attributes()
    resource = asked["resource"] + (f"/{asked['subresource']}" if "subresource" in asked else "")
    for role in yaml.safe_load_all(RBAC.read_text()):
        if role["kind"] != ("Role" if right.namespace else "ClusterRole"):
            continue
        for rule in role["rules"]:
            names = rule.get("resourceNames", [asked.get("name")])
            if (
                asked.get("group", "") in rule["apiGroups"]
                and resource in rule["resources"]
                and asked["verb"] in rule["verbs"]
                and asked.get("name") in names
            ):
                return True
    return False


def test_what_is_checked_is_what_the_roles_grant() -> None:
    assert [str(right) for right in needed("nodeagent") if not granted(right)] == []


@pytest.mark.parametrize(("ready", "level"), [(True, Level.ERROR), (False, Level.WARNING)])
def test_a_taint_is_a_fault_only_once_the_agent_is_ready(server: Server, ready: bool, level: Level) -> None:
    server.objects[NODE]["spec"] = {"taints": [{"key": TAINT, "effect": "NoExecute"}]}
    assert findings(server, ready=ready)["taint"].level is level


@pytest.mark.parametrize(
    ("before", "stamped", "after", "level"),
    [
        (100.9, 100, 101.0, Level.OK),  # whole seconds
        (100.0, 105, 100.1, Level.OK),
        (100.0, 107, 100.1, Level.WARNING),
        (100.0, 93, 100.1, Level.WARNING),
        (100.0, 108, 130.0, Level.OK),  # a slow answer proves nothing
    ],
)
def test_the_clock_is_off_only_if_it_must_be(before: float, stamped: float, after: float, level: Level) -> None:
    assert clock_finding(before, stamped, after).level is level


def test_an_api_server_that_does_not_answer_is_one_finding(server: Server) -> None:
    del server.objects["/version"]
    [found] = findings(server).values()
    assert (found.level, found.check) == (Level.ERROR, "API server")


def test_a_question_that_is_refused_does_not_keep_the_others_from_being_asked(server: Server) -> None:
    server.refuses = {NODE}
    found = findings(server)
    assert (found["taint"].level, "forbidden" in found["taint"].what) == (Level.WARNING, True)
    assert found["clock"].level is Level.OK


@pytest.mark.parametrize(
    ("name", "words"), [("cil_sock4_conne", "Cilium"), ("calico_connect_", "Calico"), ("else", "has the last word")]
)
def test_a_replacement_of_kube_proxy_is_known_by_its_programs(name: str, words: str) -> None:
    why, fix = checks.about_foreign(name, "/sys/fs/cgroup")
    assert words in why
    assert fix
