"""Durations in manifests (GEP-2257), with or without bounds."""

from __future__ import annotations

from nodeagent.config.schema import Text
from nodeagent.core.durations import PATTERN, duration_text, milliseconds

SHAPE = "a duration such as 500ms or 1m30s"
HOUR = 3_600_000
DURATION = Text(pattern=PATTERN, shape=SHAPE)


def duration(least: int, most: int) -> Text:
    """One of `least` to `most` milliseconds."""

    def fault(text: str) -> str:
        if least <= milliseconds(text) <= most:
            return ""
        return f"{text} is out of range: expected {duration_text(least)} to {duration_text(most)}"

    return Text(pattern=PATTERN, shape=SHAPE, check=fault)
