"""Quantities of bytes, as Kubernetes writes them: `67108864`, `64Mi`, `500k`; whole numbers only."""

from __future__ import annotations

import re

MAX_BYTES = 10**18  # the API server keeps bounds as doubles: 2**63 - 1 is none there
BYTES = r"[0-9]{1,6}([kMGT]|[KMGT]i)|[0-9]{1,18}"
_PARTS = re.compile(r"([0-9]+)([a-zA-Z]*)")
_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def byte_count(value: int | str) -> int:
    """Of a number, or of a text that matches BYTES."""
    return value if isinstance(value, int) else sum(int(n) * _UNITS[unit] for n, unit in _PARTS.findall(value))
