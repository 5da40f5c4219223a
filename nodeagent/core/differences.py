"""What differs between two versions of a table.

Values are compared by identity: who makes a table keeps the objects that did not change
(`nodeagent.config.compile` does), and 10,000 of them are compared in a millisecond.  An equal value
that was made anew counts as changed, which costs work and no correctness.

Of an `Edition` that was made of another one nothing is compared but what it says itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from nodeagent.core.layers import Layers

Key = TypeVar("Key")
Value = TypeVar("Value")

STEPS = 16  # editions back that one knows its differences from
LARGE = 1000  # keys: a step of more is not worth to be remembered


class Edition(Layers[Key, Value]):
    """A table that is not changed any more, and knows in which keys it differs from those that it was made of."""

    __slots__ = ("_mark", "_steps")

    def __init__(self, content: Mapping[Key, Value] | None = None) -> None:
        super().__init__(content)
        self._mark = object()  # stands for this edition, and does not keep its content alive
        self._steps: tuple[tuple[object, frozenset[Key]], ...] = ()  # the newest first

    def next(self, new: Mapping[Key, Value], left: Iterable[Key] = ()) -> Edition[Key, Value]:
        """The same without what `left`, and with what is `new`; this edition itself when that is nothing."""
        without = [key for key in left if key in self and key not in new]
        if not new and not without:
            return self
        made = self.copy()
        made.put_all(new)
        for key in without:
            del made[key]
        touched = frozenset((*new, *without))
        if len(touched) <= LARGE:
            made._steps = ((self._mark, touched), *self._steps[: STEPS - 1])
        return made

    def touched_since(self, before: object) -> set[Key] | None:
        """Keys that may differ from `before`; None = it is not known."""
        if not isinstance(before, Edition):
            return None
        found: set[Key] = set()
        for mark, touched in self._steps:
            found |= touched
            if mark is before._mark:
                return found
        return None


def changed(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> dict[Key, Value]:
    """Everything of `now` that is not the same object in `before`."""
    if before is now:
        return {}
    touched = _touched(before, now)
    if touched is not None:
        return {key: now[key] for key in touched if key in now and before.get(key) is not now[key]}
    return {key: value for key, value in now.items() if before.get(key) is not value}


def gone(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> set[Key]:
    """Keys that are no longer there."""
    if before is now:
        return set()
    touched = _touched(before, now)
    return {key for key in (before.keys() if touched is None else touched & before.keys()) if key not in now}


def unequal(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> set[Key]:
    """Keys whose values differ, or that only one of the two has.  Objects that are the same compare fast."""
    new = changed(before, now)
    return {key for key, value in new.items() if (old := before.get(key)) is None or old != value} | gone(before, now)


def is_near(before: Mapping[Key, Value], now: Mapping[Key, Value], most: int) -> bool:
    """At most so many keys differ, as far as that is known without a look at each."""
    touched = set() if before is now else _touched(before, now)
    return touched is not None and len(touched) <= most


def _touched(before: Mapping[Key, Value], now: Mapping[Key, Value]) -> set[Key] | None:
    return now.touched_since(before) if isinstance(now, Edition) else None


class Selection(Generic[Key, Value]):
    """The entries of a table that somebody cares for.  Of the next edition only what changed is looked at."""

    def __init__(self, wanted: Callable[[Value], bool]) -> None:
        self._wanted = wanted
        self._table: Mapping[Key, Value] = {}
        self._found: Edition[Key, Value] = Edition()

    def of(self, table: Mapping[Key, Value]) -> Edition[Key, Value]:
        """The same object as last time when none of them changed."""
        new = changed(self._table, table)
        found = {key: value for key, value in new.items() if self._wanted(value)}
        self._found = self._found.next(found, (new.keys() - found.keys()) | gone(self._table, table))
        self._table = table
        return self._found
