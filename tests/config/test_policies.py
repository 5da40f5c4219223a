"""AuthorizationPolicies: from manifests to who is refused what, at connect and in a request."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import ACCEPTED
from nodeagent.core.authorization import network_verdict
from nodeagent.core.model import RequestHead
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart")]
WEB_ACCOUNT = {"serviceAccount": {"namespace": "shop", "name": "web"}}
BATCH: Document = {"sources": [{"namespace": "batch"}]}
ENDPOINT = (some.POD, 8080)
FRONTEND = (some.VIP, 80)


def denied(document: Document, caller: str, request: RequestHead | None = None) -> bool:
    """The same on the frontend and on the endpoint: dialling a pod's IP evades nothing."""
    snap = some.snapshot(*BASE, document)
    answers = {some.ask(snap, caller, target, request).status == 403 for target in (FRONTEND, ENDPOINT)}
    assert len(answers) == 1, "frontend and endpoint differ"
    return answers.pop()


@pytest.mark.parametrize(
    ("rule", "web", "job"),
    [
        ({}, True, True),
        ({"sources": [WEB_ACCOUNT]}, True, False),
        ({"sources": [{"serviceAccount": {"namespace": "batch", "name": "*"}}]}, False, True),
        (BATCH, False, True),
        ({"sources": [{"cidr": f"{some.WEB}/32"}]}, True, False),
        ({"sources": [{"cidr": "198.18.0.0/24"}]}, True, True),
        ({"sources": [{"cidr": "fd00::/8"}]}, False, False),
        ({"sources": [WEB_ACCOUNT, {"namespace": "batch"}]}, True, True),
        ({"networkAttributes": {"ports": [80]}}, True, True),
        ({"networkAttributes": {"ports": [8080]}}, True, True),
        ({"networkAttributes": {"ports": [81, 9090]}}, False, False),
        ({**BATCH, "networkAttributes": {"ports": [81, 80]}}, False, True),
    ],
)
@pytest.mark.parametrize("level", ["Network", "Application"])
def test_a_rule_matches_by_source_and_port(rule: Document, web: bool, job: bool, level: str) -> None:
    """DENY denies whom it matches, ALLOW all others, AUDIT nobody."""
    for caller, matched in (("shop/web", web), ("batch/job", job)):
        assert denied(some.policy("p", "DENY", [rule], level=level), caller) is matched
        assert denied(some.policy("p", "ALLOW", [rule], level=level), caller) is not matched
        assert not denied(some.policy("p", "AUDIT", [rule], level=level), caller)


@pytest.mark.parametrize(
    ("http", "request_", "matched"),
    [
        ({"methods": ["POST", "PUT"]}, some.head(method="PUT"), True),
        ({"methods": ["POST"]}, some.head(method="GET"), False),
        ({"paths": [{"type": "Exact", "value": "/a"}]}, some.head("/a"), True),
        ({"paths": [{"type": "Exact", "value": "/a"}]}, some.head("/a/b"), False),
        ({"paths": [{"type": "PathPrefix", "value": "/a/"}]}, some.head("/a/b"), True),
        ({"paths": [{"type": "PathPrefix", "value": "/a"}]}, some.head("/ab"), False),
        ({"paths": [{"type": "RegularExpression", "value": "/[ab]+"}]}, some.head("/ab"), True),
        ({"paths": [{"type": "RegularExpression", "value": "/[ab]+"}]}, some.head("/abc"), False),
        ({"paths": [{"type": "Exact", "value": "/%7Euser"}]}, some.head("/~user"), True),
        ({"hosts": ["cart"]}, some.head(host="cart"), True),
        ({"hosts": ["*.shop"]}, some.head(host="a.cart.shop"), True),
        ({"hosts": ["*.shop"]}, some.head(host="shop"), False),
        ({"hosts": ["[fd00:0:0::1]"]}, some.head(host="[fd00::1]"), True),
        ({"headers": [{"name": "X-Team", "value": "a"}]}, some.head(headers={"x-team": "a"}), True),
        ({"headers": [{"name": "x-team", "value": "a"}]}, some.head(headers={"x-team": "ab"}), False),
        (
            {"headers": [{"name": "x-team", "value": "a.*", "type": "RegularExpression"}]},
            some.head(headers={"x-team": "ab"}),
            True,
        ),
        ({"methods": ["GET"], "hosts": ["other"]}, some.head(), False),
        ({"methods": ["GET"], "hosts": ["other", "cart"]}, some.head(), True),
    ],
)
def test_an_http_part_matches_when_all_its_fields_do(http: Document, request_: RequestHead, matched: bool) -> None:
    assert denied(some.policy("p", "DENY", [{"http": http}]), "shop/web", request_) is matched
    assert denied(some.policy("p", "ALLOW", [{"http": http}]), "shop/web", request_) is not matched


