"""Where an instance keeps its pins.

    <bpffs>/v<layout version>/maps/<map name>
                             /progs/<program name>
                             /links/<hook name>
                             /workers/<number>       directories, locked by the worker with that number

Everything an instance leaves in the kernel hangs below that one directory: removing it removes the
instance.  A change of a pinned struct bumps the version in bpf/abi.h, so that an agent never reads
maps of another layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nodeagent.kernel import abi

DEFAULT_BPFFS = Path("/sys/fs/bpf/nodeagent")

CONFIG = "config"
BYPASS = "bypass"
EXEMPT_CGROUPS = "exempt_cgroups"
PODS = "pods"
GUARD = "guard"
OWN_ADDRESSES = "own_addresses"
DESTINATIONS = "destinations"
ENDPOINTS = "endpoints"
ENDPOINTS_UNTIL = "endpoints_until"
DIALLED = "dialled"
VERDICTS = "verdicts"
CONNECT_RATES = "connect_rates"
LISTENERS = "listeners"
ORIGINALS = "originals"
IN_FLIGHT = "in_flight"
SOCKETS = "sockets"
CONNECTIONS = "connections"
NAMES = "names"
HEARTBEATS = "heartbeats"
SLOTS = "slots"
BUCKETS = "buckets"
BUDGETS = "budgets"
RECORDS = "records"
BLANK_RECORD = "blank_record"
PULSE = "pulse"
REQUESTS = "requests"


def requests_map(worker: int) -> str:
    """Name of the map that holds one worker's request series."""
    return f"{REQUESTS}_{worker}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The pin paths of one instance."""

    bpffs: Path = DEFAULT_BPFFS
    version: int = abi.LAYOUT_VERSION

    @property
    def root(self) -> Path:
        return self.bpffs / f"v{self.version}"

    @property
    def maps(self) -> Path:
        return self.root / "maps"

    @property
    def progs(self) -> Path:
        return self.root / "progs"

    @property
    def links(self) -> Path:
        return _inside(_inside(self.bpffs, f"v{self.version}"), "links")

    @property
    def workers(self) -> Path:
        """Beside the maps, since a worker's number is its place in them."""
        return self.root / "workers"

    def map(self, name: str) -> Path:
        return self.maps / name

    def prog(self, name: str) -> Path:
        return self.progs / name

    def link(self, hook: str) -> Path:
        return _inside(self.links, hook)

    def directories(self) -> tuple[Path, ...]:
        return (self.bpffs, self.root, self.maps, self.progs, self.links, self.workers)


@lru_cache(maxsize=64)
def _inside(directory: Path, name: str) -> Path:
    """Made once: whether all hooks are attached is asked several times a second."""
    return directory / name


def sources() -> Path:
    """Directory of the BPF sources: inside an installed package, else beside it in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_bpf"
    return installed if installed.is_dir() else package.parent / "bpf"
