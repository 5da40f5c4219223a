"""What the CLI reads from pins when no agent answers, and may read beside one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nodeagent.agent.lease import Lease, holder
from nodeagent.agent.settings import Settings
from nodeagent.cli.errors import MissingError
from nodeagent.kernel import bpf, syscall
from nodeagent.kernel.hooks import HOOKS
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.maps import ConnectionRow, Maps
from nodeagent.metrics.series import DRY_RUN_WORDS


def agent_pid(run_dir: Path) -> int:
    """The pid of the agent that holds the lease; 0 = none lives."""
    path = Settings(Path(), run_dir=run_dir).lease_file
    if not path.exists():
        return 0
    lease = Lease(path)
    pid = holder(path)
    if lease.try_acquire():
        lease.release()
        return 0
    return pid


def pins(bpffs: Path) -> Layout:
    """MissingError if the instance has nothing pinned."""
    layout = Layout(bpffs)
    if not layout.maps.is_dir():
        raise MissingError(f"no instance is pinned in {bpffs}: nothing was attached there; --bpffs names another place")
    return layout


def attached_hooks(layout: Layout) -> dict[str, dict[str, int]]:
    """Hook -> program id and cgroup id, of hooks that are attached to a living cgroup."""
    found = {}
    for hook in HOOKS:
        path = layout.link(hook.name)
        if path.exists():
            fd = syscall.obj_get(path)
            try:
                program, cgroup = bpf.cgroup_link_info(fd)
            finally:
                os.close(fd)
            if cgroup:
                found[hook.name] = {"program": program, "cgroup": cgroup}
    return found


def pinned_cgroup(layout: Layout) -> Path | None:
    """Where the pinned instance says it is attached (`Instance.text`); None if nothing is pinned or it is gone."""
    if not layout.maps.is_dir():
        return None
    with Maps(layout) as maps:
        path = Path(maps.read_config().instance.partition(" bpffs=")[0].removeprefix("cgroup="))
    return path if path.is_absolute() and path.is_dir() else None


def dead_status(layout: Layout) -> dict[str, Any]:
    """What the kernel still does without an agent; the same keys where nothing is pinned."""
    if not layout.maps.is_dir():
        instance = {"name": "", "bpffs": str(layout.bpffs), "attached": False, "bypass": False, "hooks": []}
        return {"instance": instance, "workers_beating": {}, "pods": {"enrolled_count": 0}, **counted(())}
    hooks = attached_hooks(layout)
    with Maps(layout) as maps:
        config = maps.read_config()
        now = time.monotonic()
        ages = {index: round(now - beat / 1e9, 3) for index, beat in enumerate(maps.heartbeats()) if beat}
        beating = {index: age for index, age in ages.items() if age * 1000 <= config.heartbeat_limit_ms}
        pods = maps.map("pods").count()
        counts = counted(maps.connections())
    return {
        "instance": {
            "name": config.instance,
            "bpffs": str(layout.bpffs),
            "attached": len(hooks) == len(HOOKS),
            "bypass": config.bypass,
            "hooks": sorted(hooks),
        },
        "workers_beating": beating,
        "pods": {"enrolled_count": pods},
        **counts,
    }


def counted(rows: Iterable[ConnectionRow]) -> dict[str, dict[str, int]]:
    """By outcome.  What a dry run says of a connection is none of its own: it has another outcome, too."""
    found: dict[str, dict[str, int]] = {"connections": {}, "dry_run": {}}
    for row in rows:
        tried = DRY_RUN_WORDS.get(row.outcome)
        kind, word = ("dry_run", tried) if tried else ("connections", row.outcome.name.lower().replace("_", "-"))
        found[kind][word] = found[kind].get(word, 0) + row.opened
    return found
