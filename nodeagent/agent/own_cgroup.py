"""The cgroup of this agent and its children, by which the hooks know our own sockets.

The workers connect inside pods' namespaces, where the hooks would redirect them again.  The hooks
exempt whole cgroups, so ours must hold nothing but us: when we were started in a cgroup that is
shared (a shell's, or the very one that is attached to), we move to one of our own below it.  Where the
hooks do not see us anyway, our id only tells our workers' connections from the pods'.

In a container with a cgroup namespace of its own (the runtimes' default where there is cgroup2 alone), the kernel
tells us that we are in "/".  The node's hierarchy, which the hooks need, is mounted from the node and shows all of
it; the cgroup that lists our process there is ours.
"""

from __future__ import annotations

import errno
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
    """Our cgroup's directory.  FileNotFoundError if it is not in the hierarchy that is mounted here."""
    told, pid = _told(proc.read_text()), os.getpid()
    if _lists(told, pid):
        return told
    for path in cgroups.descendants(cgroups.root()):
        if _lists(path, pid):
            return path
    raise FileNotFoundError(errno.ENOENT, f"no cgroup of this hierarchy lists our process {pid}", str(told))


def _told(text: str) -> Path:
    """What the cgroup2 line "0::/path" says, which is relative to our cgroup namespace's root."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return cgroups.root() / line.removeprefix("0::/")
    return cgroups.root()


def _lists(path: Path, pid: int) -> bool:
    """Our own pid as we know it: the file says 0 for processes that are not in our pid namespace."""
    try:
        return str(pid) in (path / PROCS).read_text().split()
    except OSError:  # gone meanwhile; or threaded, where a process of ours cannot be as a whole
        return False


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


def for_canary(own: Path, attached: Path, bpffs: Path) -> Path:
    """Where the hooks see the canary, and do not take it for one of us."""
    return (own if own.is_relative_to(attached) else attached) / f"{name_for(bpffs)}-canary"


def leave(own: OwnCgroup) -> None:
    """Go back and remove what we made; a successor in the same cgroup keeps it."""
    if own.made and own.before is not None:
        (own.before / PROCS).write_text(str(os.getpid()))
        if not (own.path / PROCS).read_text().split():
            own.path.rmdir()


def remove_empty(root: Path, bpffs: Path) -> None:
    """Remove what an agent that was killed left: the cgroups of this instance, wherever they were made."""
    for path in sorted(root.rglob(f"{name_for(bpffs)}*"), reverse=True):  # what is in another, first
        if not (path / PROCS).read_text().split():
            path.rmdir()
