"""The rounds of one case: every path once per round, in an order that moves on from round to round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import cpu, stats, wrk
from bench.cases import Case
from bench.errors import PathBrokenError
from bench.paths import Way

Report = Callable[[str], None]
INERT_CPU_US = 1.0  # a proxy that uses less than this per request was not asked


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` at least, `most_rounds` at most, of `seconds` each."""

    rounds: int
    most_rounds: int
    seconds: int


def _run_once(way: Way, case: Case, number: int, seconds: int) -> stats.Sample:
    pids = cpu.tree(way.pid) if way.pid else []
    before, (busy_before, steal_before) = cpu.used_by(pids), cpu.used_by_machine()
    load = wrk.run(way.place, case, way.url_of(case), seconds)
    spent, (busy, steal) = cpu.used_by(pids) - before, cpu.used_by_machine()
    cpu_us = spent * 1e6 / load.requests if pids else None
    if cpu_us is not None and cpu_us < INERT_CPU_US:
        raise PathBrokenError(f"{way.name} used no processor time in {case.name}: its traffic went past it")
    return stats.Sample(
        case=case.name,
        path=way.name,
        round=number,
        rps=round(load.rps, 1),
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        cpu_us=None if cpu_us is None else round(cpu_us, 2),
        machine_us=round((busy - busy_before) * 1e6 / load.requests, 2),
        steal_seconds=round(steal - steal_before, 2),
        errors=load.errors,
    )


def _say(sample: stats.Sample, report: Report) -> None:
    errors = f", {sample.errors} ERRORS" if sample.errors else ""
    figures = f"{sample.rps:>9,.0f} req/s  p50 {sample.p50_us:>6} us  p99 {sample.p99_us:>7} us"
    report(f"  {sample.case} round {sample.round}  {sample.path:<12} {figures}{errors}")


def _round(ways: Sequence[Way], case: Case, number: int, seconds: int, report: Report) -> list[stats.Sample]:
    start = number % len(ways)
    samples = []
    for way in (*ways[start:], *ways[:start]):
        samples.append(_run_once(way, case, number, seconds))
        _say(samples[-1], report)
    return samples


def run_case(case: Case, ways: Sequence[Way], plan: Plan, report: Report) -> list[stats.Sample]:
    """All samples of one case.  Rounds are added while the two direct runs disagree, and by nothing else."""
    ways = [way for way in ways if way.serves(case)]
    for way in ways:  # connections, caches and pools are warm when it counts
        wrk.run(way.place, case, way.url_of(case), 1)
    samples: list[stats.Sample] = []
    for number in range(1, plan.most_rounds + 1):
        if number > plan.rounds and stats.is_steady(samples):
            break
        samples += _round(ways, case, number, plan.seconds, report)
    ratio = stats.a_to_a(samples)
    if ratio is not None:
        verdict = "steady" if stats.is_steady(samples) else "NOT steady: read this case's ratios with that in mind"
        report(f"  {case.name}: A/A {ratio:.3f}, {verdict}")
    return samples
