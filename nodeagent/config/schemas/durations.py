"""Durations in manifests (GEP-2257), with or without bounds."""

from __future__ import annotations

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.schema import Text
from nodeagent.core.durations import PATTERN, duration_text, milliseconds

SHAPE = "a duration such as 500ms or 1m30s"
HOUR = 3_600_000
LONGEST = 28  # characters: four times five digits and a unit of two
DURATION = Text(pattern=PATTERN, shape=SHAPE, most=LONGEST)


def duration(least: int, most: int) -> Text:
    """One of `least` to `most` milliseconds."""

    first, last = duration_text(least), duration_text(most)
    bounds = f"duration('{first}') <= duration(self) && duration(self) <= duration('{last}')"

    @in_cel(Cel(bounds, f"must be a duration of {first} to {last}"))
    def fault(text: str) -> str:
        if least <= milliseconds(text) <= most:
            return ""
        return f"{text} is out of range: expected {first} to {last}"

    return Text(pattern=PATTERN, shape=SHAPE, most=LONGEST, check=fault)
