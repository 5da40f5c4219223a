"""The compiler child: `python -m nodeagent.kernel.compiler DIR` prints bytecode as JSON.

The only module that imports bcc.  BCC turns only functions of the main file into programs and
resolves no includes of ours, so the sources are joined into one text; `#line` keeps the compiler's
messages pointing at the real files.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

from nodeagent.kernel.bpf_map import map_info
from nodeagent.kernel.bytecode import Bytecode, Program, map_references, to_json
from nodeagent.kernel.hooks import PROGRAMS

HEADERS = ("abi.h", "maps.h", "helpers.h", "flight.h", "gcra.h", "expiry.h", "judge.h")
_OWN_INCLUDE = re.compile(r'^#include "[^"/]+"$', re.MULTILINE)

INSTALL_HINT = "Install the distribution's package: apt-get install python3-bpfcc (the agent's Python must see it)."


class MissingCompilerError(Exception):
    """No usable bcc; the message says which kind of absence it is."""


def joined_source(directory: Path) -> str:
    """All sources as one text, headers first."""
    parts = []
    for name in (*HEADERS, *(program.source for program in PROGRAMS)):
        text = (directory / name).read_text()
        # only the lines themselves go, so that line numbers stay right
        parts.append(f'#line 1 "{name}"\n{_OWN_INCLUDE.sub("", text)}')
    return "\n".join(parts)


def _import_bcc() -> Any:
    try:
        import bcc
    except ModuleNotFoundError as error:
        raise MissingCompilerError(
            f"BCC is not installed, so the BPF programs cannot be compiled. {INSTALL_HINT}"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise MissingCompilerError(
            f"{bcc.__file__} is not BCC but an unrelated package of the same name from PyPI. "
            f"Remove it (pip uninstall bcc). {INSTALL_HINT}"
        )
    return bcc


def _table_names(lib: Any, module: int) -> dict[int, str]:
    """Descriptor -> name of every map that BCC made while compiling."""
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_num_tables.restype = ctypes.c_size_t
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_table_name.restype = ctypes.c_char_p
    names = [lib.bpf_table_name(module, i) for i in range(lib.bpf_num_tables(module))]
    return {lib.bpf_table_fd(module, name): name.decode() for name in names}


def compile_sources(directory: Path) -> Bytecode:
    """Compile, read back instructions and map declarations; nothing stays in the kernel."""
    bcc = _import_bcc()
    os.environ["BCC_KERNEL_SOURCE"] = str(directory)
    compiled = bcc.BPF(text=joined_source(directory), cflags=["-Wno-everything"])
    tables = _table_names(bcc.lib, compiled.module)
    programs = []
    for program in PROGRAMS:
        insns = compiled.dump_func(program.program)
        programs.append(Program(program.program, insns, map_references(insns, tables)))
    return Bytecode(tuple(programs), tuple(map_info(fd) for fd in tables))


def main(argv: list[str]) -> int:
    try:
        bytecode = compile_sources(Path(argv[1]).resolve())
    except MissingCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write(to_json(bytecode))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
