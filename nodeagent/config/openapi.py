"""A schema of ours as the structural OpenAPI v3 schema of a CRD, with its cross-field rules in CEL.

What a CRD cannot do without is an error here: a bound of every text and list (the API server estimates what a rule may
cost), and CEL for every rule in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nodeagent.config.cel import Cel, InCel
from nodeagent.config.schema import (
    Dropped,
    Fields,
    Items,
    Number,
    Schema,
    Text,
    Truth,
    Whole,
    WholeOrText,
)

Node = dict[str, Any]
Says = Mapping[str, str]  # path of a field, as `spec.rules.name` -> its description


class NotStructuralError(ValueError):
    """Something in a table has no counterpart in a CRD; says what and where."""


def structural(schema: Schema, path: str, says: Says) -> Node:
    """The OpenAPI v3 schema of the field at `path` (names only: list items have the path of their list)."""
    described = {"description": says[path]} if path in says else {}
    return {**described, **_node(schema, path, says)}


def cel_rules(rules: Iterable[Any], path: str, *, admission: bool = False) -> list[Cel]:
    """The CEL of some rules: what goes into a CRD, or else what goes into an admission policy."""
    found: list[Cel] = []
    for rule in rules:
        if not isinstance(rule, InCel):
            raise NotStructuralError(f"{path}: a rule has no CEL, so the API server could not check it: {rule}")
        found += [cel for cel in rule.cel if bool(cel.admission) is admission]
    return found


def _node(schema: Schema, path: str, says: Says) -> Node:
    match schema:
        case Text():
            return _text(schema, path)
        case Whole():
            return {"type": "integer", "format": "int64", **_bounds(schema.least, schema.most)}
        case Number():
            return {"type": "number", **_bounds(schema.least, schema.most)}
        case Truth():
            return {"type": "boolean"}
        case WholeOrText():
            return _whole_or_text(schema, path)
        case Items():
            return _items(schema, path, says)
        case Fields():
            return _fields(schema, path, says)
        case Dropped():
            return _node(schema.of, path, says)
    raise NotStructuralError(f"{path}: {type(schema).__name__} is not for our own kinds")


def _text(schema: Text, path: str) -> Node:
    node: Node = {"type": "string"}
    if schema.enum:
        return {**node, "enum": list(schema.enum)}
    if not schema.most:
        raise NotStructuralError(f"{path}: a text needs a greatest length")
    node["maxLength"] = schema.most
    if schema.least:
        node["minLength"] = schema.least
    if schema.pattern:
        node["pattern"] = f"^({schema.pattern})$"
    if schema.format:
        node["format"] = schema.format
    return node | _validations((schema.check,) if schema.check else (), path)


def _whole_or_text(schema: WholeOrText, path: str) -> Node:
    text = _text(schema.text, path)
    del text["type"]
    either: Node = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    return either | _bounds(schema.whole.least, schema.whole.most) | text


def _items(schema: Items, path: str, says: Says) -> Node:
    if not schema.most:
        raise NotStructuralError(f"{path}: a list needs a greatest length")
    node: Node = {"type": "array", "items": _node(schema.of, path, says), "maxItems": schema.most}
    if schema.least:
        node["minItems"] = schema.least
    rules: list[Node] = []
    if schema.unique and isinstance(schema.of, Fields) and set(schema.unique) <= set(schema.of.required):
        node |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(schema.unique)}
    else:
        node |= {"x-kubernetes-list-type": "atomic"}
        rules = [_unique(schema)] if schema.unique else []
    return node | _validations(schema.rules, path, rules)


def _unique(schema: Items) -> Node:
    """Keys of a list map have to be required; this is the same rule for others."""
    same = " && ".join(_equal(name, schema) for name in schema.unique)
    return {
        "rule": f"self.all(one, self.exists_one(other, {same}))",
        "message": f"duplicate value: items must differ in {', '.join(schema.unique)}",
    }


def _equal(name: str, schema: Items) -> str:
    if isinstance(schema.of, Fields) and name in schema.of.required:
        return f"one.{name} == other.{name}"
    return f"has(one.{name}) == has(other.{name}) && (!has(one.{name}) || one.{name} == other.{name})"


def _fields(schema: Fields, path: str, says: Says) -> Node:
    node: Node = {
        "type": "object",
        "properties": {name: structural(of, f"{path}.{name}".lstrip("."), says) for name, of in schema.fields.items()},
    }
    if schema.required:
        node["required"] = list(schema.required)
    return node | _validations(schema.rules, path)


def _validations(rules: Iterable[Any], path: str, more: Iterable[Node] = ()) -> Node:
    entries = [*more, *(_entry(cel) for cel in cel_rules(rules, path))]
    return {"x-kubernetes-validations": entries} if entries else {}


def _entry(cel: Cel) -> Node:
    return {"rule": cel.rule, "message": cel.message} | ({"fieldPath": cel.at} if cel.at else {})


def _bounds(least: float | None, most: float | None) -> Node:
    return {name: value for name, value in (("minimum", least), ("maximum", most)) if value is not None}
