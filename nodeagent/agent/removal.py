"""Nothing of an instance stays, in the kernel or on disk: `nodeagent uninstall`, an agent at its DaemonSet's end."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from nodeagent.agent import own_cgroup
from nodeagent.kernel import cgroups
from nodeagent.kernel.instance import Instance


def last_good(state_dir: Path) -> list[Path]:
    """What sources keep across restarts: of a directory, and of an API server."""
    return [path for path in (state_dir / "last-good", *sorted(state_dir.glob("cluster.db*"))) if path.exists()]


def remove(bpffs: Path, others: Iterable[Path]) -> None:
    """Detach, and remove every pin, the `others`, and cgroups that agents made and left."""
    Instance(cgroups.root(), bpffs).detach()
    for path in others:
        remove_tree(path)
    own_cgroup.remove_empty(cgroups.root(), bpffs)


def remove_tree(path: Path) -> None:
    """A mount point, as a pod has for a directory of the node, stays, empty.  Nothing there is fine."""
    if path.is_mount():
        for child in path.iterdir():
            remove_tree(child)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
