"""What a run may leave in the machine, as a set of names: taken before and after, the difference is a bug.

Covers what the project makes: BPF pins, links and programs, network devices and namespaces, cgroups, mounts
and processes.  Everything is read from the kernel, not from our own book-keeping.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SESSION_VARIABLE = "NODEAGENT_TEST_SESSION"  # children inherit it: a process that carries ours is ours
PREFIX = "na"  # begins the name of every test bed, benchmark and cluster
CLUSTER_PREFIX = "nac"  # begins the name of every cluster of tests/cluster, and so of its cgroups
BPFFS = Path("/sys/fs/bpf")
NETNS = Path("/run/netns")


def snapshot(session: str) -> frozenset[str]:
    """Everything of the kinds above that exists now; `session` names the processes that count."""
    found = _pins() | _bpf_objects("link") | _bpf_objects("prog") | _netns() | _cgroups() | _mounts()
    return frozenset(found | _devices() | _processes(session))


def wait_until_clean(before: frozenset[str], session: str, seconds: float = 5.0) -> list[str]:
    """New things that are still there after at most `seconds` (the kernel frees links and cgroups lazily)."""
    deadline = time.monotonic() + seconds
    while True:
        new = sorted(snapshot(session) - before)
        if not new or time.monotonic() > deadline:
            return new
        time.sleep(0.1)


def _pins() -> set[str]:
    return {f"pin {path}" for path in BPFFS.rglob("*")} if BPFFS.is_dir() else set()


def _bpf_objects(kind: str) -> set[str]:
    done = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=False)
    rows = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    # Programs of others (systemd's device filters, say) may come and go: only the types that we load count.
    ours = {"cgroup_sock_addr", "cgroup_sock", "sock_ops", "sk_lookup", "sk_msg"}
    return {f"bpf {kind} {row['id']} {row.get('name', '')}" for row in rows if kind == "link" or row["type"] in ours}


def _netns() -> set[str]:
    return {f"netns {path.name}" for path in NETNS.iterdir()} if NETNS.is_dir() else set()


def _devices() -> set[str]:
    return {f"device {path.name}" for path in Path("/sys/class/net").iterdir()}


def cgroup2_root() -> Path:
    """The mount point of the cgroup2 hierarchy: not always /sys/fs/cgroup (hybrid machines)."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    raise RuntimeError("no cgroup2 mount in /proc/self/mountinfo; mount one: mount -t cgroup2 none /sys/fs/cgroup")


def cgroup1_roots() -> list[Path]:
    """Mount points of v1 hierarchies; none on a machine with cgroup2 alone."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[4]) for line in lines if " - cgroup " in line]


def _cgroups() -> set[str]:
    """Of v1 hierarchies only what begins as names of ours do: other services of a machine come and go there."""
    ours = (folder for root in cgroup1_roots() for folder in root.glob(f"{PREFIX}*"))
    return {f"cgroup {folder}" for folder in (*ours, *_below(cgroup2_root()))}


def _below(root: Path) -> Iterator[str]:
    """All cgroups, but of a cluster's machine only the root: pods come and go in a cluster that was there before."""
    for folder, children, _ in os.walk(root):
        if Path(folder).parent == root and Path(folder).name.startswith(CLUSTER_PREFIX):
            children.clear()
        yield folder


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return {f"mount {line.split()[4]}" for line in lines}


def _processes(session: str) -> set[str]:
    mark = f"{SESSION_VARIABLE}={session}".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command:  # empty: a zombie of ours that its parent has not reaped yet, or a kernel thread
                    found.add(f"process {folder.name} {command[:120]}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked
    return found
