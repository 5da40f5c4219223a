"""`python -m tests.cluster up|down|load|kubectl`, as root: a real Kubernetes cluster on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster import builds, images, progress
from tests.cluster.box import BoxError
from tests.cluster.cluster import DEFAULT_TAG, Cluster, ClusterError, run_kubectl
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
    load = commands.add_parser("load", help="load an image archive on every node")
    load.add_argument("archive", type=Path)
    kubectl = commands.add_parser("kubectl", help="kubectl with all rights", add_help=False)
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _do(arguments: argparse.Namespace) -> int:
    cluster = Cluster(arguments.tag)
    if arguments.command == "up":
        cluster.up(arguments.nodes)
        progress.say(f"kubectl: {cluster.kubectl_program}")
    elif arguments.command == "down":
        with progress.step(f"taking cluster {cluster.tag} down"):
            cluster.down()
    elif arguments.command == "load":
        cluster.load(arguments.archive)
    else:
        return run_kubectl(cluster, arguments.arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
