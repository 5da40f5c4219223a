"""What is decoded of objects and events, and what is dropped; no answer raises anything but RecordError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.resources import PodObject, Readiness, RouteObject, ServiceObject, SliceObject
from nodeagent.kube.api import Failure, Reason
from nodeagent.kube.judging import judge
from nodeagent.kube.kinds import BY_NAME, KINDS, Kind
from nodeagent.kube.records import Event, RecordError, read_event, read_page
from tests.kube import samples
from tests.kube.model import Value, bookmark, error_event, line

POD, SERVICE, SLICE = BY_NAME["Pod"], BY_NAME["Service"], BY_NAME["EndpointSlice"]


def resource(kind: Kind, value: Value, node: str = "n1") -> object:
    item = judge(kind, samples.record(kind, value), node)
    assert item.broken is None, item.broken
    return item.resource


def test_of_a_pod_only_what_is_read_is_kept() -> None:
    value = samples.record(POD, samples.pod("shop", "web-1")).value
    assert value["spec"] == {"serviceAccountName": "web", "nodeName": "n1"}
    assert value["status"] == {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
    assert set(value["metadata"]) == {
        "name",
        "namespace",
        "labels",
        "creationTimestamp",
        "generation",
        "uid",
        "ownerReferences",
    }
    assert value["metadata"]["labels"] == {"pod-template-hash": "abc", "mesh.nodeagent.dev/dataplane": "enabled"}


def test_a_pod_of_this_node_has_its_uid_and_one_elsewhere_has_not() -> None:
    for node, uid in (("n1", "uid-of-web-1"), ("n2", "")):
        found = resource(POD, samples.pod("shop", "web-1"), node)
        assert isinstance(found, PodObject)
        assert (found.uid, found.workload, found.service_account, found.dataplane) == (uid, "web", "web", "enabled")


def test_a_network_namespace_is_not_taken_from_the_api() -> None:
    """Whoever may create a pod could name the node's."""
    annotations = {"mesh.nodeagent.dev/netns": "/proc/1/ns/net", "mesh.nodeagent.dev/other": "kept"}
    found = resource(POD, samples.pod("shop", "web-1", annotations=annotations))
    assert isinstance(found, PodObject)
    assert found.netns == ""


def test_services_and_slices_are_read_as_from_a_manifest() -> None:
    service = resource(SERVICE, samples.service("shop", "cart"))
    assert isinstance(service, ServiceObject)
    assert (service.addresses, [port.port for port in service.ports]) == (("10.96.0.10",), [80])
    found = resource(SLICE, samples.endpoint_slice("shop", "cart", "10.0.0.1"))
    assert isinstance(found, SliceObject)
    assert (found.service, dict(found.addresses)) == ("cart", {"10.0.0.1": Readiness.READY})
    assert "targetRef" not in json.dumps(samples.record(SLICE, samples.endpoint_slice("shop", "cart", "1.1.1.1")).value)


def test_of_a_custom_object_the_spec_is_kept_whole_and_the_status_dropped() -> None:
    value = samples.policy("shop", "p", surprise={"a": 1})
    found = samples.record(BY_NAME["AuthorizationPolicy"], value).value
    assert found["spec"] == value["spec"]
    assert "status" not in found


def test_a_route_without_a_spec_or_with_a_spec_of_another_type_names_the_field() -> None:
    kind = BY_NAME["HTTPRoute"]
    for spec, field in (([], "spec"), ({"rules": 3}, "spec.rules")):
        item = judge(kind, samples.record(kind, {"metadata": samples.metadata("shop", "r"), "spec": spec}), "n1")
        assert item.broken is not None
        assert item.broken.problems[0].field == field
    assert isinstance(resource(kind, {"metadata": samples.metadata("shop", "r"), "spec": {}}), RouteObject)


def test_a_field_of_the_wrong_type_is_told_as_of_a_manifest_and_spoils_no_other_object() -> None:
    broken = samples.service("shop", "bad")
    broken["spec"]["ports"][0]["port"] = "eighty"
    body = {"metadata": {"resourceVersion": "5"}, "items": [broken, samples.service("shop", "good")]}
    bad, good = (judge(SERVICE, one, "n1") for one in read_page(SERVICE, json.dumps(body).encode()).records)
    assert good.resource is not None
    assert bad.broken is not None
    assert [problem.field for problem in bad.broken.problems] == ["spec.ports[0].port"]


def test_null_is_an_absent_field() -> None:
    value = samples.pod("shop", "web-1")
    value["metadata"].update(labels=None, annotations=None, ownerReferences=None)
    value["status"] = {"phase": "Pending", "podIP": None, "podIPs": None}
    found = resource(POD, value)
    assert isinstance(found, PodObject)
    assert (found.addresses, found.workload) == ((), "web-1")


def test_a_page_says_where_it_goes_on_and_one_without_a_version_is_refused() -> None:
    page = read_page(POD, b'{"metadata": {"resourceVersion": "7", "continue": "abc"}, "items": null}')
    assert (page.version, page.token, page.records) == ("7", "abc", [])
    with pytest.raises(RecordError, match=r"has no metadata\.resourceVersion"):
        read_page(POD, b'{"metadata": {}, "items": []}')


def test_events_bookmarks_and_errors_are_told_apart() -> None:
    pod = samples.pod("shop", "web-1", resourceVersion="9")
    added, deleted = (read_event(POD, line(kind, pod)) for kind in ("ADDED", "DELETED"))
    assert isinstance(added, Event)
    assert isinstance(deleted, Event)
    assert (added.version, added.deleted, deleted.deleted) == ("9", False, True)
    assert read_event(POD, bookmark(12)) == Event("12")
    assert read_event(POD, error_event(410, "too old")) == Failure(Reason.GONE, "too old")
    with pytest.raises(RecordError, match="unknown type 'RENAMED'"):
        read_event(POD, line("RENAMED", pod))


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_no_bytes_raise_anything_else(kind: Kind, data: bytes) -> None:
    for reading in (read_page, read_event):
        with pytest.raises(RecordError):
            reading(kind, data)


NAMES = (
    *("name", "namespace", "labels", "annotations", "spec", "status", "rules", "ports", "port", "addresses", "type"),
    *("endpoints", "podIP", "podIPs", "ip", "hostNetwork", "targetRefs", "parentRefs", "metadata", "ownerReferences"),
    *("conditions", "addressType"),
)
FIELD = st.sampled_from(NAMES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(KINDS), st.dictionaries(FIELD, JSON, max_size=5), st.dictionaries(FIELD, JSON, max_size=3))
def test_an_object_of_any_shape_is_a_resource_or_broken_or_no_record(kind: Kind, value: Value, more: Value) -> None:
    value["metadata"] = {"namespace": "shop", **more, "name": "x", "resourceVersion": "1"}
    try:
        found = read_event(kind, line("ADDED", value))
    except RecordError:
        return
    assert isinstance(found, Event)
    assert found.record is not None
    item = judge(kind, found.record, "n1")
    assert (item.resource is None) != (item.broken is None)
