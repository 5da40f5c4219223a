"""What the figures have to reach, and whether they do.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.paths import ENVOY, RUNG1, RUNG3
from bench.stats import Row


@dataclass(frozen=True, slots=True)
class Target:
    """`figure` names a ratio of Row; it must be >= `least`, or <= `most`."""

    case: str
    path: str
    figure: str
    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def bound(self) -> str:
        return f">= {self.least}" if self.least is not None else f"<= {self.most}"


TARGETS = (
    Target("keepalive-c32", RUNG1, "vs_direct", least=0.97),
    Target("close-c16", RUNG1, "vs_direct", least=0.9),
    Target("keepalive-c32", RUNG3, "vs_envoy", least=1.5),
    Target("keepalive-c1", RUNG3, "p50_vs_envoy", most=1.0),
    Target("keepalive-c32", RUNG3, "p99_vs_envoy", most=1.0),
    Target("policies-c32", RUNG3, "vs_envoy", least=1.5),
    Target("policies-c32", RUNG3, "p50_vs_envoy", most=1.0),
    Target("policies-c32", RUNG3, "p99_vs_envoy", most=1.0),
    Target("close-c16", RUNG3, "vs_envoy", least=1.0),
    Target("large-1mb", RUNG3, "vs_envoy", least=1.0),
)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """One line per target whose case and path ran."""
    lines = []
    for target in TARGETS:
        row = next((row for row in rows if (row.case, row.path) == (target.case, target.path)), None)
        value: float | None = getattr(row, target.figure) if row else None
        if value is not None:
            word = "met   " if target.is_met(value) else "MISSED"
            lines.append(f"{word} {target.case} {target.path} {target.figure} {value:.3f} (goal {target.bound})")
    return lines + [f"ERRORS {row.errors} in {row.case} {row.path}" for row in rows if row.errors and row.path != ENVOY]
