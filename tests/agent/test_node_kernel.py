"""What a restarted agent takes from the maps: which rules are old, so that only new ones end connections."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from nodeagent.agent import node_kernel
from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.node_kernel import MapKernel, covered_by
from nodeagent.core.coverage import Coverage, coverage, newly_covered
from nodeagent.core.kernel_plan import Tables
from nodeagent.core.kernel_state import LocalPod, build, needed_names
from nodeagent.core.model import Snapshot
from nodeagent.kernel.maps import Guard
from nodeagent.kernel.syscall import BpfError
from tests.agent.fakes import pod
from tests.config import builders as some
from tests.core.plans import planned
from tests.testbed import manifests
from tests.testbed.manifests import Document

PODS = [pod("shop/web", 1, -1), pod("batch/job", 2, -1)]
BASE = [*some.callers(), *some.service("cart"), *some.service("vault", some.OTHER_VIP, some.OTHER_POD)]
# callers in batch are led from cart to vault, which a rule protects: cart's frontend is guarded for them alone
LEAD: Document = {"backendRefs": [{"name": "vault", "namespace": "shop", "port": 80}]}
GUARDED = [
    *BASE,
    some.policy("vault", "DENY", [{"http": {"methods": ["PUT"]}}], service="vault"),
    manifests.http_route("batch", "lead", "cart", [LEAD]),
]
GUARDED[-1]["spec"]["parentRefs"][0]["namespace"] = "shop"
NO_DELETE = some.policy("no-delete", "DENY", [{"http": {"methods": ["DELETE"]}}])
NO_BATCH = some.policy("no-batch", "DENY", [{"sources": [{"namespace": "batch"}]}], level="Network")
FRONTEND, ENDPOINT = (some.VIP, 80), (some.POD, 8080)


def maps_of(snap: Snapshot) -> Tables:
    """What an agent leaves in the maps that had this configuration in force."""
    local = {one.key: LocalPod(one.cookie, one.addresses) for one in PODS}
    ids = {name: number for number, name in enumerate(sorted(needed_names(snap, local)), 1)}
    return planned(Tables(), build(snap, local, ids))[1]


def after_restart(snap: Snapshot) -> Coverage:
    return covered_by(maps_of(snap), PODS)


def coverage_of(snap: Snapshot) -> Coverage:
    return coverage(snap, [snap.workloads[one.key] for one in PODS])


def new_to(before: Snapshot, now: Snapshot, pods: list[EnrolledPod]) -> dict[str, frozenset[tuple[str, int]]]:
    return newly_covered(after_restart(before), coverage_of(now), [one.key for one in pods])


def test_the_same_configuration_covers_nothing_new_after_a_restart() -> None:
    for documents in (BASE, GUARDED, [*GUARDED, NO_DELETE], [*BASE, NO_BATCH]):
        snap = some.snapshot(*documents)
        assert new_to(snap, snap, PODS) == {}


def test_a_rule_that_came_while_no_agent_ran_covers_what_it_would_have_covered() -> None:
    before = some.snapshot(*BASE)
    for documents in ([*BASE, NO_DELETE], [*BASE, NO_BATCH], GUARDED):
        now = some.snapshot(*documents)
        assert new_to(before, now, PODS) == newly_covered(
            coverage_of(before), coverage_of(now), [one.key for one in PODS]
        )


def test_a_new_rule_for_everyone_ends_direct_connections_where_only_some_callers_route_was_guarded() -> None:
    """Direct connections are to the endpoint, and what is in force there the maps tell exactly."""
    found = new_to(some.snapshot(*GUARDED), some.snapshot(*GUARDED, NO_DELETE), PODS)
    assert {key: ENDPOINT in targets for key, targets in found.items()} == {"shop/web": True, "batch/job": True}


def test_a_guard_of_some_callers_counts_as_old_at_the_frontend_for_all() -> None:
    """The bound that `covered_by` names: it does not end what nobody promised to reach."""
    assert FRONTEND in after_restart(some.snapshot(*GUARDED)).everyone
    assert FRONTEND not in coverage_of(some.snapshot(*GUARDED)).everyone


def test_the_guard_is_written_when_it_changes_and_again_after_a_failure() -> None:
    class Maps:
        def __init__(self) -> None:
            self.guards: list[Guard] = []
            self.full = False

        def write_guard(self, guard: Guard) -> None:
            if self.full:
                raise BpfError(errno.ENOMEM, "guard")
            self.guards.append(guard)

    class NoSync:
        def sync(self, *_: object) -> None:
            pass

    maps, wanted = Maps(), [Guard(1)]
    kernel = MapKernel(cast("Any", maps), lambda _snapshot: wanted[-1])
    kernel._sync = cast("Any", NoSync())

    def sync() -> None:
        kernel.sync(some.snapshot(*BASE), [], {})

    sync()
    sync()
    wanted.append(Guard(1, refuse=True))
    maps.full = True
    with pytest.raises(BpfError):
        sync()
    maps.full = False
    sync()
    sync()
    assert maps.guards == wanted


def test_after_a_sync_that_failed_half_way_the_maps_tell_who_is_enrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had taken out a pod whose connections nobody noted since: the next one has to know it for new."""

    class FullMap:
        def sync(self, *_: object) -> None:
            raise BpfError(errno.E2BIG, "destinations is full")

    enrolled = [Tables(), maps_of(some.snapshot(*BASE))]
    monkeypatch.setattr(node_kernel, "read_tables", lambda _maps: enrolled.pop())
    kernel = MapKernel(cast("Any", None))
    kernel._sync = cast("Any", FullMap())
    assert kernel.known_cookies() == {1, 2}
    with pytest.raises(BpfError):
        kernel.sync(some.snapshot(*BASE), [], {})
    assert kernel.known_cookies() == set()
