from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.core.differences import Edition
from nodeagent.core.located import located
from nodeagent.core.model import FailMode, Snapshot, Workload
from nodeagent.core.unclassified import Refusals, Unclassified, refusals

OPEN = Workload("shop", "web", "web", "web", (), uid="u", enrolled=True)
CLOSED = replace(OPEN, name="vault", fail_mode=FailMode.CLOSED)
ELSEWHERE = replace(CLOSED, uid="")
NOT_ENROLLED = replace(CLOSED, enrolled=False)


@pytest.mark.parametrize(
    ("wish", "pods", "expected"),
    [
        (Unclassified.DIRECT, [OPEN, CLOSED], (False, False)),
        (Unclassified.REFUSE, [OPEN], (True, False)),
        (Unclassified.REFUSE, [OPEN, CLOSED], (True, True)),
        (Unclassified.BY_FAIL_MODE, [], (False, False)),
        (Unclassified.BY_FAIL_MODE, [OPEN, ELSEWHERE, NOT_ENROLLED], (False, False)),
        (Unclassified.BY_FAIL_MODE, [OPEN, CLOSED], (True, True)),
    ],
)
def test_one_closed_pod_of_this_node_decides_where_nothing_else_was_said(
    wish: Unclassified, pods: list[Workload], expected: tuple[bool, bool]
) -> None:
    assert refusals(wish, pods) == Refusals(*expected)


def test_a_pod_whose_address_the_api_server_does_not_know_yet_has_those_of_its_namespace() -> None:
    known = replace(OPEN, name="known", addresses=("10.0.0.9",))
    snapshot = Snapshot(1, {}, {pod.key: pod for pod in (OPEN, known, CLOSED)})
    found = ("10.0.0.1", "127.0.0.1", "::1", "fe80::1", "fd00::1")
    now = located(snapshot, {OPEN.key: found, known.key: found, "shop/gone": found})
    assert {key: pod.addresses for key, pod in now.workloads.items()} == {
        OPEN.key: ("10.0.0.1", "fd00::1"),
        known.key: ("10.0.0.9",),
        CLOSED.key: (),
    }
    assert located(snapshot, {known.key: found}) is snapshot


def test_a_snapshot_with_such_an_address_still_knows_in_which_pods_it_differs() -> None:
    pods = Edition({pod.key: pod for pod in (OPEN, CLOSED)})
    now = located(Snapshot(1, {}, pods), {OPEN.key: ("10.0.0.1",)})
    assert isinstance(now.workloads, Edition)
    assert now.workloads.touched_since(pods) == {OPEN.key}
