"""Is this the end of the mesh on this node, or a new agent's beginning?  By what the API server says of our DaemonSet.

An agent that is told to stop is nearly always being replaced: then its hooks stay, and policy with them.  Only a
DaemonSet that is gone, or being deleted, says that nobody comes after us; then nothing may stay.  Where neither is
known the hooks stay, for the next agent or `nodeagent uninstall`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any


class Sight(enum.Enum):
    PRESENT = "present"
    GONE = "gone"  # or being deleted
    UNKNOWN = "unknown"  # not asked yet, no answer, or no right to ask


def listed(items: Sequence[Mapping[str, Any]]) -> Sight:
    """What a list of exactly this DaemonSet says."""
    return _one(items[0]) if items else Sight.GONE


def watched(kind: str, item: Mapping[str, Any], before: Sight) -> Sight:
    """What an event of a watch of exactly this DaemonSet says, after `before`."""
    if kind == "DELETED":
        return Sight.GONE
    return _one(item) if kind in ("ADDED", "MODIFIED") else before


def _one(item: Mapping[str, Any]) -> Sight:
    return Sight.GONE if item.get("metadata", {}).get("deletionTimestamp") else Sight.PRESENT


def at_the_end(asked: Sight, followed: Sight) -> Sight:
    """`asked`: the answer at the very end; `followed`: what was seen before.

    The answer counts if there is one: a DaemonSet that was deleted may have been made again.  Without one, because what
    lets us ask was deleted first, an end that was seen is an end; that it was there before says nothing.
    """
    if asked is not Sight.UNKNOWN:
        return asked
    return followed if followed is Sight.GONE else Sight.UNKNOWN
