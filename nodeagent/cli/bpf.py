"""`nodeagent bpf`: programs and maps, read from the pins, and the compiler; works without an agent."""

from __future__ import annotations

import os
from pathlib import Path

import click

from nodeagent.cli import options
from nodeagent.cli.errors import CliError, MissingError
from nodeagent.cli.instance import attached_hooks, pins
from nodeagent.cli.output import Column, Row, message, print_table, printed

PROGS = (
    Column("HOOK", "hook"),
    Column("PROGRAM", "name"),
    Column("ID", "id"),
    Column("ATTACHED", "attached"),
    Column("JITED BYTES", "jited"),
    Column("MAPS", "maps", wide=True),
)
MAPS = (
    Column("NAME", "name"),
    Column("TYPE", "type"),
    Column("ENTRIES", "entries"),
    Column("MAX", "max_entries"),
    Column("KEY BYTES", "key_size"),
    Column("VALUE BYTES", "value_size"),
)


@click.group()
def bpf() -> None:
    """Compile programs; look at programs and maps in the kernel. Works without an agent."""


@bpf.command(name="compile")
@click.option("--into", "directory", type=options.PATH, required=True, help="Directory for the compiled programs.")
def compile_programs(directory: Path) -> None:
    """Compile the BPF programs for this node's kernel; `nodeagent run --bytecode` loads them without a compiler."""
    from nodeagent.kernel import bytecode_file
    from nodeagent.kernel.bytecode import CompileError, compile_in_child

    stamp = bytecode_file.Stamp.here()
    try:
        code = compile_in_child()
        path = bytecode_file.save(directory, code, stamp)
    except CompileError as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"cannot write to --into {directory}: {error.strerror}; name a writable directory") from error
    message(f"compiled {len(code.programs)} programs over {len(code.maps)} maps for Linux {stamp.kernel} into {path}")


@bpf.command()
@options.output("table", "wide", "json", "yaml")
@options.no_headers
@options.bpffs
@options.run_dir
def progs(output: str, no_headers: bool, bpffs: Path, run_dir: Path) -> None:  # noqa: ARG001
    """List the hooks and their programs."""
    from nodeagent.kernel import bpf as kernel
    from nodeagent.kernel import syscall
    from nodeagent.kernel.hooks import HOOKS

    layout = pins(bpffs)
    attached = attached_hooks(layout)
    rows: list[Row] = []
    for hook in HOOKS:
        path = layout.prog(hook.program)
        if not path.exists():
            rows.append({"hook": hook.name, "name": hook.program, "id": 0, "attached": False, "jited": 0, "maps": 0})
            continue
        fd = syscall.obj_get(path)
        try:
            info = kernel.prog_info(fd)
        finally:
            os.close(fd)
        rows.append(
            {
                "hook": hook.name,
                "name": info.name,
                "id": info.prog_id,
                "attached": hook.name in attached,
                "jited": info.jited_size,
                "maps": len(info.map_ids),
            }
        )
    _show("programs", PROGS, rows, output, no_headers)


@bpf.command()
@options.output("table", "wide", "json", "yaml")
@options.no_headers
@options.bpffs
@options.run_dir
def maps(output: str, no_headers: bool, bpffs: Path, run_dir: Path) -> None:  # noqa: ARG001
    """List the maps and how full they are."""
    from nodeagent.kernel.bpf_map import MAP_TYPE_NAMES, Map
    from nodeagent.kernel.maps import Maps
    from nodeagent.metrics.reader import fill_of

    layout = pins(bpffs)
    rows: list[Row] = []
    with Maps(layout) as opened:
        for name in sorted(path.name for path in layout.maps.iterdir()):
            spec = opened.map(name).spec
            fill = fill_of(opened, name, Map.count)
            rows.append(
                {
                    "name": name,
                    "type": MAP_TYPE_NAMES.get(spec.map_type, spec.map_type),
                    "entries": fill.entries if fill else None,
                    "max_entries": fill.max_entries if fill else spec.max_entries,
                    "key_size": spec.key_size,
                    "value_size": spec.value_size,
                }
            )
    _show("maps", MAPS, rows, output, no_headers)


@bpf.group(name="map")
def one_map() -> None:
    """Look into one map."""


@one_map.command()
@click.argument("name")
@options.output("table", "json", "yaml")
@options.no_headers
@options.bpffs
@options.run_dir
def dump(name: str, output: str, no_headers: bool, bpffs: Path, run_dir: Path) -> None:  # noqa: ARG001
    """Print every entry of map NAME, decoded."""
    from nodeagent.cli.map_rows import rows_of
    from nodeagent.kernel.maps import Maps

    layout = pins(bpffs)
    known = sorted(path.name for path in layout.maps.iterdir())
    if name not in known:
        raise MissingError(f"no map {name!r}; there are {', '.join(known)}")
    with Maps(layout) as opened:
        rows = rows_of(opened, name)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    _show(name, tuple(Column(key.upper().replace("_", " "), key) for key in keys), rows, output, no_headers)


def _show(kind: str, columns: tuple[Column, ...], rows: list[Row], output: str, no_headers: bool) -> None:
    if printed({"version": "v1", "kind": kind, "items": rows}, output):
        return
    if not rows:
        message(f"{kind}: no entries")
    else:
        print_table(columns, rows, wide=output == "wide", headers=not no_headers)
