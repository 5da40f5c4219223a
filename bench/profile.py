"""`python -m bench.profile`: where a worker's time goes while wrk loads it over rung 3.

py-spy samples the worker from outside (`.venv/bin/pip install py-spy`), so the worker runs as it does
in production.  `--native` adds C functions, `--tool perf` shows the kernel's share instead.  With
`--pid` any running process is sampled, and the load is somebody else's affair.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import cpu, memory, paths, report, stage, wrk
from bench.cases import CASES, cases_named
from bench.errors import BenchError, ChildFailedError, ToolMissingError

RATE = 500  # samples per second; py-spy falls behind at more
SHOWN = 25


def _py_spy() -> str:
    found = Path(sys.executable).with_name("py-spy")
    if not found.exists():
        raise ToolMissingError("py-spy is not installed; run: .venv/bin/pip install py-spy")
    return str(found)


def py_spy_command(pid: int, seconds: int, output: Path, native: bool) -> list[str]:
    """Raw output: one line per stack, frames joined by ";", then a blank and the number of samples."""
    argv = [_py_spy(), "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE), "--nonblocking"]
    return [*argv, "--format", "raw", "--output", str(output), *(["--native"] if native else [])]


def perf_command(pid: int, seconds: int, output: Path) -> list[str]:
    # cpu-clock: virtual machines often have no hardware counters
    events = ["-e", "cpu-clock", "-F", str(RATE), "-g"]
    return ["perf", "record", "-q", *events, "-p", str(pid), "-o", str(output), "--", "sleep", str(seconds)]


def tally(raw: str) -> tuple[Counter[str], Counter[str]]:
    """(self, total): samples with the function on top, and with it anywhere."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        total.update(dict.fromkeys(frames, int(count)))
    return own, total


def _show(title: str, counts: Counter[str], samples: int) -> None:
    print(title)
    for frame, count in counts.most_common(SHOWN):
        print(f"  {100 * count / samples:5.1f} %  {frame}")


def _show_py_spy(output: Path) -> None:
    own, total = tally(output.read_text())
    samples = max(sum(own.values()), 1)
    _show(f"self time, of {samples} samples", own, samples)
    _show("with callees", total, samples)


def _show_perf(output: Path) -> None:
    argv = ["perf", "report", "-i", str(output), "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.7"]
    print(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)


def _finish(sampler: subprocess.Popen[bytes]) -> None:
    if sampler.wait(60):
        raise ChildFailedError(f"the profiler ended with {sampler.returncode}; its messages are above")


def _load(options: argparse.Namespace, command: list[str], pid: int, way: paths.Way) -> None:
    case = cases_named(options.case)[0]
    before = cpu.split_of(pid)
    sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    load = wrk.run(way.place, case, way.url_of(case), options.seconds + 1)
    user, system = (after - earlier for after, earlier in zip(cpu.split_of(pid), before, strict=True))
    _finish(sampler)
    print(f"{case.name}: {load.rps:,.0f} req/s while sampled; per request", end=" ")
    print(f"{user * 1e6 / load.requests:.1f} us user, {system * 1e6 / load.requests:.1f} us system")


def _command(options: argparse.Namespace, pid: int, output: Path) -> list[str]:
    if options.tool == "perf":
        return perf_command(pid, options.seconds, output)
    return py_spy_command(pid, options.seconds, output, options.native)


def _profile(options: argparse.Namespace, output: Path) -> None:
    if options.pid:
        _finish(subprocess.Popen(_command(options, options.pid, output), stdout=subprocess.DEVNULL))
        return
    with stage.standing(with_envoy=False, with_mesh=True) as scene:
        way = paths.build((paths.RUNG3,), scene.cgroups, 0, scene.mesh_pid)[0]
        paths.prove(way, CASES[0])
        pid = memory.heaviest(way.pid).pid
        _load(options, _command(options, pid, output), pid, way)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("--case", default="keepalive-c32", choices=[case.name for case in CASES])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--tool", choices=("py-spy", "perf"), default="py-spy")
    parser.add_argument("--native", action="store_true", help="C functions too (py-spy)")
    parser.add_argument("--pid", type=int, default=0, help="sample this process; no scene, no load")
    options = parser.parse_args()
    report.RESULTS.mkdir(exist_ok=True)
    output = report.RESULTS / f"profile.{options.tool}"
    try:
        _profile(options, output)
    except BenchError as error:
        print(f"bench.profile: {error}", file=sys.stderr)
        return 1
    (_show_perf if options.tool == "perf" else _show_py_spy)(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
