"""The writer of the maps after something went wrong: maps of its own, as small as a test needs them."""

from __future__ import annotations

import ctypes
import errno
import time
from collections.abc import Iterator

import pytest

from nodeagent.core.kernel_state import LocalPod
from nodeagent.core.model import Action, Destination, Endpoint, Snapshot, Workload
from nodeagent.kernel import abi, bpf_map, layout, syscall
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.sync import GRACE_S, KernelSync, read_tables
from tests.kernel.build import policy, service

WEB = Workload("shop", "web", "web-sa", "web", ("198.18.0.2",), "/netns", enrolled=True)
PODS = {WEB.key: LocalPod(77, WEB.addresses)}
SIZES = {
    layout.PODS: (8, ctypes.sizeof(abi.Pod), 64),
    layout.OWN_ADDRESSES: (ctypes.sizeof(abi.OwnKey), 1, 64),
    layout.DESTINATIONS: (ctypes.sizeof(abi.DestKey), ctypes.sizeof(abi.Dest), 4),
    layout.ENDPOINTS: (8, ctypes.sizeof(abi.Ep), 64),
    layout.VERDICTS: (8, ctypes.sizeof(abi.Verdict), 64),
    layout.NAMES: (4, ctypes.sizeof(abi.Name), 64),
    layout.CONNECTIONS: (ctypes.sizeof(abi.ConnKey), ctypes.sizeof(abi.ConnStats), 64),
}


@pytest.fixture
def maps() -> Iterator[Maps]:
    """Not pinned, with room for four destinations."""
    made = Maps(layout.Layout())
    for name, (key, value, room) in SIZES.items():
        kind = bpf_map.MAP_TYPE_PERCPU_HASH if name == layout.CONNECTIONS else bpf_map.MAP_TYPE_HASH
        spec = bpf_map.MapSpec(name, kind, key, value, room, bpf_map.F_NO_PREALLOC)
        made._open[name] = bpf_map.Map.from_fd(bpf_map.map_create(spec))
    with made:
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
    return {text for found, text in maps.names().values() if found == kind}


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
    assert maps.names()[counted] == (abi.NameKind.DEST, "shop/counted:80")
    assert "shop/d79:80" in names_of(maps, abi.NameKind.DEST)
