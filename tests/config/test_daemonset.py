"""The manifests in daemonset/: what they ask for is what is meant, and what they pass to the program it knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from nodeagent.agent.preflight import BPF_CAPABILITY, CAPABILITIES
from nodeagent.cli.cluster_checks import GATEWAY_CRD, OUR_CRDS
from nodeagent.cli.main import cli

ROOT = Path(__file__).resolve().parents[2] / "daemonset"
BASE = ROOT / "base"
Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def daemonset(path: Path = BASE / "daemonset.yaml") -> Document:
    [found] = [one for one in documents(path) if one["kind"] == "DaemonSet"]
    spec: Document = found["spec"]["template"]["spec"]
    return spec


AGENT: Document = daemonset()["containers"][0]
COMPILER: Document = daemonset()["initContainers"][0]
UNINSTALL: Document = daemonset(ROOT / "uninstall" / "uninstall.yaml")["initContainers"][0]
CONTAINERS = [AGENT, COMPILER, UNINSTALL]


def command_of(args: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    rest = list(args)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest.pop(0))
        assert found is not None, args
        command = found
    return command, rest


def patched_arguments() -> list[str]:
    """What the overlays add to the agent's."""
    found = []
    for path in sorted((ROOT / "overlays").glob("*/kustomization.yaml")):
        for patch in documents(path)[0].get("patches", []):
            found += [one["value"] for one in yaml.safe_load(patch["patch"]) if one["path"].endswith("/args/-")]
    return found


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: one["name"])
def test_the_program_knows_every_argument(container: Document) -> None:
    command, rest = command_of(container["args"])
    more = patched_arguments() if container is AGENT else []
    parsed, _, _ = command.make_parser(click.Context(command)).parse_args([*rest, *more])
    assert parsed or not rest


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: one["name"])
def test_no_container_is_privileged_and_every_capability_is_named(container: Document) -> None:
    context = container["securityContext"]
    assert not context.get("privileged", False)
    assert context["readOnlyRootFilesystem"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" in context["capabilities"]["add"] or context["allowPrivilegeEscalation"] is False


def test_each_capability_of_the_agent_has_its_reason_beside_it() -> None:
    text = (BASE / "daemonset.yaml").read_text()
    for name in AGENT["securityContext"]["capabilities"]["add"]:
        about = re.search(rf"^( *)- {name} *(#.*)?$", text, re.MULTILINE)
        assert about
        above = text[: about.start()].rstrip().splitlines()[-1]
        assert about[2] or "#" in above or re.search(r"- SET\w+$", above), f"{name} has no reason"


def test_the_agent_gets_what_it_checks_for_at_start() -> None:
    granted = set(AGENT["securityContext"]["capabilities"]["add"])
    assert BPF_CAPABILITY
    assert granted >= {*CAPABILITIES.values(), "BPF"}


@pytest.mark.parametrize("container", [AGENT, COMPILER], ids=lambda one: one["name"])
def test_memory_that_is_requested_is_the_limit(container: Document) -> None:
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


def test_the_compiler_writes_where_the_agent_reads() -> None:
    def place(container: Document) -> str:
        [found] = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "bytecode"]
        return str(found)

    assert f"--into={place(COMPILER)}" in COMPILER["args"]
    assert f"ENV NODEAGENT_BYTECODE={place(AGENT)}\n" in (ROOT / "Dockerfile").read_text()


def test_only_the_agent_has_a_token() -> None:
    spec = daemonset()
    assert spec["automountServiceAccountToken"] is False
    assert "token" in {one["name"] for one in AGENT["volumeMounts"]}
    assert "token" not in {one["name"] for one in COMPILER["volumeMounts"]}


def rules() -> list[Document]:
    roles = [one for one in documents(BASE / "rbac.yaml") if one["kind"] in {"ClusterRole", "Role"}]
    return [rule for role in roles for rule in role["rules"]]


def test_the_agent_may_read_and_write_what_is_listed_and_nothing_by_wildcard() -> None:
    for rule in rules():
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
    resources = {resource for rule in rules() for resource in rule["resources"]}
    assert not resources & {"secrets", "configmaps", "serviceaccounts", "pods/exec", "nodes/proxy", "nodes/status"}
    assert not {verb for rule in rules() for verb in rule["verbs"]} & {"delete", "deletecollection", "impersonate"}


def test_what_an_agent_may_write_without_an_owner_is_bound_to_its_node_by_admission() -> None:
    """RBAC grants it for all nodes."""
    written = {
        resource
        for rule in rules()
        for resource in rule["resources"]
        if {"create", "update", "patch"} & set(rule["verbs"]) and not rule.get("resourceNames")
    }
    policies = [one for one in documents(BASE / "admission.yaml") if one["kind"] == "ValidatingAdmissionPolicy"]
    bound = {
        resource
        for policy in policies
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for resource in rule["resources"]
    }
    by_leader = {one for one in written if one.endswith("/status")} - {"meshnodes/status"}
    assert written - by_leader - {"events", "leases"} == bound


def test_the_agent_may_ask_for_each_crd_that_doctor_looks_for() -> None:
    """By name: the right to read others says what else is installed."""
    [rule] = [one for one in rules() if one["resources"] == ["customresourcedefinitions"]]
    assert sorted(rule["resourceNames"]) == sorted([GATEWAY_CRD, *OUR_CRDS])
    installed = [one for path in (ROOT / "crds").glob("*.yaml") for one in documents(path)]
    assert set(OUR_CRDS) == {
        one["metadata"]["name"] for one in installed if one["kind"] == "CustomResourceDefinition"
    }


def test_every_admission_policy_is_bound_to_deny() -> None:
    for path in (BASE / "admission.yaml", ROOT / "overlays" / "strict" / "closed.yaml"):
        found = documents(path)
        names = {one["metadata"]["name"] for one in found if one["kind"] == "ValidatingAdmissionPolicy"}
        bindings = [one["spec"] for one in found if one["kind"] == "ValidatingAdmissionPolicyBinding"]
        assert {one["policyName"] for one in bindings if one["validationActions"] == ["Deny"]} == names


def test_each_file_of_a_folder_is_in_its_kustomization() -> None:
    for path in sorted(ROOT.glob("**/kustomization.yaml")):
        [listed] = documents(path)
        beside = {one.name for one in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert {one for one in listed["resources"] if one.endswith(".yaml")} == beside
        for one in listed["resources"]:
            assert (path.parent / one).exists(), f"{path}: {one}"


def test_both_images_have_the_same_tag() -> None:
    [base] = documents(BASE / "kustomization.yaml")
    assert {one["name"]: one["newTag"] for one in base["images"]} == {"nodeagent": "0.1.0", "nodeagent-init": "0.1.0"}


def test_an_update_surges_and_the_agents_replace_each_other_by_pods_of_their_own() -> None:
    [found] = [one for one in documents(BASE / "daemonset.yaml") if one["kind"] == "DaemonSet"]
    assert found["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert {"--takeover", "--keep-attached"} <= set(AGENT["args"])
    [file] = [Path(one.removeprefix("--stand-by=")) for one in AGENT["args"] if one.startswith("--stand-by=")]
    [volume] = [one["name"] for one in AGENT["volumeMounts"] if one["mountPath"] == str(file.parent)]
    volumes = {one["name"]: one for one in found["spec"]["template"]["spec"]["volumes"]}
    assert "emptyDir" in volumes[volume], "its pod's age is not that of another pod"
    assert not daemonset().get("hostNetwork"), "two agents of a node would share the port of /metrics"
