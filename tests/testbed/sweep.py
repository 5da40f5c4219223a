"""`python -m tests.testbed.sweep`: removes testbeds whose owner was killed before it could.

A testbed's names carry the pid of the process that made it: one whose owner still lives is left alone.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from tests.leftovers import cgroup2_root
from tests.testbed import cgroups
from tests.testbed.bed import BPFFS
from tests.testbed.network import NETNS_DIR
from tests.testbed.shell import run

_TAG = re.compile(r"nat-(\d+)-\d+")


def main() -> None:
    for path in _orphans(cgroup2_root()):
        print(f"removing cgroup {path} and ending what runs in it")
        cgroups.kill(path)
        cgroups.remove(path)
    for path in _orphans(NETNS_DIR):
        print(f"removing network namespace {path.name}")
        run(["ip", "netns", "del", path.name])
    for path in [*_orphans(BPFFS), *_orphans(Path(tempfile.gettempdir()))]:
        print(f"removing {path}")
        shutil.rmtree(path)


def _orphans(folder: Path) -> list[Path]:
    return [path for path in folder.glob("nat-*") if _owner_is_gone(path.name)]


def _owner_is_gone(name: str) -> bool:
    found = _TAG.match(name)
    return found is not None and not Path("/proc", found[1]).exists()


if __name__ == "__main__":
    main()
