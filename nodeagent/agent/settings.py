"""What one instance was asked to be: frozen, parsed once, handed down.

Reading flags is the CLI's job; this module only checks values and derives paths from them.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from nodeagent.core.unclassified import Unclassified

DEFAULT_BPFFS = Path("/sys/fs/bpf/nodeagent")
DEFAULT_RUN_DIR = Path("/run/nodeagent")
DEFAULT_STATE_DIR = Path("/var/lib/nodeagent")
DEFAULT_METRICS_ADDRESS = "127.0.0.1:15020"

# One worker is 25-30 MB and forwards about 30,000 requests/s; four serve any node we know of.
MAX_DEFAULT_WORKERS = 4
# NA_MAX_WORKERS of bpf/abi.h is 16 and a replaced worker may still be draining, so half stays free.
MAX_WORKERS = 8
MIN_MEMORY_MIB = 32


class SettingsError(ValueError):
    """A flag has a value this agent cannot run with; the text says which and what is accepted."""


def default_workers() -> int:
    return min(MAX_DEFAULT_WORKERS, max(1, (os.cpu_count() or 1) // 2))


def default_node_name() -> str:
    """As the kubelet names its node when it is told nothing else."""
    return socket.gethostname().lower()


def parse_address(text: str) -> tuple[str, int]:
    """ "127.0.0.1:15020" or "[::1]:15020" -> (host, port); port 0 lets the kernel choose."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--metrics-address {text!r} is not HOST:PORT, for example {DEFAULT_METRICS_ADDRESS}")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class Settings:
    """`cgroup` None = the root of the mounted cgroup2 hierarchy.  `drain_seconds` bounds a graceful stop.

    `manifests` None = objects come from the API server: the one of `kubeconfig`, else of the pod that we run in.
    """

    manifests: Path | None
    cgroup: Path | None = None
    bpffs: Path = DEFAULT_BPFFS
    run_dir: Path = DEFAULT_RUN_DIR
    state_dir: Path = DEFAULT_STATE_DIR
    bytecode: Path | None = None  # compiled programs, where there is no compiler
    workers: int = 1
    memory_mib: int | None = None  # instead of the cgroup's limit
    metrics_address: str = DEFAULT_METRICS_ADDRESS
    takeover: bool = False
    stand_by: Path | None = None  # after a takeover stay, idle; the file keeps when our pod was born
    keep_attached: bool = False
    drain_seconds: float = 10.0
    refuse_broken: bool = True  # a policy that never compiled denies what it protects
    allow_fault_injection: bool = False  # of TrafficPolicies
    node_name: str = ""
    kubeconfig: Path | None = None
    daemonset: str = ""  # "namespace/name" of the one whose pod we are; gone at SIGTERM = nothing stays
    zone: str = ""  # "" = the one of the Node object named `node_name`
    unclassified: Unclassified = Unclassified.BY_FAIL_MODE
    kubepods: Path | None = None  # the kubelet's cgroup; None = it is looked for below `cgroup`

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SettingsError(f"--workers {self.workers} is out of range: 1 to {MAX_WORKERS}")
        if self.memory_mib is not None and self.memory_mib < MIN_MEMORY_MIB:
            raise SettingsError(f"--memory {self.memory_mib} is too little: at least {MIN_MEMORY_MIB} (MiB)")
        parse_address(self.metrics_address)
        if self.stand_by is not None and not self.takeover:
            raise SettingsError("--stand-by is for agents that replace each other by --takeover: give both")
        if self.daemonset and not all(self.daemonset.partition("/")):
            raise SettingsError(f"--daemonset {self.daemonset!r} is not NAMESPACE/NAME")

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory_mib is None else self.memory_mib * 1024 * 1024

    @property
    def admin_socket(self) -> Path:
        return admin_socket(self.run_dir)

    @property
    def lease_file(self) -> Path:
        return self.run_dir / "agent.lock"


def admin_socket(run_dir: Path) -> Path:
    return run_dir / "admin.sock"
