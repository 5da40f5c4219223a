"""`python -m tests.cluster up|down|load|agent|shell|sweep`, as root: a real Kubernetes cluster on this machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster import agent_image, builds, images, progress
from tests.cluster.box import BoxError
from tests.cluster.cluster import DEFAULT_TAG, Cluster, ClusterError, orphans
from tests.testbed.shell import CommandError


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        print("A cluster makes network namespaces, cgroups and mounts: run it as root.", file=sys.stderr)
        return 2
    try:
        return _do(arguments)
    except (builds.BuildError, images.ImageError, BoxError, ClusterError, CommandError) as problem:
        print(f"cluster: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    tag = os.environ.get("CLUSTER") or DEFAULT_TAG
    parser.add_argument("--tag", default=tag, help=f"which cluster [$CLUSTER or {DEFAULT_TAG}]")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring one up")
    up.add_argument("--nodes", type=int, default=2)
    commands.add_parser("down", help="take it down; nothing is left")
    commands.add_parser("sweep", help="take down the clusters of tests that were killed")
    commands.add_parser("agent", help="build the agent's images from this tree and load them on every node")
    shell = commands.add_parser("shell", help="a shell, or a command, on a node")
    shell.add_argument("box", help="node1, node2, ... or control")
    shell.add_argument("arguments", nargs=argparse.REMAINDER)
    load = commands.add_parser("load", help="load an image archive on every node")
    load.add_argument("archive", type=Path)
    return parser


def _do(arguments: argparse.Namespace) -> int:
    return COMMANDS[arguments.command](Cluster(arguments.tag), arguments)


def _up(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.up(arguments.nodes)
    progress.say(f"kubectl: {cluster.kubectl_program}")
    return 0


def _down(cluster: Cluster, _: argparse.Namespace) -> int:
    with progress.step(f"taking cluster {cluster.tag} down"):
        cluster.down()
    return 0


def _sweep(_: Cluster, __: argparse.Namespace) -> int:
    for orphan in orphans():
        progress.say(f"taking down {orphan.tag}, whose test was killed")
        orphan.down()
    return 0


def _load(cluster: Cluster, arguments: argparse.Namespace) -> int:
    cluster.load(arguments.archive)
    return 0


def _agent(cluster: Cluster, _: argparse.Namespace) -> int:
    for archive in agent_image.archives():
        cluster.load(archive)
    progress.say(f"loaded as {', '.join(agent_image.NAMES.values())}; kubectl apply -k tests/cluster/manifests/agent")
    return 0


def _shell(cluster: Cluster, arguments: argparse.Namespace) -> int:
    command = cluster.box(arguments.box).inside(arguments.arguments or ["/bin/bash"])
    return subprocess.run(command, check=False).returncode


COMMANDS: dict[str, Callable[[Cluster, argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "sweep": _sweep,
    "load": _load,
    "agent": _agent,
    "shell": _shell,
}


if __name__ == "__main__":
    sys.exit(main())
