"""Compiled programs on disk: written where there is a compiler, loaded where there is none.

On a Kubernetes node an init container compiles and the agent's image has neither BCC nor LLVM, so the two
may differ in version, and the file may outlive a kernel.  It says what it was made of and for, and a reader
takes it only if all of that is its own: a program that was loaded over maps of another layout would judge
connections by nonsense.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nodeagent.kernel import abi, layout
from nodeagent.kernel.bytecode import INSN_SIZE, Bytecode, from_json, to_json
from nodeagent.kernel.hooks import PROGRAMS

NAME = "bytecode.json"
FORMAT = "nodeagent-bytecode/1"
# Ours is a tenth of that: what is larger is something else, and is not read.
MAX_BYTES = 4 * 1024 * 1024


class BytecodeFileError(Exception):
    """The file cannot be used: what is wrong with it, why that matters and what to do."""

    def __init__(self, path: Path, wrong: str) -> None:
        self.what = f"the file of compiled BPF programs, {path}, {wrong}"
        self.why = "without them no pod can be redirected"
        self.fix = (
            f"nodeagent bpf compile --into {path.parent}, on this node and with this version (on Kubernetes the init "
            "container does it: both images have the same tag, and a pod that is deleted comes back with a new file)"
        )
        super().__init__(f"{self.what}: {self.why}. Fix: {self.fix}")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was made of and for: equal to the reader's own, or refused."""

    layout: int
    sources: str  # SHA-256 over the BPF sources
    kernel: str
    machine: str

    @classmethod
    def here(cls, sources: Path | None = None) -> Self:
        directory = sources or layout.sources()
        return cls(abi.LAYOUT_VERSION, sources_digest(directory), os.uname().release, platform.machine())

    def differences(self, wanted: Stamp) -> list[str]:
        mine, theirs = asdict(self), asdict(wanted)
        return [f"{_WORDS[name]} {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


_WORDS = {"layout": "map layout", "sources": "BPF sources with digest", "kernel": "Linux", "machine": "machine"}


def sources_digest(directory: Path) -> str:
    """Over names and texts of all C files: two versions of the project with the same programs may share a file."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.[ch]")):
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def save(directory: Path, bytecode: Bytecode, stamp: Stamp) -> Path:
    """Write the file whole or not at all."""
    text = to_json(bytecode)
    content = {"format": FORMAT, **asdict(stamp), "digest": _digest(text), "code": text}
    directory.mkdir(parents=True, exist_ok=True)
    path, unfinished = directory / NAME, directory / f".{NAME}.new"
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)
    return path


def load(directory: Path, stamp: Stamp) -> Bytecode:
    """The programs, if the file was made for `stamp`.  BytecodeFileError by name otherwise."""
    path = directory / NAME
    content = _content(path)
    _check_format(path, content)
    _check_digest(path, content)
    _check_stamp(path, content, stamp)
    bytecode = _decoded(path, content["code"])
    _check_code(path, bytecode)
    return bytecode


def _content(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BytecodeFileError(path, f"cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise BytecodeFileError(path, f"is larger than {MAX_BYTES} bytes, which no bytecode of ours is")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BytecodeFileError(path, f"is not JSON, so it is cut off or something else: {error}") from error
    if not isinstance(content, dict):
        raise BytecodeFileError(path, "holds no JSON object, so it is something else")
    return content


def _check_format(path: Path, content: Mapping[str, Any]) -> None:
    if content.get("format") != FORMAT:
        raise BytecodeFileError(path, f"has the format {content.get('format')!r}, and this version reads {FORMAT!r}")


def _check_digest(path: Path, content: Mapping[str, Any]) -> None:
    code = content.get("code")
    if not isinstance(code, str):
        raise BytecodeFileError(path, "has no code")
    if content.get("digest") != _digest(code):
        raise BytecodeFileError(path, "has been damaged: its digest is not that of its code")


def _check_stamp(path: Path, content: Mapping[str, Any], wanted: Stamp) -> None:
    fields = {name: content.get(name) for name in _WORDS}
    found = Stamp(**fields)  # type: ignore[arg-type]  # of any type: it is compared only
    different = found.differences(wanted)
    if different:
        raise BytecodeFileError(path, f"was made for {'; '.join(different)}")


def _decoded(path: Path, code: str) -> Bytecode:
    try:
        return from_json(code)
    except (ValueError, KeyError, TypeError) as error:
        raise BytecodeFileError(path, f"has code that this version cannot read: {error!r}") from error


def _check_code(path: Path, bytecode: Bytecode) -> None:
    """Each program is there, and every place that is to be filled in lies inside it and names a map of the file."""
    missing = {one.program for one in PROGRAMS} - {one.name for one in bytecode.programs}
    if missing:
        raise BytecodeFileError(path, f"lacks the programs {', '.join(sorted(missing))}")
    maps = {spec.name for spec in bytecode.maps}
    for program in bytecode.programs:
        size = len(program.insns)
        places = all(0 <= offset <= size - INSN_SIZE and name in maps for offset, name in program.relocations)
        if not size or size % INSN_SIZE or not places:
            what = f"has a program {program.name} that is no sequence of instructions over its maps"
            raise BytecodeFileError(path, what)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
