"""Reading the Prometheus text format without the library that writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \S+)?$")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [_parse(line) for line in text.splitlines() if line and not line.startswith("#")]

    def select(self, name: str, **labels: str) -> list[Sample]:
        """Samples of that name whose labels include `labels`."""
        return [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def total(self, name: str, **labels: str) -> float:
        """The sum of `select`: 0 when nothing matches."""
        return sum(sample.value for sample in self.select(name, **labels))

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Everything that may never decrease: names that end in _total, _bucket, _count or _sum."""
        return {
            (s.name, frozenset(s.labels.items())): s.value
            for s in self.samples
            if s.name.endswith(("_total", "_bucket", "_count", "_sum"))
        }


def _parse(line: str) -> Sample:
    found = _SAMPLE.match(line)
    if found is None:
        raise ValueError(f"not a sample of the text format: {line!r}")
    name, labels, value = found.groups()
    return Sample(name, {key: _unescape(text) for key, text in _LABEL.findall(labels or "")}, float(value))


def _unescape(text: str) -> str:
    return re.sub(r'\\[\\"n]', lambda found: _ESCAPES[found.group()], text)
