"""How the tables beside this file are written: a good object, and what is changed in it.

    good({"spec.retry.attempts": 10})                     stays valid
    bad("spec.retry.attempts", 11)                        is refused, and the message names spec.retry.attempts
    bad("spec.retry.budget", {...}, at="spec.retry.budget.minRetryRate")

Path steps: `.name`, `[0]`, and `["a/b"]` for a name with dots.  GONE takes a field away.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Changes = Mapping[str, Any]
GONE = object()
_STEP = re.compile(r'\["([^"]+)"\]|\[(\d+)\]|\.?([^.\[]+)')


@dataclass(frozen=True)
class Case:
    """`at`: the field that a refusal names; "" where the object is valid.

    `newer`: a value that a newer API than the server's may have; we keep the object and refuse what the value concerns.
    """

    name: str
    value: Object
    at: str = ""
    newer: bool = False

    @property
    def kind(self) -> str:
        return str(self.value["kind"])


Change = Callable[[Object], Case]


def good(changes: Changes) -> Change:
    return lambda base: Case(_named(base, "takes", changes), changed(base, changes))


def bad(path: str, value: Any, *, at: str = "", more: Changes | None = None, newer: bool = False) -> Change:
    changes = {**(more or {}), path: value}
    return lambda base: Case(_named(base, "refuses", changes), changed(base, changes), at or path, newer)


def cases(base: Object, changes: Iterable[Change]) -> list[Case]:
    """The base itself, and every change of it."""
    return [Case(f"{base['kind']} {base['metadata']['name']} as it is", base), *(change(base) for change in changes)]


def changed(base: Object, changes: Changes) -> Object:
    value = copy.deepcopy(base)
    for path, new in changes.items():
        _set(value, [a or (int(b) if b else c) for a, b, c in _STEP.findall(path)], _copied(new))
    return value


def _copied(value: Any) -> Any:
    """GONE is known by its identity."""
    return value if value is GONE else copy.deepcopy(value)


def _set(value: Any, steps: list[str | int], new: Any) -> None:
    for step, following in itertools.pairwise(steps):
        if isinstance(step, str) and value.get(step) is None:
            value[step] = [] if isinstance(following, int) else {}
        if isinstance(step, int) and step == len(value):
            value.append([] if isinstance(following, int) else {})
        value = value[step]
    last = steps[-1]
    if new is GONE:
        del value[last]
    elif isinstance(last, int) and last == len(value):
        value.append(new)
    else:
        value[last] = new


def _named(base: Object, verb: str, changes: Changes) -> str:
    said = ", ".join(f"{path}={_short(value)}" for path, value in changes.items())
    return f"{base['kind']} {verb} {said}"


def _short(value: Any) -> str:
    text = "GONE" if value is GONE else ascii(value)
    return text if len(text) <= 70 else f"{text[:45]}...{text[-20:]}({len(text)})"
