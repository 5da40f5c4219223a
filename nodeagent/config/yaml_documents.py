"""YAML (and JSON) text to plain values, as strictly as kubectl reads it.  The one importer of yaml.

A file is split at `---` lines first, so that a syntax error spoils its own document only.  Duplicate
keys, unknown tags and cyclic or exploding aliases are refused.  Timestamps stay text, as in JSON.
What is wrong at one place only (a key set twice) is a fault of the document, which is read all the same:
whoever asks which object it is gets an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from nodeagent.config.problems import FieldError, FieldPath

MAX_FILE = 4 * 1024 * 1024  # bytes
MAX_NODES = 500_000  # per document, aliases expanded; a composed node takes about 350 bytes
MAX_DEPTH = 64

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_CORE = "tag:yaml.org,2002:"
_CONSTRUCT = yaml.SafeLoader("")
_TEXT_TAGS = {_CORE + "str", _CORE + "timestamp", _CORE + "value"}
_SCALAR_TAGS = {_CORE + name for name in ("null", "bool", "int", "float")}

Value = Any  # None | bool | int | float | str | list | dict with str keys


class DocumentError(ValueError):
    """A document (or file) that cannot be read; `line` counts from 1 in the file, 0 = unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value, or why it has none.  `index` counts from 1, `line` is its first line in the file.

    `faults` are what the value had to leave out: a key set a second time, a tag.
    """

    index: int
    line: int
    value: Value = None
    error: DocumentError | None = None
    faults: tuple[FieldError, ...] = ()


def dump(value: Value) -> str:
    """Plain values as YAML text, keys in the order given."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


def read_documents(data: bytes) -> list[Document]:
    """All documents of a file that are not empty.  Raises DocumentError when the file as a whole is unusable."""
    if len(data) > MAX_FILE:
        raise DocumentError(f"file is longer than {MAX_FILE} bytes, which is the most that is read: split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"file is not UTF-8 text: {error.reason} at byte {error.start}") from error
    read = (_document(index, line, part) for index, (line, part) in enumerate(_split(text), 1))
    return [document for document in read if document.error or document.faults or document.value is not None]


class Lines:
    """Finds the line of a field of a file that was read before; composes a document again only when asked."""

    def __init__(self, data: bytes) -> None:
        self._parts = list(_split(data.decode("utf-8-sig")))
        self._nodes: dict[int, yaml.Node | None] = {}

    def of(self, document: int, path: tuple[str | int, ...]) -> int:
        """The line (from 1) of a field, or of its nearest present ancestor, in document number `document`."""
        first, text = self._parts[document - 1]
        if document not in self._nodes:
            self._nodes[document] = yaml.compose(text, Loader=yaml.CSafeLoader)
        node = self._nodes[document]
        if node is None:
            return first
        mark = node.start_mark.line
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            mark, node = found
        return int(first + mark)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield (first line, text) of each part between `---` lines; a comment may follow the dashes, content too."""
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    line, at = 1, 0
    number = 0
    for start, end in zip(starts, ends, strict=True):
        line, at = line + text.count("\n", at, start), start
        part = text[start:end]
        if number == 0 and len(starts) > 1 and not _has_content(part):
            continue  # what stands before the first separator is no document
        number += 1
        yield line, part


def _has_content(part: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in part.splitlines())


def _document(index: int, line: int, text: str) -> Document:
    converter = _Converter(line)
    try:
        _refuse_floods(text, line)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        value = None if node is None else converter.value(node, ())
    except yaml.MarkedYAMLError as error:
        return Document(index, line, error=_syntax_error(error, line))
    except yaml.YAMLError as error:  # a character that YAML does not allow
        return Document(index, line, error=DocumentError(f"not valid YAML: {error}".replace("\n", " "), line))
    except RecursionError:
        return Document(index, line, error=DocumentError(f"nested deeper than {MAX_DEPTH} levels", line))
    except DocumentError as error:
        return Document(index, line, error=error)
    return Document(index, line, value, faults=tuple(converter.faults))


def _refuse_floods(text: str, line: int) -> None:
    """Composing takes memory before anything can be counted, but every other value needs a separator."""
    if sum(text.count(mark) for mark in ",:\n") > 2 * MAX_NODES:
        raise DocumentError(f"more than {MAX_NODES} values: split it", line)


def _syntax_error(error: yaml.MarkedYAMLError, line: int) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return DocumentError(f"not valid YAML: {what}", line + mark.line if mark else line)


class _Converter:
    """Turns a composed node into plain values, counting what it makes; `faults` are what it leaves out."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._left = MAX_NODES
        self.faults: list[FieldError] = []

    def value(self, node: yaml.Node, path: FieldPath) -> Value:
        self._left -= 1
        if self._left < 0:
            raise self._error(node, f"more than {MAX_NODES} values (aliases counted each time they are used)")
        if len(path) > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)  # noqa: S101  (YAML has three kinds of nodes)
        return self._mapping(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Value:
        if node.tag in _TEXT_TAGS:
            return node.value
        if node.tag not in _SCALAR_TAGS:
            return self._fault(path, _tag_fault(node))
        try:  # not construct_object: it remembers every node that it could not construct
            return _as_in_json(yaml.SafeLoader.yaml_constructors[node.tag](_CONSTRUCT, node))
        except (ValueError, LookupError, yaml.YAMLError) as error:
            return self._fault(path, f"cannot read {node.value[:60]!r}: {error}")

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Value]:
        if node.tag != _CORE + "map":
            self._fault(path, _tag_fault(node))
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _CORE + "merge":
                self._fault(path, "mapping keys must be text (merge keys are not allowed)")
                continue
            key = str(key_node.value)
            if key in result:
                self._fault((*path, key), f"key {key!r} is already set in this mapping")
            else:
                result[key] = self.value(value_node, (*path, key))
        return result

    def _fault(self, path: FieldPath, message: str) -> None:
        self.faults.append(FieldError(path, message))

    def _error(self, node: yaml.Node, message: str) -> DocumentError:
        return DocumentError(message, self._line + node.start_mark.line)


def _as_in_json(value: Value) -> Value:
    """`2.0` is the integer 2, as it is for the API server; what a double cannot hold exactly stays as it is."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _tag_fault(node: yaml.Node) -> str:
    return f"YAML tag {node.tag.removeprefix(_CORE)!r} is not allowed"


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line, value
    return None
