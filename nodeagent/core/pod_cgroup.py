"""Whose process is it?  /proc/PID/cgroup -> the pod's UID and the container's id, or None.

The kubelet makes a cgroup per pod below `kubepods`, and the runtime one per container below that:

    cgroupfs   /kubepods/burstable/pod<UID>/<64 hex>
    systemd    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID, _ for ->.slice/crio-<64 hex>.scope

`kubepods` may lie below another cgroup, whose name a systemd driver puts before each slice's.  Guaranteed pods have no
level for their class.  Whoever reads from a cgroup namespace of its own sees paths that begin with `..`, and of its
neighbours perhaps no `kubepods`.

None is also the answer to everything that two readings would fit: a pod's cgroup below another pod's, hierarchies that
name different pods, a process in the pod's cgroup that is in no container (as a runtime's own: conmon).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UUID = r"[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?:(?P=dash)[0-9a-f]{4}){2}(?P=dash)[0-9a-f]{12}"
# A pod of a manifest on the node has the hash of that manifest, where others have a UUID.
_UID = rf"(?P<uid>{_UUID}|[0-9a-f]{{32}})"
_CGROUPFS = re.compile(rf"pod{_UID}")
_SYSTEMD = re.compile(rf"(?:[^/]+-)?kubepods(?:-burstable|-besteffort)?-pod{_UID}\.slice")
_ROOT = re.compile(r"kubepods|(?:[^/]+-)?kubepods\.slice")
_CLASS = re.compile(r"burstable|besteffort|(?:[^/]+-)?kubepods-(?:burstable|besteffort)\.slice")
_CONTAINER = re.compile(r"(?:(?P<runtime>[a-z][a-z0-9.-]*)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
# Where kubelet and runtime disagree about the driver, runc takes "slice:prefix:id" for one name.
_JOINED = re.compile(r"(?P<slice>[^/:]+\.slice):(?P<runtime>[^/:]+):(?P<id>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """`uid` as the API server writes it; a static pod's has no dashes, and is not its mirror's in the API."""

    uid: str
    container: str  # 64 hex digits


def is_static(uid: str) -> bool:
    """Of a pod that the kubelet took from a file of the node."""
    return "-" not in uid


def is_kubepods(name: str) -> bool:
    """Whether a directory of that name holds all pods of a node."""
    return _ROOT.fullmatch(name) is not None


def is_class(name: str) -> bool:
    """Whether a directory of that name, in `kubepods`, holds the pods of a QoS class."""
    return _CLASS.fullmatch(name) is not None


def pod_uid(name: str) -> str:
    """The UID in the name of a pod's cgroup, "" if it is no such name."""
    found = _CGROUPFS.fullmatch(name)
    if found:
        return "" if found["dash"] == "_" else found["uid"]
    found = _SYSTEMD.fullmatch(name)
    return "" if not found or found["dash"] == "-" else found["uid"].replace("_", "-")


def container_id(name: str) -> str:
    """The id in the name of a container's cgroup, "" if it is no such name."""
    found = _CONTAINER.fullmatch(name)
    if not found or "conmon" in (found["runtime"] or ""):
        return ""
    return found["id"]


def parse(text: str) -> PodCgroup | None:
    """What all lines of /proc/PID/cgroup that name a pod agree on."""
    found = {_of_path(path) for path in _paths(text) if _names_a_pod(path)}
    return found.pop() if len(found) == 1 else None


def _paths(text: str) -> list[tuple[str, ...]]:
    """The path of each hierarchy, in segments.  `ID:controllers:path`, and a path may have colons."""
    return [_segments(line.split(":", 2)[2]) for line in text.splitlines() if line.count(":") >= 2]


def _segments(path: str) -> tuple[str, ...]:
    segments: list[str] = []
    for segment in path.strip("/").split("/"):
        joined = _JOINED.fullmatch(segment)
        segments += [joined["slice"], f"{joined['runtime']}-{joined['id']}.scope"] if joined else [segment]
    return tuple(segments)


def _names_a_pod(path: tuple[str, ...]) -> bool:
    """Whatever looks like it: a line that is only half right must not be outvoted by the others."""
    return any(is_kubepods(segment) or pod_uid(segment) for segment in path)


def _of_path(path: tuple[str, ...]) -> PodCgroup | None:
    places = [place for place, segment in enumerate(path) if pod_uid(segment)]
    if len(places) != 1 or not _below_kubepods(path[: places[0]], path[places[0]]):
        return None
    below = path[places[0] + 1 :]
    container = container_id(below[0]) if below else ""
    return PodCgroup(pod_uid(path[places[0]]), container) if container else None


def _below_kubepods(above: tuple[str, ...], pod: str) -> bool:
    """Of a relative path the beginning is not seen, and a systemd driver names it in the pod's own slice."""
    if ".." in above or pod.endswith(".slice"):
        return True
    roots = [place for place, segment in enumerate(above) if is_kubepods(segment)]
    return len(roots) == 1 and all(is_class(segment) for segment in above[roots[0] + 1 :])
