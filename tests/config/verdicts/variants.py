"""More objects than anybody writes down: those of the tables with one or two values exchanged for others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.config.verdicts.cases import Case, Object

Place = tuple[str | int, ...]
_ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 65536, 2**31, 2**53 + 2, 0.5, "", "a", "A", "a.b", "*", "/", "0s", "1h", "24h1ms",
    "1ms", "10.0.0.0/8", "::/0", "Namespace", "Service", "HTTPRoute", "Header", "STRICT", "64Mi", "\u00e9", "x" * 64,
    "x" * 300, [], {}, [""], [{}], [None], {"a": 1},
]  # fmt: skip


def of(cases: Sequence[Case]) -> st.SearchStrategy[Object]:
    """Objects of the kinds in a table; their own names stay, so that it is known where to send them."""
    by_kind: dict[str, list[Object]] = {}
    for case in cases:
        if isinstance(case.value.get("metadata"), dict):
            by_kind.setdefault(case.kind, []).append(case.value)
    return st.one_of([_variant(objects) for objects in by_kind.values()])


@st.composite
def _variant(draw: st.DrawFn, objects: list[Object]) -> Object:
    value = copy.deepcopy(draw(st.sampled_from(objects)))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(_places(value)))
        others = [found for other in objects for found in _at(other, place)]
        new = draw(st.sampled_from(_ODD) | st.sampled_from(others))
        _put(value, place, copy.deepcopy(new))
    return value


def _places(value: Object) -> list[Place]:
    found = [place for place, _ in _walk(value, ()) if place and place[0] not in {"apiVersion", "kind", "metadata"}]
    return found or [("spec",)]


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from _walk(inner, (*place, step))


def _at(value: Any, place: Place) -> list[Any]:
    """What another object has at this place, or nothing."""
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return [None]
    return [value]


def _put(value: Any, place: Place, new: Any) -> None:
    for step in place[:-1]:
        value = value[step]
    value[place[-1]] = new
