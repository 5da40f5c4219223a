"""`python -m bench.memory`: memory of all processes of the agent idle, and per idle proxied connection.

RSS counts a page for every process that maps it, PSS shares it out; the goal is about RSS, the
stricter one.  Envoy is measured in the same way, for comparison.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import children, cpu, paths, report, stage
from bench.cases import CASES
from bench.errors import BenchError, ChildFailedError

GOAL_IDLE_KB = 96 * 1024
GOAL_CONNECTION_BYTES = 20 * 1024
SETTLE_SECONDS = 3.0  # start-up garbage is freed, timers have fired
WORKER = "nodeagent.proxy.worker"


@dataclass(frozen=True, slots=True)
class Memory:
    """One process; kilobytes.  `name` is the module it runs, else its program."""

    pid: int
    name: str
    rss_kb: int
    pss_kb: int


@dataclass(frozen=True, slots=True)
class Held:
    """What `connections` idle connections cost one process, in bytes each; `kept_kb` is not given back at their end."""

    path: str
    connections: int
    failed: int
    bytes_each: float
    kept_kb: int


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name


def _memory(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Memory(pid, _name(pid), sizes["Rss"], sizes["Pss"])


def of_tree(root: int) -> list[Memory]:
    """Every process from `root` down."""
    return [_memory(pid) for pid in cpu.tree(root)]


def heaviest(root: int) -> Memory:
    """The worker of an agent; Envoy itself."""
    found = of_tree(root)
    return next((memory for memory in found if memory.name == WORKER), found[0])


def _hold(way: paths.Way, count: int) -> Held:
    before = heaviest(way.pid)
    argv = [sys.executable, "-m", "bench.hold", way.url, str(count)]
    with children.running(way.place, argv, log=subprocess.PIPE, cwd=paths.REPO) as process:
        if process.stdout is None:
            raise ChildFailedError("bench.hold has no output")
        lines = iter(process.stdout.readline, b"")
        answer = next((line for line in lines if line.startswith(b"{")), b"")
        if not answer:
            raise ChildFailedError(f"bench.hold over {way.name} ended without an answer")
        told = json.loads(answer)
        time.sleep(SETTLE_SECONDS)
        grown = heaviest(way.pid).rss_kb - before.rss_kb
    time.sleep(SETTLE_SECONDS)
    kept = heaviest(way.pid).rss_kb - before.rss_kb
    return Held(way.name, told["held"], told["failed"], grown * 1024 / max(told["held"], 1), kept)


def _say_idle(title: str, processes: list[Memory]) -> None:
    print(f"{title}, idle (MB)")
    for memory in processes:
        print(f"  {memory.name:<34} rss {memory.rss_kb / 1024:6.1f}  pss {memory.pss_kb / 1024:6.1f}")
    rss, pss = sum(memory.rss_kb for memory in processes), sum(memory.pss_kb for memory in processes)
    print(f"  {'together':<34} rss {rss / 1024:6.1f}  pss {pss / 1024:6.1f}")


def _say_held(held: Held) -> None:
    failed = f", {held.failed} FAILED" if held.failed else ""
    print(f"{held.path}: {held.connections} idle connections, {held.bytes_each / 1024:.1f} KB each{failed};", end=" ")
    print(f"{held.kept_kb / 1024:.1f} MB kept after they closed")


def measure(names: tuple[str, ...], count: int) -> dict[str, object]:
    """Idle processes and held connections of the named proxy paths, printed and as JSON-ready values."""
    found: dict[str, object] = {}
    with stage.standing(paths.ENVOY in names, paths.RUNG3 in names) as scene:
        for way in paths.build(names, scene.cgroups, scene.envoy_pid, scene.mesh_pid):
            paths.prove(way, CASES[0])
            time.sleep(SETTLE_SECONDS)
            idle = of_tree(way.pid)
            _say_idle(way.name, idle)
            held = _hold(way, count)
            _say_held(held)
            found[way.name] = {"idle": [asdict(memory) for memory in idle], "held": asdict(held)}
    return found


def _verdict(found: dict[str, object]) -> list[str]:
    mesh = found.get(paths.RUNG3)
    if not isinstance(mesh, dict):
        return []
    idle, each = sum(memory["rss_kb"] for memory in mesh["idle"]), mesh["held"]["bytes_each"]
    words = ["met   " if ok else "MISSED" for ok in (idle <= GOAL_IDLE_KB, each <= GOAL_CONNECTION_BYTES)]
    return [
        f"{words[0]} idle, all processes: {idle / 1024:.1f} MB (goal <= {GOAL_IDLE_KB // 1024})",
        f"{words[1]} per idle proxied connection: {each / 1024:.1f} KB (goal <= {GOAL_CONNECTION_BYTES // 1024})",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--paths", nargs="+", choices=paths.PROXIES, default=list(paths.PROXIES))
    options = parser.parse_args()
    try:
        found = measure(tuple(options.paths), options.connections)
    except BenchError as error:
        print(f"bench.memory: {error}", file=sys.stderr)
        return 1
    print(*_verdict(found), sep="\n")
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "memory.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
