"""A structural schema and its walker: what the API server's strict field validation checks.

A schema is a tree of the frozen nodes below.  `violations` lists every violation with its field
path; it changes nothing and fills no defaults in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent.config.problems import FieldError, FieldPath

MAX_ERRORS = 20  # of one object; more would be noise

Rule = Callable[[Any], Iterable[FieldError]]  # paths relative to the value


@dataclass(frozen=True, slots=True)
class Beyond:
    """A rule or check of ours that the API server does not have: such an object exists, and cannot be applied."""

    function: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return self.function(value)


@dataclass(frozen=True, slots=True)
class Text:
    enum: tuple[str, ...] = ()
    pattern: str = ""  # the whole text has to match
    shape: str = ""  # the pattern in words
    least: int = 0
    most: int = 0  # characters; 0 = any
    check: Callable[[str], str] | None = None  # returns what is wrong, or ""
    format: str = ""  # OpenAPI's, for the API server; what we check is above


@dataclass(frozen=True, slots=True)
class Whole:
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """With or without a fraction."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Truth:
    pass


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value: fields that we carry but do not read.  Nothing to walk."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the API server takes no value of (`status`): only its unknown fields are refused."""

    of: Schema


@dataclass(frozen=True, slots=True)
class WholeOrText:
    """An integer, or a text that stands for one: a port and its name (Service targetPort), bytes and `64Mi`."""

    whole: Whole
    text: Text


