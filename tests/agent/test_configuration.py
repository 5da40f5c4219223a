"""What the agent says of the configuration: a line for each fault, none twice, none left out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.agent.configuration import FEW, Configuration
from nodeagent.config.conditions import Conditions
from nodeagent.config.directory import DirectorySource
from nodeagent.config.locality import ANYWHERE, Locality
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import NamespaceObject, PolicyObject, RouteObject, TargetRef
from nodeagent.config.source import Freshness
from nodeagent.core.differences import Edition
from nodeagent.core.model import Action, EnforcementLevel, Policy, Snapshot
from nodeagent.kube.cluster import Cluster
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart")]


def refs(*services: str) -> list[Document]:
    return [manifests.backend(service, 50) for service in services]


def configured(directory: Path, *documents: Document, here: Locality = ANYWHERE) -> Configuration:
    manifests = directory / "manifests"
    manifests.mkdir()
    (manifests / "all.yaml").write_text(some.text(*documents), encoding="utf-8")
    configuration = Configuration(DirectorySource(manifests, directory / "state"), here=here)

    async def first() -> None:
        snapshots = configuration.snapshots()
        await anext(snapshots)
        await snapshots.aclose()

    asyncio.run(first())
    return configuration


def test_the_zone_is_that_of_the_node_manifest_unless_it_is_given(tmp_path: Path) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "status": {"capacity": {"cpu": "2"}},
    }
    service, slice_ = some.service("cart")
    service["spec"]["trafficDistribution"] = "PreferClose"
    zones = {"a": some.POD, "b": some.OTHER_POD}
    slice_["endpoints"] = [{"addresses": [address], "zone": zone} for zone, address in zones.items()]
    near, far, both = [some.POD], [some.OTHER_POD], [some.POD, some.OTHER_POD]
    for here, used in ((Locality("n1"), near), (Locality("n1", "b"), far), (Locality("n2"), both)):
        directory = tmp_path / f"{here.node}-{here.zone}"
        directory.mkdir()
        snapshot = configured(directory, service, slice_, node, here=here).snapshot
        assert snapshot is not None
        assert [endpoint.address for endpoint in snapshot.destinations[some.VIP, 80].endpoints] == used


def errors(directory: Path, *documents: Document) -> list[str]:
    return [one.text for one in configured(directory, *documents).errors()]


def test_a_broken_object_is_one_line_with_file_field_and_what_is_in_force_instead(tmp_path: Path) -> None:
    (line,) = errors(tmp_path, *BASE, some.policy("p", "DENY", [{"sources": [{"cidr": "ten"}]}]))
    assert line.startswith("all.yaml:")
    for part in (
        "(document 7)",
        "AuthorizationPolicy shop/p",
        "spec.rules[0].sources[0].cidr",
        "is not a CIDR block such as",
        "it was never good, so Service cart is refused",
    ):
        assert part in line


def test_an_object_defined_twice_is_still_told_what_else_is_wrong_with_it(tmp_path: Path) -> None:
    """The first definition is in force, and cannot have the cluster IP that it asks for."""
    dart, slice_ = some.service("dart", some.VIP, some.OTHER_POD)
    lines = errors(tmp_path, *BASE, dart, slice_, dart)
    assert len(lines) == 2
    assert "duplicate object" in lines[0]
    assert "already belongs to shop/cart:80" in lines[1]


def test_a_route_to_a_missing_service_is_a_warning_and_no_error(tmp_path: Path) -> None:
    """It is in force: the share of what is missing is answered 500."""
    route = manifests.http_route("shop", "r", "cart", [{"backendRefs": refs("cart", "gone")}])
    configuration = configured(tmp_path, *BASE, route)
    assert configuration.errors() == []
    (warning,) = configuration.warnings()
    for part in (
        "HTTPRoute shop/r",
        "spec.rules[0].backendRefs[1]",
        "Service shop/gone does not exist",
        "answered 500",
    ):
        assert part in warning.text
    assert warning.reason == "BackendNotFound"
    (row,) = configuration.rejected()
    assert (row["name"], row["reason"]) == ("r", "ResolvedRefs=False")
    assert row["message"].startswith("BackendNotFound: Service shop/gone does not exist")


def test_what_is_not_accepted_outweighs_what_is_not_resolved(tmp_path: Path) -> None:
    route = manifests.http_route("shop", "r", "cart", [{"backendRefs": refs("gone")}])
    route["spec"]["parentRefs"].append({"group": "", "kind": "Service", "name": "nowhere"})
    configuration = configured(tmp_path, *BASE, route)
    assert [row["reason"] for row in configuration.rejected()] == ["ResolvedRefs=False", "NoMatchingParent"]
    assert (len(configuration.errors()), len(configuration.warnings())) == (1, 1)


class Steps:
    """A source of these objects, one after the other."""

    name = "steps"
    noticed = 0.0

    def __init__(self, *objects: ObjectSet) -> None:
        self._objects = objects

    def freshness(self) -> Freshness:
        return Freshness()

    async def start(self) -> ObjectSet:
        return self._objects[0]

    async def watch(self) -> AsyncIterator[ObjectSet]:
        for one in self._objects[1:]:
            yield one
            await asyncio.sleep(0.05)
        raise RuntimeError("the source ended")

    async def close(self) -> None:
        pass


def routes(count: int) -> dict[str, RouteObject]:
    return {f"shop/r{number}": RouteObject("shop", f"r{number}", "", (), (), ()) for number in range(count)}


def policy_for(kind: str) -> PolicyObject:
    policy = Policy("shop/p", Action.DENY, EnforcementLevel.NETWORK, ())
    return PolicyObject("shop", "p", (TargetRef(kind, "cart"),), policy)


def test_only_a_step_of_many_objects_or_of_a_namespace_is_compiled_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    first = replace(Cluster(lambda _change: None).objects(), routes=Edition(routes(1)))
    few = replace(first, routes=first.routes.next(routes(3)))  # type: ignore[attr-defined]  # it is an Edition
    many = replace(few, routes=few.routes.next(routes(3 + FEW + 1)))  # type: ignore[attr-defined]  # as above
    other = replace(many, namespaces={"shop": NamespaceObject("shop", {}, {})})
    ruled = replace(other, policies=Edition({"shop/p": policy_for("Service")}))
    wide = replace(ruled, policies=ruled.policies.next({"shop/p": policy_for("Namespace")}))  # type: ignore[attr-defined]  # as above
    narrow = replace(wide, policies=wide.policies.next({"shop/p": policy_for("Service")}))  # type: ignore[attr-defined]  # as above
    gone = replace(narrow, policies=narrow.policies.next({}, ["shop/p"]))  # type: ignore[attr-defined]  # as above
    threads: list[object] = []

    def compiled(*_: object, **__: object) -> tuple[Snapshot, Conditions]:
        threads.append(threading.current_thread())
        return Snapshot(len(threads), {}, {}), Conditions()

    monkeypatch.setattr("nodeagent.config.compile.compile", compiled)

    async def story() -> None:
        async for _ in Configuration(Steps(first, few, many, other, ruled, wide, narrow, gone)).snapshots():
            pass

    with pytest.raises(RuntimeError, match="the source ended"):
        asyncio.run(asyncio.wait_for(story(), 10))
    assert [one is threading.main_thread() for one in threads] == [False, True, False, False, False, False, False, True]
