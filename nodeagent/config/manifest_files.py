"""One manifest file: bytes -> entries (one per object) and what is wrong with the file.

Pure: the caller reads the bytes.  An entry is either a resource or a list of errors; a document in
which not even the object's name can be read makes the file `incomplete`, and then nothing that this
file once defined may be taken for deleted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from nodeagent.config.acceptance import unsupported
from nodeagent.config.problems import FieldError, FieldPath, Problem, field_text
from nodeagent.config.reading import DEFAULT_NAMESPACE, read_resource
from nodeagent.config.resources import Identity, Resource
from nodeagent.config.schema import violations
from nodeagent.config.schemas import CLUSTER_SCOPED, NOT_READ, OUR_GROUPS, SCHEMAS
from nodeagent.config.yaml_documents import Document, DocumentError, Lines, read_documents

Value = dict[str, Any]
_VERSIONS = {kind: version for version, kind in reversed(SCHEMAS)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a file.  Exactly one of `resource` and `problems` is set."""

    identity: Identity
    document: int
    value: Value
    resource: Resource | None = None
    problems: tuple[Problem, ...] = ()
    reason: str = ""  # Invalid | UnsupportedValue


@dataclass(slots=True)
class ManifestFile:
    """What a file says now.  `incomplete`: something in it could not be read at all.

    `memo` is kept for `nodeagent.config.objects`: a file that does not change is worked through once.
    """

    name: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    incomplete: bool = False
    memo: object = field(default=None, compare=False, repr=False)


def read_manifest_file(name: str, data: bytes) -> ManifestFile:
    """Read a whole file; whatever is wrong ends up in the result, nothing is raised."""
    file = ManifestFile(name)
    try:
        documents = read_documents(data)
    except DocumentError as error:
        return unreadable(name, str(error))
    if not documents:
        return unreadable(
            name, "file holds no object; what it last defined stays in force (delete the file to remove it)"
        )
    reader = _Reader(file, data)
    for document in documents:
        reader.read(document)
    return file


def unreadable(name: str, message: str) -> ManifestFile:
    """A file of which nothing could be read."""
    return ManifestFile(name, problems=[Problem(name, 0, "", message)], incomplete=True)


def read_value(value: Value) -> tuple[Identity, Resource] | None:
    """An object kept from an earlier run, or None when it is not valid (any more)."""
    identity = _identity(value)
    schema = SCHEMAS.get((str(value.get("apiVersion")), str(value.get("kind"))))
    if identity is None or schema is None or violations(schema, value) or unsupported(identity.kind, value):
        return None
    return identity, read_resource(identity, value)


