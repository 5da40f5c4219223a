"""The table on standard output and the JSON files in bench/results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import envoy
from bench.stats import Row, Sample

RESULTS = Path(__file__).with_name("results")
COLUMNS = ("case", "path", "req/s", "p50 us", "p99 us", "cpu us", "machine us", "vs direct", "vs envoy", "errors")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cells(row: Row) -> tuple[str, ...]:
    cpu = "-" if row.cpu_us is None else f"{row.cpu_us:.1f}"
    times = (f"{row.rps:,.0f}", f"{row.p50_us:.0f}", f"{row.p99_us:.0f}", cpu, f"{row.machine_us:.1f}")
    return (row.case, row.path, *times, _ratio(row.vs_direct), _ratio(row.vs_envoy), str(row.errors))


def table(rows: Sequence[Row]) -> str:
    """A table of plain text: names to the left, figures to the right."""
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(COLUMNS))]

    def text(line: Sequence[str]) -> str:
        names = [f"{cell:<{width}}" for cell, width in zip(line[:2], widths[:2], strict=True)]
        figures = [f"{cell:>{width}}" for cell, width in zip(line[2:], widths[2:], strict=True)]
        return "  ".join(names + figures)

    return "\n".join(text(line) for line in lines)


def _rounded(row: Row) -> dict[str, object]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(row).items()}


def _about(timestamp: str) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "time": timestamp,
        "commit": commit,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "envoy": envoy.version(),
    }


def save(rows: Sequence[Row], samples: Sequence[Sample], timestamp: str) -> Path:
    """Writes <timestamp>.json (everything) and latest.json (the rows); returns the former."""
    RESULTS.mkdir(exist_ok=True)
    summary = [_rounded(row) for row in rows]
    everything = {"about": _about(timestamp), "rows": summary, "samples": [asdict(sample) for sample in samples]}
    path = RESULTS / f"{timestamp}.json"
    path.write_text(json.dumps(everything, indent=1) + "\n")
    (RESULTS / "latest.json").write_text(json.dumps(summary, indent=1) + "\n")
    return path
