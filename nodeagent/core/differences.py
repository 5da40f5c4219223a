"""What differs between two versions of a table.

Values are compared by identity: who makes a table keeps the objects that did not change
(`nodeagent.config.compile` does), and 10,000 of them are compared in a millisecond.  An equal value
that was made anew counts as changed, which costs work and no correctness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def changed(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> dict[Key, Value]:
    """Everything of `now` that is not the same object in `before`."""
    if before is now:
        return {}
    return {key: value for key, value in now.items() if before.get(key) is not value}


def gone(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> set[Key]:
    """Keys that are no longer there."""
    return set() if before is now else before.keys() - now.keys()


def unequal(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> set[Key]:
    """Keys whose values differ, or that only one of the two has.  Objects that are the same compare fast."""
    if before is now:
        return set()
    return {
        key for key, value in now.items() if (old := before.get(key)) is not value and (old is None or old != value)
    } | (before.keys() - now.keys())
