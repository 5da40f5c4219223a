"""What of an agent is on a node, also when it has gone; and its rights, for tests that take these away first."""

from __future__ import annotations

from tests.cluster.node import Node

RIGHTS = (
    ("delete", "clusterrolebinding,clusterrole", "nodeagent"),
    ("-n", "nodeagent", "delete", "rolebinding,role", "nodeagent"),
)
# Whatever an agent makes; the directories of the node that a pod mounts stay, empty.
FIND = (
    "find /sys/fs/bpf/nodeagent /run/nodeagent /var/lib/nodeagent -mindepth 1 2>/dev/null;"
    " find /sys/fs/cgroup/unified -name 'nodeagent-*'; true"
)


def is_hooked(node: Node) -> bool:
    return "na_" in node.box.run(["bpftool", "cgroup", "show", "/sys/fs/cgroup/unified"])


def left(node: Node) -> list[str]:
    return node.box.run(["sh", "-c", FIND]).split()
