"""Which Linux this is, for what only newer ones can do."""

from __future__ import annotations

import re


def version(release: str) -> tuple[int, int]:
    """Major and minor of what `uname -r` says; (0, 0), older than any, if it says no version."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
