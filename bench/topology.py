"""One small node in network namespaces, and the two cgroups that tell "mesh" from "no mesh".

    nab-on (a pod in the mesh) ----+
    nab-off (a pod outside it) ----+-- bridge in nab-node
    nab-up (the upstream)      ----+

The three pods are alike: one veth each to one bridge.  What runs in the `plain` cgroup never meets a
hook; what runs in `mesh/pods` does, because the mesh attaches to `mesh`.  So the paths run side by
side, and no path waits for the mesh to be attached or detached.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODE, ON, OFF, UP = "nab-node", "nab-on", "nab-off", "nab-up"
ADDRESSES = {ON: "198.19.240.10", OFF: "198.19.240.11", UP: "198.19.240.20"}
GATEWAY = "198.19.240.1"
NETNS_DIR = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Cgroup v2 directories: `mesh` is where the mesh attaches, with `pods` and `agent` below it."""

    root: Path

    @property
    def plain(self) -> Path:
        return self.root / "plain"

    @property
    def mesh(self) -> Path:
        return self.root / "mesh"

    @property
    def pods(self) -> Path:
        return self.mesh / "pods"

    @property
    def agent(self) -> Path:
        return self.mesh / "agent"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}; the benchmark needs root and iproute2")


def _add_namespace(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _add_pod(name: str, address: str) -> None:
    _add_namespace(name)
    _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"v{name}", "netns", NODE)
    _ip("-n", NODE, "link", "set", f"v{name}", "master", "br0", "up")
    _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "route", "add", "default", "via", GATEWAY)


def _remove_leftovers() -> None:
    for name in (*ADDRESSES, NODE):
        if (NETNS_DIR / name).exists():
            _ip("netns", "del", name)


@contextmanager
def network() -> Iterator[None]:
    """The namespaces, for the length of a `with`; what a killed run left behind goes first."""
    _remove_leftovers()
    try:
        _add_namespace(NODE)
        _ip("-n", NODE, "link", "add", "br0", "type", "bridge")
        _ip("-n", NODE, "address", "add", f"{GATEWAY}/24", "dev", "br0")
        _ip("-n", NODE, "link", "set", "br0", "up")
        for name, address in ADDRESSES.items():
            _add_pod(name, address)
        yield
    finally:
        _remove_leftovers()


def cgroup2_root() -> Path:
    """Where cgroup v2 is mounted: not always /sys/fs/cgroup (proc_pid_mountinfo(5))."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise RuntimeError("cgroup v2 is not mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup")


def own_cgroup() -> Path:
    line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return cgroup2_root() / line.removeprefix("0::").lstrip("/")


@contextmanager
def cgroups() -> Iterator[Cgroups]:
    """The cgroups, for the length of a `with`; every process in them must have ended by then."""
    made = Cgroups(cgroup2_root() / "nab-bench")
    try:
        for directory in (made.plain, made.pods, made.agent):
            directory.mkdir(parents=True, exist_ok=True)
        yield made
    finally:
        for directory in (made.agent, made.pods, made.mesh, made.plain, made.root):
            if directory.exists():
                os.rmdir(directory)