class _Reader:
    def __init__(self, file: ManifestFile, data: bytes) -> None:
        self._file = file
        self._data = data
        self._lines: Lines | None = None

    def read(self, document: Document) -> None:
        if document.error is not None:
            self._spoil(document, str(document.error), document.error.line)
            return
        reported: list[FieldError] = []
        for path, value in _objects(document.value, ()):
            faults = [fault for fault in document.faults if fault.path[: len(path)] == path]
            if self._object(document, path, value, [replace(f, path=f.path[len(path) :]) for f in faults]):
                reported += faults
        self._spoil_by(document, (), [fault for fault in document.faults if fault not in reported])

    def _object(self, document: Document, path: FieldPath, value: Any, faults: list[FieldError]) -> bool:
        """True when `faults` need no line of their own: an object of ours has them."""
        if not isinstance(value, dict):
            self._spoil(
                document,
                "expected a Kubernetes object (apiVersion, kind, metadata)",
                document.line,
                field_text(path),
            )
            return False
        version, kind = value.get("apiVersion"), value.get("kind")
        for name, given in (("apiVersion", version), ("kind", kind)):
            if not isinstance(given, str) or not given:
                self._spoil(document, "required value is missing", document.line, field_text((*path, name)))
                return False
        assert isinstance(version, str)  # noqa: S101  (checked in the loop)
        assert isinstance(kind, str)  # noqa: S101
        at = field_text((*path, "kind"))
        if (version, kind) in SCHEMAS:
            self._known(document, path, value, faults)
            return True
        if kind in _VERSIONS and _means_ours(version, _VERSIONS[kind]):
            message = f"no kind {kind} in {version}: expected {_VERSIONS[kind]}"
            self._wrong_version(document, path, value, message)
        elif meant := _meant_kind(version, kind):
            self._spoil(document, f'no kind {kind} in {version}; did you mean "{meant}"?', document.line, at)
        elif version.startswith(OUR_GROUPS):
            self._spoil_by(document, path, faults or self._faults(version, kind, value))
            message = f"kind {kind} of {version} is not read by this release: it has no effect"
            self._spoil(document, message, document.line, at)
        return False

    @staticmethod
    def _faults(version: str, kind: str, value: Value) -> list[FieldError]:
        schema = NOT_READ.get((version, kind))
        return violations(schema, value) if schema else []

    def _known(self, document: Document, path: FieldPath, value: Value, faults: list[FieldError]) -> None:
        identity = _identity(value)
        schema = SCHEMAS[value["apiVersion"], value["kind"]]
        errors = faults or violations(schema, value)
        reason = "UnsupportedValue" if all(error.beyond for error in errors) else "Invalid"
        if identity is None:
            self._spoil_by(document, path, errors)
            return
        errors = errors or unsupported(identity.kind, value)
        if errors:
            problems = tuple(self._problem(document, path, error, identity) for error in errors)
            self._file.entries.append(Entry(identity, document.index, value, None, problems, reason))
        else:
            self._file.entries.append(Entry(identity, document.index, value, read_resource(identity, value)))

    def _wrong_version(self, document: Document, path: FieldPath, value: Value, message: str) -> None:
        identity = _identity(value)
        error = FieldError(("apiVersion",), message)
        if identity is None:
            self._spoil_by(document, path, [error])
            return
        problem = self._problem(document, path, error, identity)
        self._file.entries.append(Entry(identity, document.index, value, None, (problem,), "Invalid"))

    def _spoil_by(self, document: Document, path: FieldPath, errors: list[FieldError]) -> None:
        for error in errors:
            self._file.problems.append(self._problem(document, path, error))
            self._file.incomplete = True

    def _spoil(self, document: Document, message: str, line: int, at: str = "") -> None:
        self._file.problems.append(Problem(self._file.name, document.index, at, message, line=line))
        self._file.incomplete = True

    def _problem(
        self, document: Document, prefix: FieldPath, error: FieldError, identity: Identity | None = None
    ) -> Problem:
        path = (*prefix, *error.path)
        self._lines = self._lines or Lines(self._data)
        line = self._lines.of(document.index, path)
        named = str(identity) if identity else ""
        return Problem(self._file.name, document.index, field_text(path), error.message, named, line)


def _means_ours(version: str, expected: str) -> bool:
    """Tell a wrong version or a misspelt group from another project's kind of the same name."""
    group, ours = version.rpartition("/")[0], expected.rpartition("/")[0]
    return group in ("", ours) or difflib.SequenceMatcher(None, group, ours).ratio() > 0.8


def _meant_kind(version: str, kind: str) -> str:
    """The kind of ours in this version whose name differs in case or by a letter or two; or ""."""
    known = [name for ours, name in SCHEMAS if ours == version]
    same = [name for name in known if name.lower() == kind.lower()]
    return next(iter(same or difflib.get_close_matches(kind, known, 1, 0.8)), "")


def _objects(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
    """The document itself, or the items of a List (as `kubectl get -o yaml` writes them)."""
    if not isinstance(value, dict) or value.get("kind") != "List":
        yield path, value
    elif isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield from _objects(item, (*path, "items", index))
    else:
        yield (*path, "items"), None  # a List without a list is no object either


def _identity(value: Value) -> Identity | None:
    metadata, kind = value.get("metadata"), value.get("kind")
    if not isinstance(metadata, dict) or not isinstance(kind, str):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name or not isinstance(namespace, str | None):
        return None
    return Identity(kind, "" if kind in CLUSTER_SCOPED else namespace or DEFAULT_NAMESPACE, name)
