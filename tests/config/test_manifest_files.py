"""One file: which objects it defines, which line each fault gets, and when it counts as incomplete."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.manifest_files import read_manifest_file
from nodeagent.config.objects import merge
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

SAMPLES: list[Document] = [
    *some.callers(),
    *some.service("cart"),
    manifests.http_route(
        "shop",
        "r",
        "cart",
        [{"matches": [{"path": {"type": "Exact", "value": "/a"}}], "backendRefs": [manifests.backend("cart", 1)]}],
    ),
    some.policy("p", "DENY", [{"sources": [{"cidr": "10.0.0.0/8"}], "http": {"hosts": ["cart"]}}]),
]
junk: st.SearchStrategy[object] = st.sampled_from(
    (None, True, -1, 70000, 0.5, "", "x", "/", "10.0.0.1/8", [], [None], {}, {"x": 1}, "\ud7ff", [[]])
)


def lines(text: str) -> list[str]:
    file = some.read("a.yaml", text)
    return [str(problem) for problem in (*file.problems, *(p for entry in file.entries for p in entry.problems))]


def test_a_line_names_file_line_document_object_field_and_fault() -> None:
    text = some.text(manifests.namespace("x"), some.policy("p", "DENY", [{"sources": [{"cidr": "10.0.0.1/8"}]}]))
    (line,) = lines(text)
    number = text[: text.index("cidr")].count("\n") + 1
    where = f"a.yaml:{number} (document 2): AuthorizationPolicy shop/p: spec.rules[0].sources[0].cidr: "
    assert line.startswith(where)


def test_the_items_of_a_list_are_objects_with_paths_of_their_own() -> None:
    inner = {"apiVersion": "v1", "kind": "List", "items": [manifests.namespace("y")]}
    bad = some.pod("shop", "web", "not an address")
    file = some.read("a.yaml", some.text({"apiVersion": "v1", "kind": "List", "items": [inner, bad]}))
    assert [str(entry.identity) for entry in file.entries] == ["Namespace y", "Pod shop/web"]
    assert file.entries[1].problems[0].field == "items[1].status.podIP"


@pytest.mark.parametrize("items", ["{}", "null", "all"])
def test_a_list_without_a_list_is_a_fault(items: str) -> None:
    file = some.read("a.yaml", f"apiVersion: v1\nkind: List\nitems: {items}\n")
    assert [problem.field for problem in file.problems] == ["items"]
    assert file.incomplete


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("v1", "ServiceAccount"),
        ("serving.knative.dev/v1", "Service"),
    ],
)
def test_objects_of_others_are_passed_over_in_silence(version: str, kind: str) -> None:
    file = some.read("a.yaml", f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n")
    assert (file.entries, file.problems, file.incomplete) == ([], [], False)


@pytest.mark.parametrize(
    ("version", "kind", "word"),
    [
        ("v2", "Pod", "expected v1"),
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute", "expected gateway.networking.k8s.io/v1"),
        ("mesh.nodeagent.com/v1alpha1", "AuthorizationPolicy", "expected mesh.nodeagent.dev/v1alpha1"),
        ("v1", "pod", 'did you mean "Pod"?'),
        ("gateway.networking.k8s.io/v1", "HttpRoute", 'did you mean "HTTPRoute"?'),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", "not read by this release"),
        ("gateway.networking.k8s.io/v1", "Gateway", "not read by this release"),
    ],
)
def test_a_slip_in_version_or_kind_is_said(version: str, kind: str, word: str) -> None:
    (line,) = lines(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert word in line


def test_a_fault_that_hides_the_kind_is_never_lost() -> None:
    (line,) = lines("apiVersion: v1\nkind: ConfigMap\nkind: Pod\nmetadata: {name: x}\n")
    assert "key 'kind' is already set" in line


def test_json_is_read_too() -> None:
    assert not lines(json.dumps(SAMPLES[0]))


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    file = read_manifest_file("a.yaml", data)
    assert file.entries or file.problems


@given(st.data())
def test_no_manifest_crashes_reader_or_compiler(data: st.DataObject) -> None:
    """Valid manifests with one value replaced: either each fault has a line, or the result compiles."""
    documents = json.loads(json.dumps(SAMPLES))
    victim = data.draw(st.sampled_from(documents))
    holder, key = data.draw(st.sampled_from(list(_places(victim))))
    holder[key] = data.draw(junk)
    file = read_manifest_file("a.yaml", yaml.safe_dump_all(documents).encode())
    for entry in file.entries:
        assert (entry.resource is None) is bool(entry.problems)
        assert all(str(problem).startswith("a.yaml:") for problem in entry.problems)
    snapshot, _ = compile_objects(merge([file], {})[1], 1)
    assert snapshot.generation == 1


def _places(value: object) -> list[tuple[Any, str | int]]:
    """Every (holder, key) inside a value."""
    found: list[tuple[Any, str | int]] = []
    if isinstance(value, dict):
        found += [(value, key) for key in value]
    elif isinstance(value, list):
        found += [(value, index) for index in range(len(value))]
    return found + [place for holder, key in found for place in _places(holder[key])]
