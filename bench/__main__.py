"""`make bench`: the cases over the paths, side by side, and one table at the end.

Progress goes to standard error, the table to standard output, the raw figures to bench/results.
CASES, PATHS, ROUNDS and SECONDS_EACH of the environment are the defaults of the options.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from bench import measure, paths, report, stage, stats, targets
from bench.cases import CASES, Case, cases_named, select
from bench.errors import BenchError

MOST_ROUNDS = 3  # times the rounds asked for: the bound while the machine is not steady


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n", 1)[0])
    every, ways = ", ".join(case.name for case in CASES), ", ".join(paths.NAMES)
    parser.add_argument("--cases", default=os.environ.get("CASES", ""), help=f"from: {every}; default: all")
    parser.add_argument("--paths", default=os.environ.get("PATHS", ""), help=f"from: {ways}; default: all")
    parser.add_argument("--rounds", default=os.environ.get("ROUNDS", ""), help="at least this many; default: 5")
    parser.add_argument("--seconds", default=os.environ.get("SECONDS_EACH", ""), help="of each run; default: 3")
    return parser.parse_args(argv)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure(cases: Sequence[Case], names: tuple[str, ...], plan: measure.Plan) -> list[stats.Sample]:
    samples: list[stats.Sample] = []
    with stage.standing(paths.ENVOY in names, any(name in paths.MESH for name in names)) as scene:
        ways = paths.build(names, scene.cgroups, scene.envoy_pid, scene.mesh_pid)
        for case in cases:
            for way in (way for way in ways if way.serves(case)):
                paths.prove(way, case)
        _say("every path answers as it must; measuring")
        for case in cases:
            samples += measure.run_case(case, ways, plan, _say)
    return samples


def _rows(cases: Sequence[Case], samples: Sequence[stats.Sample]) -> list[stats.Row]:
    return [
        row
        for case in cases
        for row in stats.rows_of([sample for sample in samples if sample.case == case.name], paths.NAMES)
    ]


def main(argv: Sequence[str]) -> int:
    options = _arguments(argv)
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        cases, names = cases_named(options.cases), select(options.paths, paths.NAMES)
        rounds = int(options.rounds or 5)
        samples = _measure(cases, names, measure.Plan(rounds, rounds * MOST_ROUNDS, int(options.seconds or 3)))
    except BenchError as error:
        _say(f"bench: {error}")
        return 1
    rows = _rows(cases, samples)
    print(report.table(rows), "", *targets.verdicts(rows), sep="\n")
    _say(f"raw figures: {report.save(rows, samples, timestamp)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
