"""The cgroup of this agent and its children, by which the hooks know our own sockets.

The workers connect inside pods' namespaces, where the hooks would redirect them again.  The hooks
exempt whole cgroups, so ours must hold nothing but us: when we were started in a cgroup that is
shared (a shell's, or the very one that is attached to), we move to one of our own below it.  Where the
hooks do not see us anyway, our id only tells our workers' connections from the pods'.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from nodeagent.kernel import cgroups

PROCS = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class OwnCgroup:
    """`made` = to be removed at the end."""

    path: Path
    made: bool = False
    before: Path | None = None

    @property
    def id(self) -> int:
        return cgroups.cgroup_id(self.path)


def current(proc: Path = Path("/proc/self/cgroup")) -> Path:
    """Our cgroup's directory (the cgroup2 line "0::/path")."""
    for line in proc.read_text().splitlines():
        if line.startswith("0::"):
            return cgroups.root() / line.removeprefix("0::/")
    return cgroups.root()


def name_for(bpffs: Path) -> str:
    """Stable per instance, so that a restart after SIGKILL finds the directory again."""
    return f"nodeagent-{hashlib.sha256(str(bpffs).encode()).hexdigest()[:8]}"


def settle(attached: Path, bpffs: Path) -> OwnCgroup:
    """Be in a cgroup that only we are in, if the hooks will see us at all."""
    here = current()
    if not here.is_relative_to(attached):
        return OwnCgroup(here)
    if here.name == name_for(bpffs) or (here != attached and _alone(here)):
        return OwnCgroup(here)
    own = here / name_for(bpffs)
    own.mkdir(exist_ok=True)
    (own / PROCS).write_text(str(os.getpid()))
    return OwnCgroup(own, made=True, before=here)


def _alone(path: Path) -> bool:
    return (path / PROCS).read_text().split() == [str(os.getpid())]


def leave(own: OwnCgroup) -> None:
    """Go back and remove what we made; a successor in the same cgroup keeps it."""
    if own.made and own.before is not None:
        (own.before / PROCS).write_text(str(os.getpid()))
        if not (own.path / PROCS).read_text().split():
            own.path.rmdir()


def remove_empty(root: Path, bpffs: Path) -> None:
    """Remove what an agent that was killed left: the cgroup of this instance, wherever it was made."""
    for path in root.rglob(name_for(bpffs)):
        if not (path / PROCS).read_text().split():
            path.rmdir()
