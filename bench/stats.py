"""Samples to rows: medians, and ratios paired round by round.  Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.paths import AGAIN, DIRECT, ENVOY

AA_TOLERANCE = 0.02  # how far the second direct run may be from the first


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of wrk.  Times in microseconds.

    `cpu_us` is the proxy's processor time per request (None without a proxy), `machine_us` everybody's.
    """

    case: str
    path: str
    round: int
    rps: float
    p50_us: int
    p99_us: int
    cpu_us: float | None
    machine_us: float
    steal_seconds: float
    errors: int


@dataclass(frozen=True, slots=True)
class Row:
    """One path in one case: medians over the rounds.  A ratio is None where the other path did not run."""

    case: str
    path: str
    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float | None
    machine_us: float
    vs_direct: float | None
    vs_envoy: float | None
    p50_vs_envoy: float | None
    p99_vs_envoy: float | None
    errors: int
    rounds: int


Figure = Callable[[Sample], float]


def _rps(sample: Sample) -> float:
    return sample.rps


def _by_round(samples: Iterable[Sample], paths: Sequence[str], figure: Figure) -> dict[int, float]:
    """Round -> the mean figure of `paths` in it."""
    grouped: dict[int, list[float]] = {}
    for sample in samples:
        if sample.path in paths:
            grouped.setdefault(sample.round, []).append(figure(sample))
    return {number: fmean(values) for number, values in grouped.items()}


def paired(samples: Sequence[Sample], path: str, others: Sequence[str], figure: Figure = _rps) -> float | None:
    """The median over the rounds of (path's figure / the others' mean in the same round)."""
    mine, theirs = _by_round(samples, [path], figure), _by_round(samples, others, figure)
    ratios = [mine[number] / theirs[number] for number in mine.keys() & theirs.keys() if theirs[number]]
    return median(ratios) if ratios else None


def a_to_a(samples: Sequence[Sample]) -> float | None:
    """The second direct run against the first: what a ratio of two equal things looks like here and now."""
    return paired(samples, AGAIN, [DIRECT])


def is_steady(samples: Sequence[Sample]) -> bool:
    ratio = a_to_a(samples)
    return ratio is None or abs(ratio - 1) <= AA_TOLERANCE


def _vs_direct(samples: Sequence[Sample], path: str) -> float | None:
    # The two direct runs are compared with each other; all else with the mean of both, which is steadier.
    return paired(samples, path, [DIRECT] if path in (DIRECT, AGAIN) else [DIRECT, AGAIN])


def row_of(samples: Sequence[Sample], path: str) -> Row:
    """The row of `path`; all samples are of one case, and some are of `path`."""
    own = [sample for sample in samples if sample.path == path]
    cpu = [sample.cpu_us for sample in own if sample.cpu_us is not None]
    return Row(
        case=own[0].case,
        path=path,
        rps=median(sample.rps for sample in own),
        p50_us=median(sample.p50_us for sample in own),
        p99_us=median(sample.p99_us for sample in own),
        cpu_us=median(cpu) if cpu else None,
        machine_us=median(sample.machine_us for sample in own),
        vs_direct=_vs_direct(samples, path),
        vs_envoy=paired(samples, path, [ENVOY]),
        p50_vs_envoy=paired(samples, path, [ENVOY], lambda sample: sample.p50_us),
        p99_vs_envoy=paired(samples, path, [ENVOY], lambda sample: sample.p99_us),
        errors=sum(sample.errors for sample in own),
        rounds=len(own),
    )


def rows_of(samples: Sequence[Sample], paths: Iterable[str]) -> list[Row]:
    """Rows of one case, in the order of `paths`."""
    ran = {sample.path for sample in samples}
    return [row_of(samples, path) for path in paths if path in ran]