@dataclass(frozen=True, slots=True)
class Items:
    of: Schema
    least: int = 0
    most: int = 0  # 0 = any
    unique: tuple[str, ...] = ()  # fields that together are the key of a list map
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A map from text to `of` (labels, annotations)."""

    of: Schema
    keys: Text | None = None
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Fields:
    """An object.  `open_ended`: other fields are allowed (core kinds have more than we read)."""

    fields: Mapping[str, Schema]
    required: tuple[str, ...] = ()
    open_ended: bool = False
    rules: tuple[Rule, ...] = field(default=())


Schema = Text | Whole | Number | Truth | Anything | Dropped | WholeOrText | Items | Table | Fields


def violations(schema: Schema, value: Any) -> list[FieldError]:
    """Everything wrong with `value`, in document order, at most MAX_ERRORS."""
    found: list[FieldError] = []
    for error in _walk(schema, value, ()):
        found.append(error)
        if len(found) == MAX_ERRORS:
            break
    return found


def _walk(schema: Schema, value: Any, path: FieldPath) -> Iterator[FieldError]:
    match schema:
        case Text():
            yield from _text(schema, value, path)
        case Whole():
            yield from _whole(schema, value, path)
        case Number():
            yield from _number(schema, value, path)
        case Truth():
            yield from _typed(value, bool, path, "a boolean")
        case WholeOrText():
            yield from _walk(schema.text if isinstance(value, str) else schema.whole, value, path)
        case Items():
            yield from _items(schema, value, path)
        case Table():
            yield from _table(schema, value, path)
        case Fields():
            yield from _fields(schema, value, path)
        case Dropped():
            yield from _unknown_fields(schema.of, value, path)


def _fields(schema: Fields, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, dict):
        yield _expected("an object", value, path)
        return
    clean = True
    for error in _members(schema, value, path):
        clean = False
        yield error
    if clean:  # cross-field rules may rely on the shape
        yield from _broken_rules(schema.rules, value, path)


def _broken_rules(rules: Iterable[Rule], value: Any, path: FieldPath) -> Iterator[FieldError]:
    for rule in rules:
        beyond = isinstance(rule, Beyond)
        for error in rule(value):
            yield FieldError((*path, *error.path), error.message, beyond or error.beyond)


def _members(schema: Fields, value: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    for name in schema.required:
        if value.get(name) is None:
            yield FieldError((*path, name), "required value is missing")
    for name, item in value.items():
        if name in schema.fields:
            if item is not None:  # null is an absent field, as the API server reads it
                yield from _walk(schema.fields[name], item, (*path, name))
        elif not schema.open_ended:
            yield _unknown(name, schema, path)


def _unknown_fields(schema: Schema, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if isinstance(schema, Fields) and isinstance(value, dict):
        for name, item in value.items():
            if name in schema.fields:
                yield from _unknown_fields(schema.fields[name], item, (*path, name))
            else:
                yield _unknown(name, schema, path)
    elif isinstance(schema, Items) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(schema.of, item, (*path, index))


def _unknown(name: str, schema: Fields, path: FieldPath) -> FieldError:
    return FieldError((*path, name), "unknown field" + _nearest(name, schema.fields))


def _items(schema: Items, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, list):
        yield _expected("a list", value, path)
        return
    if schema.most and len(value) > schema.most:
        yield FieldError(path, f"has {len(value)} items; at most {schema.most} are allowed")
        return
    if len(value) < schema.least:
        yield FieldError(path, f"has {len(value)} items; at least {schema.least} must be given")
    clean = True
    for index, item in enumerate(value):
        for error in _walk(schema.of, item, (*path, index)):
            clean = False
            yield error
    if clean:
        yield from _duplicates(schema, value, path)
        yield from _broken_rules(schema.rules, value, path)


def _duplicates(schema: Items, value: list[Any], path: FieldPath) -> Iterator[FieldError]:
    seen: set[tuple[Any, ...]] = set()
    for index, item in enumerate(value):
        key = tuple(item.get(name) for name in schema.unique)
        if key and key in seen:
            shown = ", ".join(f"{name} {part!r}" for name, part in zip(schema.unique, key, strict=True))
            yield FieldError((*path, index), f"duplicate value: {shown}")
        seen.add(key)


def _table(schema: Table, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, dict):
        yield _expected("an object", value, path)
        return
    clean = True
    for name, item in value.items():
        for error in (*_key(schema, name, path), *_walk(schema.of, item, (*path, name))):
            clean = False
            yield error
    if clean:
        yield from _broken_rules(schema.rules, value, path)


def _key(schema: Table, name: str, path: FieldPath) -> Iterator[FieldError]:
    if schema.keys is not None:
        message = _text_fault(schema.keys, name)
        if message:
            yield FieldError((*path, name), f"as a key, {message}")


def _text(schema: Text, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, str):
        yield _expected("a string", value, path)
        return
    message = _text_fault(schema, value)
    if message:
        yield FieldError(path, message)
    elif schema.check and (message := schema.check(value)):
        yield FieldError(path, message, isinstance(schema.check, Beyond))


def _text_fault(schema: Text, value: str) -> str:
    if schema.enum and value not in schema.enum:
        return f"unsupported value {_shown(value)}: expected one of {', '.join(schema.enum)}"
    if schema.most and len(value) > schema.most:
        return f"is {len(value)} characters long; at most {schema.most} are allowed"
    if len(value) < schema.least:
        return f"is {len(value)} characters long; at least {schema.least} must be given"
    if schema.pattern and not re.fullmatch(schema.pattern, value):
        return f"{_shown(value)} is not {schema.shape or f'text that matches {schema.pattern}'}"
    return ""


def _whole(schema: Whole, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield _expected("an integer", value, path)
    elif schema.least is not None and value < schema.least:
        yield FieldError(path, f"{value} is too small; expected {schema.least} or more")
    elif schema.most is not None and value > schema.most:
        yield FieldError(path, f"{value} is too large; expected {schema.most} or less")


def _number(schema: Number, value: Any, path: FieldPath) -> Iterator[FieldError]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield _expected("a number", value, path)
    elif not schema.least <= value <= schema.most:  # false for NaN, too
        yield FieldError(path, f"{value} is out of range: expected {schema.least:g} to {schema.most:g}")


def _typed(value: Any, kind: type, path: FieldPath, words: str) -> Iterator[FieldError]:
    if not isinstance(value, kind):
        yield _expected(words, value, path)


def _expected(words: str, value: Any, path: FieldPath) -> FieldError:
    return FieldError(path, f"expected {words}, got {_kind(value)}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "boolean", int: "integer", float: "number", str: "string"}
    name = names.get(type(value), "null")
    return name if isinstance(value, dict | list) or value is None else f"{name} {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(name: str, known: Mapping[str, Schema]) -> str:
    """`; did you mean "targetRefs"?` for a name that differs in case or by a letter or two."""
    import difflib

    close = [item for item in known if item.lower() == name.lower()] or difflib.get_close_matches(name, known, 1)
    return f'; did you mean "{close[0]}"?' if close else ""
