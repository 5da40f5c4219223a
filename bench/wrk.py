"""Running wrk and reading what it measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import children
from bench.cases import Case
from bench.errors import ChildFailedError

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw; times in microseconds.  `errors` counts failures and answers of the wrong kind."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    errors: int

    @property
    def rps(self) -> float:
        return self.requests * 1e6 / self.duration_us


def command(case: Case, url: str, seconds: int) -> list[str]:
    argv = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(SCRIPT)]
    close = ["-H", "Connection: close"] if case.close else []
    return [*argv, *close, url, *(["--", "varied"] if case.varied else [])]


def parse(output: str, status: int) -> Load:
    """wrk counts every status above 399 as an error: where 403 is what must come, anything else is the error."""
    line = next((line for line in output.splitlines() if line.startswith("result ")), None)
    if line is None:
        raise ChildFailedError(f"wrk printed no result: {output.strip()}")
    requests, duration, size, p50, p99, above_399, failures = map(int, line.split()[1:])
    wrong = requests - above_399 if status > 399 else above_399
    return Load(requests, duration, size, p50, p99, failures + wrong)


def run(place: children.Place, case: Case, url: str, seconds: int) -> Load:
    load = parse(children.output_of(place, command(case, url, seconds), timeout=seconds + 20), case.status)
    if not load.requests:
        raise ChildFailedError(f"{case.name}: {url} answered no request in {seconds} s")
    return load
