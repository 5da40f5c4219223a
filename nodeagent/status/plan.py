"""What to write so that an object's status says what it should: existing and wanted entries -> a patch, or nothing.

The entries of all controllers are one list, which is written as a whole (`x-kubernetes-list-type: atomic`): a patch has
the version that it was made from as its condition, so that it never undoes what another controller wrote meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nodeagent.status.entries import CONTROLLER, Entry, Shape, Stated, summary

Value = Mapping[str, Any]
Reference = tuple[object, ...]
_DEFAULTS = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}  # as the CRD has them


def planned(
    shape: Shape, status: Value | None, wanted: Sequence[Entry], generation: int, now: str
) -> dict[str, Any] | None:
    """What has to be set in the status; None = nothing.  `now` is the time of what changes."""
    fields: dict[str, Any] = {shape.entries: _entries(shape, status, wanted, generation, now)}
    if shape.summed_up:
        before = _conditions(status or {})
        said = summary(tuple(wanted))
        fields["conditions"] = [_condition(one, before.get(one.type) or {}, generation, now) for one in said]
    return None if all((status or {}).get(name, []) == value for name, value in fields.items()) else fields


def _entries(
    shape: Shape, status: Value | None, wanted: Iterable[Entry], generation: int, now: str
) -> list[dict[str, Any]]:
    """Others' stay as and where they are; of ours, those that nobody wants any more go, and new ones come last."""
    before = _listed(status, shape)
    known = {_reference(one.get(shape.reference)): one for one in reversed(before) if is_ours(one)}
    made = {_reference(one.reference): one for one in wanted}
    after: list[dict[str, Any]] = []
    for one in before:
        if not is_ours(one):
            after.append(one)
            continue
        entry = made.pop(_reference(one.get(shape.reference)), None)
        if entry is not None:
            after.append(_written(shape, entry, known[_reference(entry.reference)], generation, now))
    after += [_written(shape, entry, {}, generation, now) for entry in made.values()]
    return after[: shape.most]  # what is cut is ours: the API takes no more than these from anybody


def patch(version: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A merge patch of the subresource `status`, which is refused (409) when the object changed since `version`."""
    return {"metadata": {"resourceVersion": version}, "status": fields}


def already_programmed(shape: Shape, status: Value | None, wanted: Iterable[Entry], generation: int) -> bool:
    """A writer before us saw every node confirm `generation` of this object towards each of the `wanted`."""
    known = {_reference(one.get(shape.reference)): one for one in _listed(status, shape) if is_ours(one)}
    return all(
        {"Accepted", "Programmed"} <= set(_true(known.get(_reference(entry.reference)) or {}, generation))
        for entry in wanted
    )


def news(shape: Shape, status: Value | None, wanted: Iterable[Entry]) -> Iterator[tuple[Entry, Stated]]:
    """What is bad, and was not said yet in these words: what deserves an Event."""
    known = {_reference(one.get(shape.reference)): one for one in _listed(status, shape) if is_ours(one)}
    for entry in wanted:
        said = _conditions(known.get(_reference(entry.reference)) or {})
        for one in entry.conditions:
            before = said.get(one.type) or {}
            if one.is_bad and (one.status, one.reason, one.message) != _text(before):
                yield entry, one


def is_ours(entry: Value) -> bool:
    return entry.get("controllerName") == CONTROLLER


def _listed(status: Value | None, shape: Shape) -> list[dict[str, Any]]:
    return list((status or {}).get(shape.entries) or [])


def _written(shape: Shape, entry: Entry, before: Value, generation: int, now: str) -> dict[str, Any]:
    said = _conditions(before)
    conditions = [_condition(one, said.get(one.type) or {}, generation, now) for one in entry.conditions]
    return {shape.reference: dict(entry.reference), "controllerName": CONTROLLER, "conditions": conditions}


def _condition(stated: Stated, before: Value, generation: int, now: str) -> dict[str, Any]:
    """The time is of the last change of `status`, not of reason or message."""
    same = before.get("status") == stated.status and before.get("lastTransitionTime")
    return {
        "type": stated.type,
        "status": stated.status,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else now,
        "reason": stated.reason,
        "message": stated.message,
    }


def _conditions(entry: Value) -> dict[str, Value]:
    return {str(one.get("type")): one for one in entry.get("conditions") or []}


def _true(entry: Value, generation: int) -> Iterator[str]:
    for name, one in _conditions(entry).items():
        if one.get("status") == "True" and one.get("observedGeneration") == generation:
            yield name


def _text(condition: Value) -> tuple[object, ...]:
    return tuple(condition.get(name, "") for name in ("status", "reason", "message"))


def _reference(reference: Value | None) -> Reference:
    """The same for two ways to write the same reference."""
    given = reference or {}
    names = ("group", "kind", "namespace", "name", "sectionName", "port")
    return tuple(given.get(name, _DEFAULTS.get(name)) or "" for name in names)
