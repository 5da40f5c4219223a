"""Durations of Gateway API (GEP-2257), such as `1m30s` or `500ms`: whole milliseconds, no fractions, no sign."""

from __future__ import annotations

import re

PATTERN = r"([0-9]{1,5}(h|m|s|ms)){1,4}"
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def milliseconds(text: str) -> int:
    """What a text that matches PATTERN adds up to: a unit may come more than once, in any order."""
    return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))


def duration_text(total: int) -> str:
    """The shortest spelling of so many milliseconds, largest unit first."""
    parts = []
    for unit, size in _UNITS.items():
        count, total = divmod(total, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
