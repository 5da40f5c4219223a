"""Small arithmetic on what the programs print, and the one way figures are shown."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """One line of requester.py or `connector.py --lines`."""

    time: float
    status: str
    pod: str
    reason: str


def lines(text: str) -> list[Line]:
    rows = (row.split() for row in text.splitlines())
    return [Line(float(row[0]), *(row[1:4] + ["-"] * (4 - len(row)))) for row in rows]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def show(text: str) -> None:
    """A figure of an acceptance line, past pytest's capture."""
    sys.__stderr__.write(f"\n  figure: {text}\n")  # type: ignore[union-attr]  # None only without a console
    sys.__stderr__.flush()  # type: ignore[union-attr]