def test_an_audit_names_itself_and_stops_nobody() -> None:
    snap = some.snapshot(*BASE, some.policy("watch", "AUDIT", [BATCH]))
    assert some.ask(snap, "batch/job").audits == ("shop/watch",)
    assert some.ask(snap, "batch/job").status == 0
    assert some.ask(snap, "shop/web").audits == ()


def test_a_deny_wins_over_an_allow_and_allow_is_what_no_action_means() -> None:
    allow = some.policy("allow", "ALLOW", [{}])
    del allow["spec"]["action"]
    snap = some.snapshot(*BASE, allow, some.policy("deny", "DENY", [BATCH]))
    assert some.ask(snap, "batch/job").policy == "shop/deny"
    assert some.ask(snap, "shop/web").status == 0


@pytest.mark.parametrize(("action", "refused"), [("ALLOW", True), ("DENY", False), ("AUDIT", False)])
def test_without_rules_allow_allows_nothing_and_deny_denies_nothing(action: str, refused: bool) -> None:
    assert denied(some.policy("p", action, []), "shop/web") is refused


def test_a_network_policy_alone_leaves_the_port_on_the_direct_rung() -> None:
    network = some.snapshot(*BASE, some.policy("p", "DENY", [BATCH], level="Network")).destinations[FRONTEND]
    application = some.snapshot(*BASE, some.policy("p", "DENY", [BATCH])).destinations[FRONTEND]
    assert (network.rung.value, application.rung.value) == ("direct", "proxy")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda spec: spec.pop("enforcementLevel"), "spec.enforcementLevel"),
        (lambda spec: spec.update(enforcementLevel="Network"), "spec.rules[0].http"),
        (lambda spec: spec.update(action="ALOW"), "spec.action"),
        (lambda spec: spec.update(rules=[{"source": []}]), "spec.rules[0].source"),
        (lambda spec: spec.update(targetRefs=spec["targetRefs"][0]), "spec.targetRefs"),
    ],
)
def test_a_policy_that_never_compiled_denies_its_target_unless_told_not_to(change: Any, field: str) -> None:
    document = some.policy("p", "ALLOW", [{"http": {"methods": ["GET"]}}])
    change(document["spec"])
    bystander = some.service("db", some.OTHER_VIP, some.OTHER_POD)
    _, found = some.load({"p.yaml": some.text(*BASE, *bystander, document)})
    snap, conditions = compile_objects(found, 1)
    for target in (FRONTEND, ENDPOINT):
        assert "AuthorizationPolicy shop/p is broken" in snap.destinations[target].refuse
        assert field in snap.destinations[target].refuse
        assert network_verdict(snap.destinations[target], snap.workloads["shop/web"]).denied
    assert not snap.destinations[some.OTHER_VIP, 80].refuse
    said = some.condition(conditions, ACCEPTED, "shop/p")
    assert (said.status, said.field) == ("False", field)
    assert "it was never good, so Service cart is refused" in said.message
    trusting, conditions = compile_objects(found, 1, refuse_broken=False)
    assert not any(destination.refuse for destination in trusting.destinations.values())
    assert "it has no effect" in some.condition(conditions, ACCEPTED, "shop/p").message


def test_a_key_set_twice_does_not_hide_what_the_policy_protects() -> None:
    text = some.text(some.policy("p", "DENY", [BATCH])).replace("action: DENY", "action: DENY\n  action: ALLOW")
    snap, _ = compile_objects(some.load({"base.yaml": some.text(*BASE), "p.yaml": text})[1], 1)
    assert "already set" in snap.destinations[FRONTEND].refuse


def test_a_broken_audit_refuses_nothing() -> None:
    document = some.policy("p", "AUDIT", [{"nothing": 1}])
    snap, _ = compile_objects(some.load({"p.yaml": some.text(*BASE, document)})[1], 1)
    assert not any(destination.refuse for destination in snap.destinations.values())


def test_a_policy_that_was_good_once_stays_in_force_when_it_breaks() -> None:
    good, _ = some.load({"base.yaml": some.text(*BASE), "p.yaml": some.text(some.policy("p", "DENY", [BATCH]))})
    broken = some.policy("p", "DENY", [{"sources": [{"cidr": "10.0.0.1/8"}]}])
    _, found = some.load({"base.yaml": some.text(*BASE), "p.yaml": some.text(broken)}, good)
    snap, conditions = compile_objects(found, 2)
    assert some.ask(snap, "batch/job").policy == "shop/p"
    assert some.ask(snap, "shop/web").status == 0
    said = [one for one in conditions if one.object == "shop/p" and one.status == "False"]
    assert ["the last good state stays in force" in one.message for one in said] == [True]


def test_a_target_that_does_not_exist_is_said_and_waited_for() -> None:
    orphan = some.policy("p", "DENY", [{}], service="later")
    said = some.condition(some.compiled(*BASE, orphan)[1], ACCEPTED, "shop/p")
    assert (said.reason, said.field) == ("TargetNotFound", "spec.targetRefs[0].name")
    snap = some.snapshot(*BASE, orphan, *some.service("later", some.OTHER_VIP, some.OTHER_POD))
    assert some.ask(snap, "shop/web", (some.OTHER_VIP, 80)).status == 403


