"""Compiled programs as plain data, and how the agent gets them: from a short-lived compiler child.

BCC keeps LLVM (more than 100 MB) mapped once it is imported, so only the child imports it; what comes back is
instructions with the places that refer to maps, and the maps' declarations.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodeagent.kernel import layout
from nodeagent.kernel.bpf_map import MapSpec

_INSN = struct.Struct("<BBhi")
INSN_SIZE = _INSN.size
_LD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1
COMPILE_TIMEOUT_S = 60


class CompileError(Exception):
    """The child could not compile; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """One function.  `relocations` are (byte offset of a 64-bit load, name of the map it loads)."""

    name: str
    insns: bytes
    relocations: tuple[tuple[int, str], ...]

    def linked(self, fds: Mapping[str, int]) -> bytes:
        """The instructions with the maps' descriptors filled in."""
        out = bytearray(self.insns)
        for offset, name in self.relocations:
            struct.pack_into("<i", out, offset + 4, fds[name])
        return bytes(out)


@dataclass(frozen=True, slots=True)
class Bytecode:
    programs: tuple[Program, ...]
    maps: tuple[MapSpec, ...]

    def program(self, name: str) -> Program:
        return next(program for program in self.programs if program.name == name)

    def spec(self, name: str) -> MapSpec:
        return next(spec for spec in self.maps if spec.name == name)


def map_references(insns: bytes, names: Mapping[int, str]) -> tuple[tuple[int, str], ...]:
    """Find the loads of map descriptors.  `names` tells which map a descriptor stood for at compile time."""
    found = []
    for offset in range(0, len(insns), _INSN.size):
        code, registers, _off, imm = _INSN.unpack_from(insns, offset)
        if code == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            found.append((offset, names[imm]))
    return tuple(found)


def to_json(bytecode: Bytecode) -> str:
    programs = [
        {"name": p.name, "insns": base64.b64encode(p.insns).decode(), "relocations": p.relocations}
        for p in bytecode.programs
    ]
    return json.dumps({"programs": programs, "maps": [asdict(spec) for spec in bytecode.maps]})


def from_json(text: str) -> Bytecode:
    data: dict[str, Any] = json.loads(text)
    programs = tuple(
        Program(p["name"], base64.b64decode(p["insns"]), tuple((offset, name) for offset, name in p["relocations"]))
        for p in data["programs"]
    )
    return Bytecode(programs, tuple(MapSpec(**spec) for spec in data["maps"]))


def compile_in_child(source_dir: Path | None = None) -> Bytecode:
    """Run the compiler child and return what it made.  CompileError with the compiler's words if it failed."""
    command = [sys.executable, "-m", "nodeagent.kernel.compiler", str(source_dir or layout.sources())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompileError(
            f"The BPF compiler did not finish within {COMPILE_TIMEOUT_S} s: is the node out of CPU time?"
        ) from error
    if done.returncode != 0:
        raise CompileError(done.stderr.strip() or f"the BPF compiler exited with status {done.returncode}")
    return from_json(done.stdout)
