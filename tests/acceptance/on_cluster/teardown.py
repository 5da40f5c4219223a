"""Line 11: a cluster of its own with the agent and an enrolled pod on it, taken down with all of it running."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests import leftovers
from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import ENABLED, Mesh
from tests.cluster import agent_image, gateway_api
from tests.cluster.cluster import Cluster, of_this_process

NAME = "left"


@dataclass(frozen=True)
class Down:
    there: int  # things of the cluster's while it was up
    left: list[str]


def up_and_down() -> Down:
    session = os.environ[leftovers.SESSION_VARIABLE]
    before = leftovers.snapshot(session)
    cluster = of_this_process()
    try:
        cluster.up(1)
        _install(cluster)
        there = len([line for line in leftovers.snapshot(session) - before if cluster.tag in line])
    finally:
        cluster.down()
    left = [line for line in leftovers.wait_until_clean(before, session) if cluster.tag in line]
    return Down(there, [*left, *_processes(cluster), *_files(cluster)])


def _install(cluster: Cluster) -> None:
    for archive in agent_image.archives():
        cluster.load(archive)
    gateway_api.install(cluster)
    mesh = Mesh(cluster)
    mesh.install()
    mesh.wait_ready()
    space = objects.namespace(NAME)
    space["metadata"]["labels"] = {ENABLED: "enabled"}
    pod = objects.server(NAME, "served-1", "node1")
    objects.create_namespace(cluster, space)
    objects.apply(cluster, pod)
    objects.wait_pods(cluster, pod)


def _processes(cluster: Cluster) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if cluster.tag.encode() in words:
            found.append(f"process {path.parent.name} {words!r}")
    return found


def _files(cluster: Cluster) -> list[str]:
    return [f"directory {cluster.directory}"] if cluster.directory.exists() else []
