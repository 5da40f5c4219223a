"""daemonset/crds: written from the tables, complete, bounded, and with CEL for every rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.config import crds
from nodeagent.config.cel import Cel, InCel, in_cel
from nodeagent.config.openapi import NotStructuralError, structural
from nodeagent.config.schema import Anything, Fields, Items, Schema, Text, Whole
from nodeagent.config.schemas.descriptions import DESCRIPTIONS

DIRECTORY = Path(__file__).resolve().parents[2] / "daemonset" / "crds"
LISTED = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())["resources"]
OURS = {"TrafficPolicy": "tpol", "RateLimitPolicy": "rlpol", "AuthorizationPolicy": "authz", "MeshTLS": "mtls"}
Node = dict[str, Any]


def definitions() -> list[Node]:
    return [yaml.safe_load(text) for name, text in crds.files().items() if name != "admission.yaml"]


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every schema inside of a CRD's, by its path of names."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}".lstrip("."))
    if "items" in node:
        yield from nodes(node["items"], path)


def schema_of(definition: Node) -> Node:
    (version,) = definition["spec"]["versions"]
    schema: Node = version["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("name", sorted(crds.files()))
def test_a_file_is_what_the_tables_say(name: str) -> None:
    """Else: python -m nodeagent.config.crds daemonset/crds"""
    assert (DIRECTORY / name).read_text(encoding="utf-8") == crds.files()[name]


def test_the_kustomization_has_all_files_and_no_other_is_there() -> None:
    assert sorted(LISTED) == sorted(crds.files())
    assert {path.name for path in DIRECTORY.iterdir()} == {*LISTED, "kustomization.yaml"}


def test_the_five_kinds_have_their_scope_short_name_and_label() -> None:
    found = {one["spec"]["names"]["kind"]: one for one in definitions()}
    assert found.keys() == {*OURS, "MeshNode"}
    for kind, short in {**OURS, "MeshNode": "mnode"}.items():
        spec = found[kind]["spec"]
        assert (spec["group"], spec["names"]["shortNames"]) == ("mesh.nodeagent.dev", [short])
        assert spec["scope"] == ("Namespaced" if kind in OURS else "Cluster")
        labels = found[kind]["metadata"].get("labels", {})
        assert ("gateway.networking.k8s.io/policy" in labels) is (kind in OURS)
        assert spec["versions"][0]["subresources"] == {"status": {}}


def test_meshnodes_print_the_columns_that_an_operator_looks_for() -> None:
    (node,) = [one for one in definitions() if one["spec"]["names"]["kind"] == "MeshNode"]
    columns = node["spec"]["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"].upper() for column in columns if not column.get("priority")]
    assert narrow == ["NODE", "READY", "MODE", "KERNEL", "VERSION", "SYNC", "AGE"]


@pytest.mark.parametrize("definition", definitions(), ids=lambda one: str(one["spec"]["names"]["kind"]))
def test_every_text_and_list_has_a_bound_and_every_field_a_description(definition: Node) -> None:
    kind = definition["spec"]["names"]["kind"]
    for path, node in nodes(schema_of(definition)):
        if path in {"apiVersion", "kind", "metadata"}:
            continue
        if node.get("type") == "string":
            assert "enum" in node or "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        assert path in DESCRIPTIONS[kind], path


@pytest.mark.parametrize("definition", definitions(), ids=lambda one: str(one["spec"]["names"]["kind"]))
def test_no_description_is_of_a_field_that_is_gone(definition: Node) -> None:
    known = {path for path, _ in nodes(schema_of(definition))}
    assert set(DESCRIPTIONS[definition["spec"]["names"]["kind"]]) <= known


@pytest.mark.parametrize("definition", definitions(), ids=lambda one: str(one["spec"]["names"]["kind"]))
def test_a_rule_names_a_field_that_is_there_and_says_what_is_wrong(definition: Node) -> None:
    for path, node in nodes(schema_of(definition)):
        for rule in node.get("x-kubernetes-validations", []):
            inner = node
            for name in rule.get("fieldPath", "").split(".")[1:]:
                inner = inner["properties"][name]
            assert rule["message"].strip(), path
            assert "namespace)" not in re.sub(r"__namespace__", "", rule["rule"]), "a word that CEL reserves"


def test_a_rule_without_cel_cannot_go_into_a_crd() -> None:
    with pytest.raises(NotStructuralError, match="spec: a rule has no CEL"):
        structural(Fields({}, rules=(lambda _value: [],)), "spec", {})


@pytest.mark.parametrize("schema", [Text(), Items(Whole()), Anything()])
def test_what_has_no_bound_cannot_go_into_a_crd(schema: Schema) -> None:
    with pytest.raises(NotStructuralError, match=r"spec\.x: "):
        structural(Fields({"x": schema}), "spec", {})


def test_a_rule_keeps_its_python_beside_its_cel() -> None:
    @in_cel(Cel("self.a", "a must be true", ".a"))
    def rule(value: Node) -> list[str]:
        return [] if value["a"] else ["a"]

    assert isinstance(rule, InCel)
    assert rule({"a": False}) == ["a"]
    made = structural(Fields({"a": Whole()}, rules=(rule,)), "", {})  # type: ignore[arg-type]  # errors are not asked
    assert made["x-kubernetes-validations"] == [{"rule": "self.a", "message": "a must be true", "fieldPath": ".a"}]


def test_a_key_of_optional_fields_is_a_rule_and_one_of_required_fields_a_list_map() -> None:
    item = Fields({"a": Text(most=1), "b": Text(most=1)}, ("a",))
    both = structural(Items(item, most=2, unique=("a", "b")), "", {})
    one = structural(Items(item, most=2, unique=("a",)), "", {})
    assert (both["x-kubernetes-list-type"], len(both["x-kubernetes-validations"])) == ("atomic", 1)
    assert (one["x-kubernetes-list-type"], one["x-kubernetes-list-map-keys"]) == ("map", ["a"])