def opaque(*documents: Document) -> list[Document]:
    cart = manifests.service("shop", "cart", [some.VIP], port_name="tcp", app_protocol=None)
    return [*some.callers(), cart, manifests.endpoint_slice("shop", "cart", [some.POD], port_name="tcp"), *documents]


def test_a_deny_by_http_fields_refuses_connections_where_http_is_not_read() -> None:
    for_all = some.snapshot(*opaque(some.policy("p", "DENY", [{"http": {"methods": ["DELETE"]}}])))
    for_batch = some.snapshot(*opaque(some.policy("p", "DENY", [{**BATCH, "http": {"methods": ["DELETE"]}}])))
    for target in (FRONTEND, ENDPOINT):
        assert "denies by HTTP fields" in for_all.destinations[target].refuse
        verdicts = {
            name: network_verdict(for_batch.destinations[target], pod).denied
            for name, pod in for_batch.workloads.items()
        }
        assert verdicts == {"shop/web": False, "batch/job": True}


def test_an_allow_by_http_fields_allows_nothing_where_http_is_not_read_and_the_condition_says_so() -> None:
    documents = opaque(some.policy("p", "ALLOW", [{"http": {"methods": ["GET"]}}]))
    snap, conditions = some.compiled(*documents)
    assert network_verdict(snap.destinations[FRONTEND], snap.workloads["shop/web"]).denied
    said = some.condition(conditions, ACCEPTED, "shop/p")
    assert said.message == "HTTP is not read on shop/cart:80: the rule allows nothing there"
    assert said.field == "spec.rules[0].http"


def dry_run(document: Document) -> Document:
    document["spec"]["mode"] = "DryRun"
    return document


@pytest.mark.parametrize("level", ["Network", "Application"])
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_a_policy_in_dry_run_denies_nobody_and_says_whom_it_would_deny(action: str, level: str) -> None:
    tried = dry_run(some.policy("p", action, [BATCH], level=level))
    assert not denied(tried, "shop/web")
    assert not denied(tried, "batch/job")
    snap = some.snapshot(*BASE, tried)
    refused, served = ("batch/job", "shop/web") if action == "DENY" else ("shop/web", "batch/job")
    for target in (FRONTEND, ENDPOINT):
        assert [policy for _, policy in some.ask(snap, refused, target).would] == ["shop/p"]
        assert some.ask(snap, served, target).would == ()


def test_enforce_is_what_no_mode_means_and_an_audit_has_no_other() -> None:
    enforced = some.policy("p", "DENY", [BATCH])
    enforced["spec"]["mode"] = "Enforce"
    assert denied(enforced, "batch/job")
    audit = some.snapshot(*BASE, dry_run(some.policy("watch", "AUDIT", [BATCH])))
    assert audit == some.snapshot(*BASE, some.policy("watch", "AUDIT", [BATCH]))


def test_a_mode_that_does_not_exist_is_an_error() -> None:
    document = some.policy("p", "DENY", [BATCH])
    document["spec"]["mode"] = "Audit"
    _, conditions = compile_objects(some.load({"p.yaml": some.text(*BASE, document)})[1], 1)
    said = some.condition(conditions, ACCEPTED, "shop/p")
    assert (said.status, said.field) == ("False", "spec.mode")


@pytest.mark.parametrize("mode", ["Enforce", "DryRun"])
def test_only_in_force_does_a_deny_that_cannot_be_read_refuse_the_port(mode: str) -> None:
    service = manifests.service("shop", "db", [some.OTHER_VIP])
    service["spec"]["ports"][0].update(name="tcp", appProtocol="kubernetes.io/h2c")
    slices = manifests.endpoint_slice("shop", "db", [some.OTHER_POD])
    document = some.policy("p", "DENY", [{"http": {"methods": ["DELETE"]}}], service="db")
    document["spec"]["mode"] = mode
    snap, conditions = some.compiled(*BASE, service, slices, document)
    here = snap.destinations[some.OTHER_VIP, 80]
    verdict = network_verdict(here, snap.workloads["shop/web"])
    assert bool(here.refuse) is verdict.denied is (mode == "Enforce")
    assert verdict.would == (() if mode == "Enforce" else (("would-deny", "shop/p"),))
    said = [one for one in conditions if one.object == "shop/p" and one.type == ACCEPTED]
    assert [one.message.count("in DryRun it is counted as if connections") for one in said] == [mode == "DryRun"]


def test_a_broken_policy_in_dry_run_refuses_nothing() -> None:
    document = dry_run(some.policy("p", "DENY", [{"nothing": 1}]))
    snap, _ = compile_objects(some.load({"p.yaml": some.text(*BASE, document)})[1], 1)
    assert not any(destination.refuse for destination in snap.destinations.values())
