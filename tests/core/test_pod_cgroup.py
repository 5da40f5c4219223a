"""The text is the kernel's, but a pod with a writable cgroup can add to its path: it is never taken for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.pod_cgroup import PodCgroup, is_class, is_kubepods, is_static, parse, pod_uid

UID = "0f0e7f5c-3a2b-4c1d-8e9f-00112233aabb"
OTHER = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
STATIC = "4f3a" * 8
ID = "ab12" * 16
ID2 = "cd34" * 16
POD = PodCgroup(UID, ID)
V1 = ("9:name=systemd:", "8:pids:", "7:blkio:", "6:freezer:", "5:devices:", "4:memory:", "3:cpuset:", "2:cpu,cpuacct:")


def slice_of(uid: str, qos: str = "", prefix: str = "") -> str:
    """The path of a pod's slice, as systemd nests it by the dashes in its name."""
    root = f"{prefix}kubepods"
    middle = f"/{root}-{qos}.slice" if qos else ""
    stem = f"{root}-{qos}" if qos else root
    return f"/{root}.slice{middle}/{stem}-pod{uid.replace('-', '_')}.slice"


SLICE = slice_of(UID, "burstable").rpartition("/")[2]
PATHS = {
    "guaranteed, cgroupfs": f"/kubepods/pod{UID}/{ID}",
    "burstable, cgroupfs": f"/kubepods/burstable/pod{UID}/{ID}",
    "best effort, cgroupfs": f"/kubepods/besteffort/pod{UID}/{ID}",
    "below another root": f"/node2/kubepods/burstable/pod{UID}/{ID}",
    "kind": f"/docker/{ID2}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
    "guaranteed, systemd": f"{slice_of(UID)}/cri-containerd-{ID}.scope",
    "burstable, systemd": f"{slice_of(UID, 'burstable')}/crio-{ID}.scope",
    "best effort, systemd": f"{slice_of(UID, 'besteffort')}/docker-{ID}.scope",
    "below another slice": f"/kubelet.slice{slice_of(UID, 'burstable', 'kubelet-')}/cri-containerd-{ID}.scope",
    "cgroupfs of crio": f"/kubepods/burstable/pod{UID}/crio-{ID}",
    "drivers that disagree": f"/system.slice/containerd.service/{SLICE}:cri-containerd:{ID}",
    "a cgroup of the container's own": f"/kubepods/burstable/pod{UID}/{ID}/init.scope",
    "seen from another pod of its class": f"/../../pod{UID}/{ID}",
    "seen from a pod of another class": f"/../../../burstable/pod{UID}/{ID}",
    "the same, systemd": f"/../../{SLICE}/cri-containerd-{ID}.scope",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_a_container_of_every_driver_and_class_is_found(path: str) -> None:
    assert parse(f"0::{path}\n") == POD
    assert parse("".join(f"{line}{path}\n" for line in (*V1, "0::"))) == POD


def test_hierarchies_that_know_nothing_of_pods_do_not_matter() -> None:
    assert parse(f"4:memory:/kubepods/pod{UID}/{ID}\n1:name=systemd:/\n0::/system.slice/containerd.service\n") == POD


def test_a_static_pod_has_the_hash_of_its_manifest() -> None:
    assert parse(f"0::/kubepods/burstable/pod{STATIC}/{ID}\n") == PodCgroup(STATIC, ID)
    assert parse(f"0::{slice_of(STATIC, 'burstable')}/crio-{ID}.scope\n") == PodCgroup(STATIC, ID)
    assert is_static(STATIC)
    assert not is_static(UID)


REFUSED = {
    "nothing": "",
    "no pod": "0::/system.slice/ssh.service\n",
    "the pods' root": "0::/kubepods\n",
    "a class": "0::/kubepods/burstable\n",
    "no container": f"0::/kubepods/burstable/pod{UID}\n",
    "a container's id cut short": f"0::/kubepods/burstable/pod{UID}/{ID[:-1]}\n",
    "conmon, which runs in the node's namespace": f"0::{slice_of(UID, 'burstable')}/crio-conmon-{ID}.scope\n",
    "a pod below another's container": f"0::/kubepods/burstable/pod{UID}/{ID}/pod{OTHER}/{ID2}\n",
    "a whole kubepods there": f"0::/kubepods/burstable/pod{UID}/{ID}/kubepods/pod{OTHER}/{ID2}\n",
    "the same, from a cgroup namespace": f"0::/../../pod{UID}/{ID}/pod{OTHER}/{ID2}\n",
    "a slice below a container": f"0::/kubepods/pod{UID}/{ID}{slice_of(OTHER)}/crio-{ID2}.scope\n",
    "hierarchies that name two pods": f"5:devices:/kubepods/pod{UID}/{ID}\n0::/kubepods/pod{OTHER}/{ID}\n",
    "hierarchies that name two containers": f"5:devices:/kubepods/pod{UID}/{ID}\n0::/kubepods/pod{UID}/{ID2}\n",
    "one hierarchy that names half a pod": f"5:devices:/kubepods/pod{UID}/{ID}\n0::/kubepods/pod{UID}\n",
    "one hierarchy without the pod": f"5:devices:/kubepods/pod{UID}/{ID}\n0::/kubepods/burstable\n",
    "no kubepods above": f"0::/user.slice/pod{UID}/{ID}\n",
    "something else between": f"0::/kubepods/mine/pod{UID}/{ID}\n",
    "a UID of both dashes": f"0::/kubepods/pod{UID.replace('-', '_', 1)}/{ID}\n",
    "dashes in a slice": f"0::/kubepods.slice/kubepods-pod{UID}.slice/crio-{ID}.scope\n",
    "underscores in a directory": f"0::/kubepods/pod{UID.replace('-', '_')}/{ID}\n",
    "capitals": f"0::/kubepods/pod{UID.upper()}/{ID}\n",
    "a cgroup that was removed": f"0::/kubepods/pod{UID}/{ID} (deleted)\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_be_read_in_two_ways_or_in_none_is_refused(text: str) -> None:
    assert parse(text) is None


hexadecimal = st.text("0123456789abcdef", min_size=64, max_size=64)
uids = st.uuids().map(str)
# What a pod can make below its container's cgroup: names of its choice.
below = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="/\n", codec="utf-8"), min_size=1, max_size=20),
        uids.map(lambda uid: f"pod{uid}"),
        uids.map(lambda uid: slice_of(uid).rpartition("/")[2]),
        hexadecimal,
        hexadecimal.map(lambda one: f"cri-containerd-{one}.scope"),
        st.sampled_from(["kubepods", "kubepods.slice", "burstable", "..", "."]),
    ),
    max_size=5,
)


@given(uids, hexadecimal, below, st.sampled_from(["/kubepods/burstable/pod{}/", "/kubepods/pod{}/", "/../../pod{}/"]))
def test_whatever_a_pod_makes_below_its_own_cgroup_it_stays_itself_or_is_nobody(
    uid: str, container: str, own: list[str], form: str
) -> None:
    assert parse(f"0::{'/'.join([form.format(uid) + container, *own])}\n") in (PodCgroup(uid, container), None)


@given(uids, hexadecimal, st.sampled_from(["", "burstable", "besteffort"]), st.sampled_from(["", "node2-", "a-b-"]))
def test_every_pod_of_a_systemd_driver_is_found(uid: str, container: str, qos: str, prefix: str) -> None:
    path = slice_of(uid, qos, prefix)
    assert parse(f"0::{path}/cri-containerd-{container}.scope\n") == PodCgroup(uid, container)
    root, *middle, pod = path.strip("/").split("/")
    assert is_kubepods(root)
    assert all(is_class(name) for name in middle)
    assert pod_uid(pod) == uid


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert parse(text) is None or "pod" in text
