"""Line 10: `kubectl delete -k`, seen from the pods."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

from tests.acceptance.on_cluster import watched
from tests.acceptance.on_cluster.mesh import AGENT, Mesh
from tests.acceptance.on_cluster.waiting import until
from tests.cluster import remains


def seconds_until_direct(mesh: Mesh, seen: watched.Watched, first: Sequence[Sequence[str]]) -> float:
    """From `kubectl delete -k`, after the commands `first`, until pods of both nodes are served what was denied."""
    for command in first:
        mesh.cluster.kubectl(*command)
    until(lambda: {one.outcome for one in seen.seen() if one.name == "denied"} == {"403"}, 20, "the path is denied")
    began = time.time()
    deleting = [str(mesh.cluster.kubectl_program), "delete", "-k", str(AGENT), "--ignore-not-found", "--timeout=60s"]
    subprocess.run(deleting, check=True, stdout=subprocess.DEVNULL)
    time.sleep(2)
    denied = [one for one in seen.seen(began) if one.name == "denied"]
    last = max((one.time for one in denied if one.outcome != "200"), default=began)
    assert any(one.outcome == "200" for one in denied), "still denied"
    return last - began


def left_after(mesh: Mesh, seconds: float) -> list[str]:
    """What of an agent there is on the nodes, at most so many seconds later."""
    began = time.monotonic()
    while (found := _there(mesh)) and time.monotonic() - began < seconds:
        time.sleep(0.2)
    return found


def _there(mesh: Mesh) -> list[str]:
    nodes = mesh.cluster.nodes
    hooked = [f"{node.name} hooks" for node in nodes if remains.is_hooked(node)]
    return hooked + [f"{node.name} {line}" for node in nodes for line in remains.left(node)]
