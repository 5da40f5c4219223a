"""The writer of the maps after something went wrong: maps of its own, as small as a test needs them."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core import kernel_state
from nodeagent.core.kernel_state import Desired, Ids, LocalPod, Passing
from nodeagent.core.model import Action, Destination, Endpoint, Snapshot, Workload
from nodeagent.kernel import abi, layout, syscall
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.sync import GRACE_S, KernelSync, read_tables
from tests.kernel.build import policy, service
from tests.kernel.unpinned import names_in, unpinned

WEB = Workload("shop", "web", "web-sa", "web", ("198.18.0.2",), "/netns", enrolled=True)
PODS = {WEB.key: LocalPod(77, WEB.addresses)}


@pytest.fixture
def maps() -> Iterator[Maps]:
    """With room for four destinations."""
    with unpinned() as made:
        yield made


def snapshot(*destinations: Destination) -> Snapshot:
    return Snapshot(1, {(d.address, d.port): d for d in destinations}, {WEB.key: WEB})


def test_after_a_failed_write_nothing_that_is_in_use_is_deleted(maps: Maps) -> None:
    allow = policy("p", Action.ALLOW, "shop/web-sa")
    first = service("a", "198.19.0.1", ("198.18.0.3", 80), policies=(allow,))
    second = service("a", "198.19.0.1", ("198.18.0.4", 80))
    kernel = KernelSync(maps)
    kernel.sync(snapshot(first), PODS)
    kernel.sync(snapshot(second), PODS)  # the first set and table retire
    too_many = [service(f"b{i}", f"198.19.1.{i}", ("198.18.0.4", 80)) for i in range(8)]
    with pytest.raises(syscall.BpfError):
        kernel.sync(snapshot(second, *too_many), PODS)
    kernel.sync(snapshot(first), PODS)  # and are named again within the grace period
    kernel.collect(time.monotonic() + GRACE_S + 1)
    held = read_tables(maps)
    row = held.destinations["198.19.0.1", 80]
    assert held.endpoint_sets[row.ep_set] == first.endpoints
    assert list(held.verdict_tables[row.policy]) == [held.pods[77].pod]


def test_an_agent_reads_back_what_a_policy_in_dry_run_would_do(maps: Maps) -> None:
    """Else it would write every verdict anew after a restart, or keep one of a policy that is gone."""
    tried = replace(policy("p", Action.DENY, "shop/web-sa"), dry_run=True)
    KernelSync(maps).sync(snapshot(service("a", "198.19.0.1", ("198.18.0.3", 80), policies=(tried,))), PODS)
    held = read_tables(maps)
    (verdict,) = held.verdict_tables[held.destinations["198.19.0.1", 80].policy].values()
    assert not verdict.denied
    assert names_in(maps)[verdict.would] == (abi.NameKind.POLICY, "shop/p")


def test_what_cannot_be_deleted_now_is_deleted_later(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KernelSync(maps)
    for last in (3, 4, 5):  # two sets retire
        kernel.sync(snapshot(service("a", "198.19.0.1", (f"198.18.0.{last}", 80))), PODS)

    def refused(_key: bytes) -> bool:
        raise syscall.BpfError(errno.ENOMEM, "cannot delete from map endpoints: Cannot allocate memory")

    later = time.monotonic() + GRACE_S + 1
    with monkeypatch.context() as patched:
        patched.setattr(maps.map(layout.ENDPOINTS), "delete", refused)
        with pytest.raises(syscall.BpfError):
            kernel.collect(later)
    assert len(read_tables(maps).endpoint_sets) == 3
    kernel.collect(later)
    assert list(read_tables(maps).endpoint_sets.values()) == [(Endpoint("198.18.0.5", 80),)]


def names_of(maps: Maps, kind: abi.NameKind) -> set[str]:
    return {text for found, text in names_in(maps).values() if found == kind}


def count_one(maps: Maps, dest: int) -> None:
    key = abi.ConnKey(0, dest, abi.Outcome.DIRECT, 0)
    maps.map(layout.CONNECTIONS).update(bytes(key), bytes(abi.ConnStats(opened=1)))


def test_when_names_are_full_rules_still_get_in_and_pods_still_get_ids(maps: Maps) -> None:
    """64 names, 8 of them kept for pods."""
    kernel = KernelSync(maps)
    for number in range(80):  # each destination is counted, so that its name has to stay
        kernel.sync(snapshot(service(f"d{number}", "198.19.0.1", ("198.18.0.3", 80))), PODS)
        count_one(maps, read_tables(maps).destinations["198.19.0.1", 80].dest)
    assert len(names_of(maps, abi.NameKind.DEST)) == 54
    deny = policy("late", Action.DENY, "shop/web-sa")
    late = Workload("shop", "late", "web-sa", "late", ("198.18.0.9",), "/netns2", enrolled=True)
    destination = service("new", "198.19.0.2", ("198.18.0.3", 80), policies=(deny,))
    kernel.sync(
        Snapshot(2, {("198.19.0.2", 80): destination}, {WEB.key: WEB, late.key: late}),
        PODS | {late.key: LocalPod(78, late.addresses)},
    )
    held = read_tables(maps)
    row = held.destinations["198.19.0.2", 80]
    ids = {held.pods[77].pod, held.pods[78].pod}
    assert (row.dest, held.pods[78].workload) == (0, 0)
    assert 0 not in ids
    assert {pod: verdict.denied for pod, verdict in held.verdict_tables[row.policy].items()} == dict.fromkeys(ids, True)


def test_names_of_destinations_that_nothing_refers_to_make_room(maps: Maps) -> None:
    kernel = KernelSync(maps)
    kernel.sync(snapshot(service("counted", "198.19.0.1", ("198.18.0.3", 80))), PODS)
    counted = read_tables(maps).destinations["198.19.0.1", 80].dest
    count_one(maps, counted)
    seen = set()
    for number in range(80):
        kernel.sync(snapshot(service(f"d{number}", "198.19.0.1", ("198.18.0.3", 80))), PODS)
        seen.add(read_tables(maps).destinations["198.19.0.1", 80].dest)
    assert len(seen) == 80, "an id is given once"
    assert 0 not in seen
    assert names_in(maps)[counted] == (abi.NameKind.DEST, "shop/counted:80")
    assert "shop/d79:80" in names_of(maps, abi.NameKind.DEST)


# ---- one change after the other ----

JOB = replace(WEB, name="job", service_account="job-sa", addresses=("198.18.0.3",))
OTHER_WEB = replace(WEB, service_account="job-sa")
ADDRESSES = [f"198.19.2.{number}" for number in range(4)]
RULES = [policy("p", Action.ALLOW, "shop/web-sa"), policy("q", Action.DENY, "shop/job-sa")]
endpoint_lists = st.lists(st.sampled_from([("198.18.0.8", 80), ("198.18.0.9", 80)]), unique=True)


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[Snapshot, dict[str, LocalPod]]]:
    """Snapshots and the pods held; what a change does not meet is the same object in the next snapshot."""
    table: dict[tuple[str, int], Destination] = {}
    pods: dict[str, Workload] = {WEB.key: WEB}
    found = []
    for generation in range(1, draw(st.integers(2, 6))):
        for address in draw(st.lists(st.sampled_from(ADDRESSES), unique=True)):
            table.pop((address, 80), None)
            if draw(st.booleans()):
                rules = draw(st.lists(st.sampled_from(RULES), unique=True).map(tuple))
                name = f"s{address[-1]}{draw(st.sampled_from(('', 'renamed')))}"
                table[address, 80] = service(name, address, *draw(endpoint_lists), policies=rules)
        if draw(st.booleans()):
            pods = {one.key: one for one in draw(st.sampled_from([[WEB], [WEB, JOB], [OTHER_WEB, JOB], []]))}
        local = {key: LocalPod(77 + len(one.name), one.addresses) for key, one in pods.items()}
        found.append((Snapshot(generation, dict(table), dict(pods)), local))
    return found


def meaning(maps: Maps) -> dict[str, object]:
    """What the maps say, whatever ids it is said with."""
    held, names = read_tables(maps), {number: text for number, (_, text) in names_in(maps).items()}
    pods = {cookie: names[entry.pod] for cookie, entry in held.pods.items()}
    said: dict[str, object] = {"pods": pods, "own": held.own_addresses}
    for target, row in held.destinations.items():
        table = held.verdict_tables.get(row.policy, {})
        verdicts = {names[pod.pod]: table[pod.pod] for pod in held.pods.values()} if row.policy else {}
        denied = {pod: (verdict.denied, names.get(verdict.rule)) for pod, verdict in verdicts.items()}
        endpoints = held.endpoint_sets.get(row.ep_set, ())
        assert len(endpoints) == row.ep_count
        said[f"{target}"] = names[row.dest], row.flags, endpoints, denied, bool(row.policy)
    return said


@settings(max_examples=60)
@given(changes())
def test_maps_say_the_same_after_each_change_as_when_written_at_once(
    history: list[tuple[Snapshot, dict[str, LocalPod]]],
) -> None:
    with unpinned(names=512, destinations=64) as followed:
        kernel = KernelSync(followed)
        for step, (now, pods) in enumerate(history):
            kernel.sync(now, pods)
            with unpinned(names=512, destinations=64) as fresh:
                KernelSync(fresh).sync(now, pods)
                assert meaning(followed) == meaning(fresh)
            if step % 2:
                before = meaning(followed)
                kernel.collect(time.monotonic() + GRACE_S + 1)
                assert meaning(followed) == before


def test_a_change_of_one_destination_looks_at_no_other(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = service("a", "198.19.0.1", ("198.18.0.3", 80)), service("b", "198.19.0.2", ("198.18.0.3", 80))
    kernel = KernelSync(maps)
    kernel.sync(snapshot(first, second), PODS)
    looked: list[list[tuple[str, int]]] = []
    build = kernel_state.build

    def noted(part: Snapshot, pods: Mapping[str, LocalPod], ids: Ids, passing: Passing | None) -> Desired:
        looked.append(list(part.destinations))
        return build(part, pods, ids, passing)

    monkeypatch.setattr(kernel_state, "build", noted)
    result = kernel.sync(snapshot(first, service("b", "198.19.0.2", ("198.18.0.4", 80))), PODS)
    assert looked == [[("198.19.0.2", 80)]]
    assert (result.written, result.retired) == (2, 0)  # a set and a row; the old set is the other's
